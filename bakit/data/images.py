"""List, decode and process many image files."""

from __future__ import annotations

import os
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
    from collections.abc import Callable, Sequence

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

    Hidden files and folders are left out (``is_hidden``, ``is_film``), and links to folders are not
    followed. What is no regular file is an image, too, if its name is one's; its reader reports it.

    Raises:
        InputError: If there is none.
        OSError: If a folder cannot be read.
    """
    found: list[Path] = []
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        paths = [Path(place, name) for name in sorted(files)]
        found += [path for path in paths if is_film(path.name, partial(head_of, path))]
    if not found:
        message = f"{folder}: no image in this folder; use PNG, JPEG or DICOM files"
        raise InputError(message)
    return found


def _raise(error: OSError) -> None:
    raise error


def is_film(name: str, head: Callable[[int], bytes]) -> bool:
    """Return whether a file is not hidden, and its suffix or first bytes are those of an image.

    Args:
        name: Its name, or its path in an archive.
        head: Returns at most so many of its first bytes; an ``OSError`` is left to the file's
            reader.
    """
    if is_hidden(name):
        return False
    try:
        return Path(name).suffix.lower() in SUFFIXES or is_dicom(head(_HEAD))
    except OSError:
        return True


def is_hidden(name: str) -> bool:
    """Return whether a file, or a folder in its path, is hidden, or it is the index DICOMDIR."""
    parts = Path(name).parts
    return "DICOMDIR" in parts[-1:] or any(p.startswith(".") and p != ".." for p in parts)


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
