"""The only way from a film's grey values to the regressor's input: locate, set upright grey, crop.

The runtime, golden records, calibration, training, verification, benchmarks and quality studies all
call this module; an import contract keeps them from its parts. So an inverted film is read the same
way everywhere.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.errors import ImageError
from bakit.hand.found import Found, Localization, Seen
from bakit.hand.locate import choose, look
from bakit.hand.weights import method_of
from bakit.image.equalize import levels
from bakit.image.resize import resize

if TYPE_CHECKING:
    from bakit.image.box import Box
    from bakit.session import Session
    from bakit.settings import LocalizerSettings, Preprocessing
    from bakit.types import Bytes, Grey


class OpenLocalizer(NamedTuple):
    """A localizer that is open on this machine.

    Attributes:
        session: Runs it.
        settings: Its settings.
    """

    session: Session
    settings: LocalizerSettings


class Hand(NamedTuple):
    """A film, prepared for the regressor.

    Attributes:
        pixels: ``(S, S)`` float32, multiples of 1/255 in 0..1: the regressor's input.
        found: Box, polarity, and the reasons to doubt them.
        seen: What the localizer made of the film; None if hands are not localized.
    """

    pixels: Grey
    found: Found
    seen: Seen | None

    @property
    def box(self) -> Box | None:
        """The hand, in pixels of the film; None if none was found: then all of it was used."""
        return self.found.box

    @property
    def inverted(self) -> bool:
        """Whether bones were dark and have been made bright."""
        return self.found.inverted


def prepare(grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing) -> Hand:
    """Locate the hand, correct its polarity and crop it.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        localizer: Finds the hand.
        preprocessing: Whether hands are localized; margin, equalization and size of the crop.
    """
    seen, found = find(grey, localizer, preprocessing)
    return Hand(crop(grey, found.box, found.inverted, preprocessing), found, seen)


def find(
    grey: Grey | Bytes, localizer: OpenLocalizer, preprocessing: Preprocessing
) -> tuple[Seen | None, Found]:
    """Locate the hand without cropping it; nothing is found if hands are not localized.

    Args:
        grey: As for ``prepare``.
        localizer: Finds the hand.
        preprocessing: Whether hands are localized.
    """
    if not preprocessing.localize:
        return None, Found(None)
    seen = look(grey, *localizer)
    return seen, choose(seen, (grey.shape[0], grey.shape[1]))


def localize(grey: Grey | Bytes, localizer: OpenLocalizer) -> tuple[Seen, Localization]:
    """Locate the hand and measure the time.

    Args:
        grey: As for ``prepare``.
        localizer: Finds the hand.

    Returns:
        What the localizer made of the film, and where the hand is.
    """
    started = time.perf_counter()
    seen = look(grey, *localizer)
    found = choose(seen, (grey.shape[0], grey.shape[1]))
    ms = (time.perf_counter() - started) * 1000
    return seen, Localization(found.box, method_of(localizer.settings), ms, *found[1:])


def crop(grey: Grey | Bytes, box: Box | None, inverted: bool, preprocessing: Preprocessing) -> Grey:
    """Return the regressor's input: crop, equalize, resize to a square.

    The crop ends at the film's edges and loses its aspect ratio, as the paper's does.

    Args:
        grey: ``(H, W)`` in 0..1, or 255 times that as uint8.
        box: The hand, in pixels of ``grey``; None for the whole film.
        inverted: Whether bones are dark; they are made bright.
        preprocessing: Margin, equalization and size.

    Returns:
        ``(S, S)`` float32, multiples of 1/255 in 0..1.

    Raises:
        ImageError: If the box holds no pixel of the film.
    """
    if box is not None:
        box = box.expand(preprocessing.margin, grey.shape[1], grey.shape[0])
        if not box.area:
            size = f"{grey.shape[1]}x{grey.shape[0]}"
            message = f"the box {tuple(box)} holds no pixel of a {size} image"
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
