"""Many image files: which they are, and a look at each of them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from bakit.errors import ImageError, InputError
from bakit.image.read import decode, pixel_digest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.types import Grey

T = TypeVar("T")

SUFFIXES = (".png", ".jpg", ".jpeg", ".dcm")
MAX_THREADS = 8
"""Images decoded at a time: each takes some 60 MB at the largest sizes."""


class Unreadable(NamedTuple):
    """Why an image cannot be used."""

    reason: str


def image_files(folder: Path) -> list[Path]:
    """Return the files of a folder that are images by their suffix, sorted by name."""
    return [path for path in sorted(folder.iterdir()) if path.suffix.lower() in SUFFIXES]


def look_at_images(
    paths: Sequence[Path],
    look: Callable[[Path, Grey], T],
    on_image: Callable[[int], None] = lambda _: None,
) -> list[T | Unreadable]:
    """Decode images, several at a time, and hand each to a function.

    Args:
        paths: Image files.
        look: Takes a file and its grey values ``(H, W)`` in 0..1; runs in several threads.
        on_image: Called with the number of images done since the last call.

    Returns:
        What the function said of each image, or why the image cannot be used.
    """

    def one(path: Path) -> T | Unreadable:
        try:
            grey = decode(path)
        except ImageError as error:
            return Unreadable(str(error).removeprefix(f"{path}: "))
        return look(path, grey)

    outcomes: list[T | Unreadable] = []
    # Threads are enough: OpenCV lets other threads run while it decodes.
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MAX_THREADS)) as pool:
        try:
            for outcome in pool.map(one, paths):
                outcomes.append(outcome)
                on_image(1)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # Ctrl-C must not wait for the rest
            raise
    return outcomes


def refuse_calibration_images(paths: Sequence[Path], bundles: Sequence[Bundle]) -> None:
    """Refuse to measure a bundle on the images that its INT8 ranges were gathered on.

    Images are known by their pixels, whatever their file is called. Those that cannot be read are
    left to whoever uses them.

    Raises:
        InputError: If an image is one of them.
    """
    seen = {digest: bundle for bundle in bundles for digest in bundle.manifest.calibration_images}
    if not seen:
        return
    length = len(next(iter(seen)))
    for path, digest in zip(paths, look_at_images(paths, _digest), strict=True):
        bundle = None if isinstance(digest, Unreadable) else seen.get(digest[:length])
        if bundle is not None:
            message = (
                f"{path}: {bundle.name} was calibrated on this image and would look better than "
                "it is; leave it out, or calibrate on others"
            )
            raise InputError(message)


def _digest(path: Path, grey: Grey) -> str:
    del path
    return pixel_digest(grey)
