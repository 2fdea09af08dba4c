"""The only way from grey values to the regressor's input: locate, correct the polarity, crop.

The runtime, golden records, calibration, training, verification, benchmarks and quality studies all
call this module; an import contract forbids them its parts. So an inverted radiograph is treated
the same way everywhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.errors import ImageError
from bakit.hand.found import Found, Localization
from bakit.hand.locate import choose_hand, run_localizer
from bakit.hand.weights import method_of
from bakit.image.equalize import levels
from bakit.image.resize import resize

if TYPE_CHECKING:
    from bakit.hand.found import LocalizerOutput
    from bakit.image.box import Box
    from bakit.session import Session
    from bakit.settings import LocalizerSettings, Preprocessing
    from bakit.types import Bytes, Grey


class OpenLocalizer(NamedTuple):
    """A localizer that is open on this machine, with its settings."""

    session: Session
    settings: LocalizerSettings


class Hand(NamedTuple):
    """A radiograph, prepared for the regressor."""

    pixels: Grey  # (S, S), multiples of 1/255: the regressor's input
    found: Found  # box, polarity, and the reasons to doubt them
    localizer_output: LocalizerOutput | None  # None if hands are not localized

    @property
    def box(self) -> Box | None:
        """The hand, in pixels of the radiograph; None if the whole radiograph was used."""
        return self.found.box

    @property
    def inverted(self) -> bool:
        """Whether bones were dark; in ``pixels`` they are bright."""
        return self.found.inverted


def prepare(grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing) -> Hand:
    """Locate the hand, correct its polarity and crop it.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        localizer: The localizer.
        preprocessing: Whether hands are localized; margin, equalization and size of the crop.
    """
    output, found = find(grey, localizer, preprocessing)
    return Hand(crop(grey, found.box, found.inverted, preprocessing), found, output)


def find(
    grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing
) -> tuple[LocalizerOutput | None, Found]:
    """Locate the hand without cropping it; arguments as for ``prepare``.

    Both results are empty if hands are not localized.
    """
    return _localized(grey, localizer) if preprocessing.localize else (None, Found(None))


def _localized(grey: Grey | Bytes, localizer: OpenLocalizer) -> tuple[LocalizerOutput, Found]:
    output = run_localizer(grey, *localizer)
    return output, choose_hand(output, (grey.shape[0], grey.shape[1]))


def localize(grey: Grey | Bytes, localizer: OpenLocalizer) -> tuple[LocalizerOutput, Localization]:
    """Locate the hand and measure the time; arguments as for ``prepare``."""
    started = time.perf_counter()
    output, found = _localized(grey, localizer)
    ms = (time.perf_counter() - started) * 1000
    return output, Localization(found.box, method_of(localizer.settings), ms, *found[1:])


def crop(grey: Grey | Bytes, box: Box | None, inverted: bool, preprocessing: Preprocessing) -> Grey:
    """Return the regressor's input: crop, equalize, resize to a square.

    The crop ends at the radiograph's edges and loses its aspect ratio, as the paper's does.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        box: The hand, in pixels of ``grey``; None for the whole radiograph.
        inverted: Whether bones are dark; they become bright.
        preprocessing: Margin, equalization and size.

    Returns:
        ``(S, S)`` float32, multiples of 1/255 in 0..1.

    Raises:
        ImageError: If the box contains no pixel of the radiograph.
    """
    if box is not None:
        box = box.expand(preprocessing.margin, grey.shape[1], grey.shape[0])
        if not box.area:
            size = f"{grey.shape[1]}x{grey.shape[0]}"
            message = f"the box {tuple(box)} contains no pixel of a {size} image"
            raise ImageError(message)
        grey = grey[box.y0 : box.y1, box.x0 : box.x1]
    evened = levels(grey, equalize=preprocessing.equalize, inverted=inverted)
    return from_bytes(resize(evened, preprocessing.image_size))


def to_bytes(pixels: Grey) -> Bytes:
    """Return the regressor's input as uint8: exact, since it is multiples of 1/255."""
    return np.rint(pixels * 255).astype(np.uint8)


def from_bytes(pixels: Bytes) -> Grey:
    """Return uint8 as the regressor's input, float32 in 0..1."""
    scaled: Grey = pixels.astype(np.float32) / np.float32(255)
    return scaled
