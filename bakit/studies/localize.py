"""Localize the hand in image files, with a bundle's localizer or a shipped one."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

import cv2

from bakit.errors import BakitError, InputError
from bakit.files import write_file
from bakit.hand.found import Found
from bakit.hand.overlay import draw_overlay
from bakit.hand.prepare import Hand, crop, localize
from bakit.hand.weights import get_localizer
from bakit.image.read import decode
from bakit.runtime import Runtime
from bakit.settings import Preprocessing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bakit.hand.found import Localization


def localize_files(
    images: Sequence[Path],
    *,
    method: str = "student",
    bundle: Path | None = None,
    overlay: Path | None = None,
    threads: int | None = None,
) -> Iterator[tuple[Path, Localization | BakitError]]:
    """Localize the hand in each image; an image that cannot be used gives its error.

    Args:
        images: Image files.
        method: ``student``, ``unrolled``, or a file of ``bakit distill``.
        bundle: Bundle whose localizer to use instead.
        overlay: Output folder for the overlays, ``<stem>.png``.
        threads: Threads of the backend.

    Raises:
        BakitError: If the localizer cannot be opened, two overlays would have the same name, or an
            overlay would overwrite an image.
    """
    stems = [image.stem for image in images]
    twice = next((stem for stem in stems if overlay and stems.count(stem) > 1), None)
    if twice is not None:
        message = f"--overlay: two images are named {twice!r}; use a folder for each"
        raise InputError(message)
    pictures = {(overlay / f"{stem}.png").resolve() for stem in stems} if overlay else set()
    lost = next((image for image in images if image.resolve() in pictures), None)
    if lost is not None:
        message = f"--overlay: would overwrite the image {lost}; choose another folder"
        raise InputError(message)
    with ExitStack() as stack:
        preprocessing = Preprocessing()
        if bundle is not None:
            runtime = stack.enter_context(Runtime(bundle, threads))
            localizer = runtime.localizer
            preprocessing = runtime.bundle.manifest.preprocessing
        else:
            from bakit.export.onnx.localizer import open_localizer  # noqa: PLC0415  # needs onnx

            chosen = get_localizer(method)
            localizer = open_localizer(chosen.weights, chosen.settings, threads)
        for image in images:
            try:
                grey = decode(image)
            except BakitError as error:
                yield image, error
                continue
            seen, place = localize(grey, localizer)
            if overlay is not None:
                found = Found(place.box, place.reasons, place.scores, place.turn)
                pixels = crop(grey, found.box, found.inverted, preprocessing, found.turn)
                picture = cv2.imencode(".png", draw_overlay(grey, Hand(pixels, found, seen)))[1]
                write_file(overlay / f"{image.stem}.png", picture.tobytes())
            yield image, place
