"""List, decode and process many image files."""

from __future__ import annotations

import os
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bakit.data.overlap import shared_ids
from bakit.data.parallel import in_threads
from bakit.errors import ImageError, InputError
from bakit.files import open_regular
from bakit.image.bounds import is_dicom
from bakit.image.read import decode, pixel_digest
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import Grey, OnProgress

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
_HEAD = 144
"""Bytes that show whether a file is DICOM."""


class Unreadable(NamedTuple):
    """The reason why an image cannot be used."""

    reason: str


def unreadable(path: Path, error: ImageError) -> Unreadable:
    """Return the reason of an image's error, without the path."""
    return Unreadable(str(error).removeprefix(f"{path}: "))


def image_files(folder: Path) -> list[Path]:
    """Return the files of a folder with an image suffix, sorted by name; no hidden ones."""
    files = sorted(path for path in folder.iterdir() if not path.name.startswith("."))
    return [path for path in files if path.suffix.lower() in SUFFIXES]


def images_below(folder: Path) -> list[Path]:
    """Return the images below a folder: first its own by name, then those of each folder in it.

    Hidden files are left out (``is_film``). What is no regular file is an image, too, if its name
    is one's; its reader reports it.

    Raises:
        InputError: If there is none.
        OSError: If a folder cannot be read.
    """
    paths = files_below(folder, _raise, Counter())
    found = [path for path in paths if is_film(path.name, partial(head_of, path))]
    if not found:
        message = f"{folder}: no image in this folder; use PNG, JPEG or DICOM files"
        raise InputError(message)
    return found


def _raise(error: OSError) -> None:
    raise error


def files_below(
    top: Path, on_error: Callable[[OSError], None], ignored: Counter[str]
) -> Iterator[Path]:
    """Yield the files below a folder: first its own by name, then those of each folder in it.

    Links to folders are followed, each folder is read once; hidden ones are counted in ``ignored``.
    ``on_error`` gets the error of a folder that cannot be read, with its name.
    """
    seen: set[tuple[int, int]] = set()
    for place, folders, files in os.walk(top, onerror=on_error, followlinks=True):
        try:
            state = Path(place).stat()
        except OSError as error:  # it has gone meanwhile
            on_error(error)
            folders.clear()
            continue
        if (state.st_dev, state.st_ino) in seen:  # by a link, which may be a loop
            folders.clear()
            continue
        seen.add((state.st_dev, state.st_ino))
        shown = sorted(name for name in folders if not is_hidden(name))  # not .snapshot
        ignored["hidden folder"] += len(folders) - len(shown)
        folders[:] = shown
        yield from (Path(place, name) for name in sorted(files))


def is_film(name: str, head: Callable[[int], bytes]) -> bool:
    """Return whether a file is not hidden, and its suffix or first bytes are those of an image.

    Args:
        name: Its name, or its path in an archive.
        head: Returns at most so many of its first bytes; an error is left to the file's reader.
    """
    if is_hidden(name):
        return False
    try:
        return Path(name).suffix.lower() in SUFFIXES or is_dicom(head(_HEAD))
    except Exception:  # of a file system, an archive or a library of URLs
        return True


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder in its path, is hidden, or it is the index DICOMDIR."""
    path = Path(name)
    hidden = any(part.startswith(".") and part != ".." for part in path.parts)
    return hidden or path.name.upper() == "DICOMDIR"


def head_of(path: Path, size: int) -> bytes:
    """Return the first bytes of a regular file.

    Raises:
        OSError: If it is something else, or cannot be read.
    """
    with open_regular(path) as file:
        return file.read(size)


def look_at_images(
    paths: Sequence[Path],
    look: Callable[[Path, Grey], T],
    on_progress: OnProgress = silent,
    step: str = "images",
) -> list[T | Unreadable]:
    """Decode images in several threads and pass each to a function.

    ``look`` gets a file and its grey values ``(H, W)`` in 0..1, in several threads.

    Returns:
        For each image, the function's result or the reason why the image cannot be used.
    """

    def one(path: Path) -> T | Unreadable:
        try:
            return look(path, decode(path))
        except ImageError as error:
            return unreadable(path, error)

    return list(track(in_threads(one, paths), step, on_progress, len(paths)))


def refuse_calibration_images(samples: Sequence[Sample], bundles: Sequence[Bundle]) -> None:
    """Check that no image is in the calibration set of a bundle.

    Images are compared by id (``bakit.data.overlap``) and by pixels; unreadable images are ignored.

    Raises:
        InputError: If an image is in a calibration set.
    """
    for bundle in bundles:
        ids = shared_ids(samples, bundle.manifest.calibration_ids)
        for sample in samples:
            if sample.id in ids:
                raise _calibrated(sample.path, bundle)
    seen = {digest: bundle for bundle in bundles for digest in bundle.manifest.calibration_images}
    if not seen:
        return
    length = len(next(iter(seen)))
    paths = [sample.path for sample in samples]
    digests = look_at_images(paths, lambda _, grey: pixel_digest(grey))
    for path, digest in zip(paths, digests, strict=True):
        found = None if isinstance(digest, Unreadable) else seen.get(digest[:length])
        if found is not None:
            raise _calibrated(path, found)


def _calibrated(path: Path, bundle: Bundle) -> InputError:
    return InputError(
        f"{path}: {bundle.name} was calibrated on this image, so its error would be too "
        "low; remove the image, or calibrate on other images"
    )
