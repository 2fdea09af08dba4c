"""Many image files: which they are, and a look at each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bakit.data.parallel import in_threads
from bakit.errors import ImageError, InputError
from bakit.image.read import decode, pixel_digest
from bakit.types import silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.types import Grey, OnProgress

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")


class Unreadable(NamedTuple):
    """Why an image cannot be used."""

    reason: str


def unreadable(path: Path, error: ImageError) -> Unreadable:
    """Return an image's error without the path, with which its message begins."""
    return Unreadable(str(error).removeprefix(f"{path}: "))


def image_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are images by their suffix, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]


def look_at_images(
    paths: Sequence[Path],
    look: Callable[[Path, Grey], T],
    on_progress: OnProgress = silent,
    step: str = "images",
) -> list[T | Unreadable]:
    """Decode images, several at a time, and pass each to a function.

    Args:
        paths: Image files.
        look: Takes a file and its grey values ``(H, W)`` in 0..1; runs in several threads.
        on_progress: Called after each image.
        step: Name of the step.

    Returns:
        The function's results, or why an image cannot be used.
    """

    def one(path: Path) -> T | Unreadable:
        try:
            return look(path, decode(path))
        except ImageError as error:
            return unreadable(path, error)

    return list(track(in_threads(one, paths), step, on_progress, len(paths)))


def refuse_calibration_images(paths: Sequence[Path], bundles: Sequence[Bundle]) -> None:
    """Refuse to measure a bundle on the images that its INT8 ranges were gathered on.

    Images are compared by pixels. Those that cannot be read are ignored here.

    Raises:
        InputError: If an image is one of them.
    """
    seen = {digest: bundle for bundle in bundles for digest in bundle.manifest.calibration_images}
    if not seen:
        return
    length = len(next(iter(seen)))
    digests = look_at_images(paths, lambda _, grey: pixel_digest(grey))
    for path, digest in zip(paths, digests, strict=True):
        bundle = None if isinstance(digest, Unreadable) else seen.get(digest[:length])
        if bundle is not None:
            message = (
                f"{path}: {bundle.name} was calibrated on this image and would look better than "
                "it is; leave it out, or calibrate on others"
            )
            raise InputError(message)
