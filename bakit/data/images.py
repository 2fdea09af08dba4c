"""List, decode and process many image files."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bakit.data.overlap import shared_ids
from bakit.data.parallel import in_threads
from bakit.errors import ImageError, InputError
from bakit.image.bounds import DICOM, is_dicom
from bakit.image.read import decode, pixel_digest
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import Grey, OnProgress

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")


class Unreadable(NamedTuple):
    """The reason why an image cannot be used."""

    reason: str


def unreadable(path: Path, error: ImageError) -> Unreadable:
    """Return the reason of an image's error, without the path."""
    return Unreadable(str(error).removeprefix(f"{path}: "))


def image_files(folder: Path) -> list[Path]:
    """Return the files of a folder with an image suffix, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]


def images_below(folder: Path) -> list[Path]:
    """Return the images in a folder and the folders below it, sorted by path.

    An image has an image suffix, or no suffix and a DICOM file's mark. Hidden files are left out.

    Raises:
        InputError: If there is none.
    """
    found = [
        path
        for path in sorted(folder.rglob("*"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
        and (path.suffix.lower() in SUFFIXES or (not path.suffix and _is_dicom_file(path)))
    ]
    if not found:
        message = f"{folder}: no image in this folder; use PNG, JPEG or DICOM files"
        raise InputError(message)
    return found


def _is_dicom_file(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_dicom(file.read(DICOM.stop))
    except OSError:
        return True  # it is reported when it is read


def look_at_images(
    paths: Sequence[Path],
    look: Callable[[Path, Grey], T],
    on_progress: OnProgress = silent,
    step: str = "images",
) -> list[T | Unreadable]:
    """Decode images in several threads and pass each to a function.

    Args:
        paths: Image files.
        look: Called with a file and its grey values ``(H, W)`` in 0..1, in several threads.
        on_progress: Called after each image.
        step: Name of the step.

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
