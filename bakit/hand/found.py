"""Results of the localization: candidate regions, the chosen box, and the reasons to doubt it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bakit.image.box import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bakit.types import Grey, Mask


class Scores(msgspec.Struct, frozen=True):
    """Quality of a box.

    Attributes:
        confidence: 0..1. Student: mean probability of the hand's pixels. Unrolled localizer: how
            much the region looks like a hand (``bakit.hand.regions``); good hands have 0.1 to 0.6.
        second: Area of the next candidate region, as a share of the first's.
        border: Length of the hand's contact with the image border, as a share of the image's side.
            The forearm is not counted: it leaves the image once, over at most half a side.
        agreement: Overlap (IoU) with a second method, Otsu's threshold.
        contrast: Mean grey of the hand minus that of its surroundings, -1..1; negative: inverted.
    """

    confidence: float
    second: float
    border: float
    agreement: float
    contrast: float


class Place(NamedTuple):
    """Position, polarity and turn of a hand: the inputs of a crop."""

    box: Box | None  # in pixels of the radiograph; None for the whole radiograph
    inverted: bool = False  # whether bones are dark
    turn: int = 0  # anticlockwise quarter turns that make the hand upright


class Found(NamedTuple):
    """The hand's box and the reasons to doubt it.

    Attributes:
        box: The hand, in pixels of the image; None if there is none.
        reasons: Codes: ``no_hand_found``, ``two_hands``, ``hand_cut_off``, ``turned``,
            ``methods_disagree``, ``inverted``.
        scores: Numbers that the reasons follow from; None without a hand.
        turn: Anticlockwise quarter turns that make the hand upright, 0 to 3.
    """

    box: Box | None
    reasons: tuple[str, ...] = ()
    scores: Scores | None = None
    turn: int = 0

    @property
    def inverted(self) -> bool:
        """Whether the hand is darker than its surroundings."""
        return "inverted" in self.reasons

    @property
    def place(self) -> Place:
        """Box, polarity and turn."""
        return Place(self.box, self.inverted, self.turn)


NOT_FOUND = Found(None, ("no_hand_found",))


class Region(NamedTuple):
    """A region that may be the hand."""

    mask: Mask  # (S, S), in pixels of the localizer's input
    score: float  # 0..1, higher is better


class LocalizerOutput(NamedTuple):
    """Input and output of a localizer for one radiograph, and the candidate regions.

    Attributes:
        working: ``(S, S)``, the localizer's input.
        output: ``(S, S)``: labels (int32), or probabilities (float32).
        regions: The candidates, best first.
        window: The part of the radiograph that ``working`` shows, in pixels: without frames, or
            with air around it; None for the whole radiograph.
        field: The exposed field in pixels of ``working``; None for all of it.
        frame: The radiograph without its frames, in pixels; None if it is not known.
    """

    working: Grey
    output: npt.NDArray[np.generic]
    regions: list[Region]
    window: Box | None = None
    field: Box | None = None
    frame: Box | None = None


class Localization(msgspec.Struct, frozen=True):
    """The hand's box, the method and its time.

    Attributes:
        box: The hand, in pixels of the image; None if none was found.
        method: Localizer that was used: ``student`` or ``unrolled``.
        ms: Time of the localizer and the choice of the hand.
        reasons: Reasons to doubt the box, as codes (``bakit.hand.found.Found``).
        scores: Numbers that the reasons follow from; None without a hand.
        turn: Anticlockwise quarter turns that make the hand upright, 0 to 3.
    """

    box: Box | None
    method: str
    ms: float
    reasons: tuple[str, ...] = ()
    scores: Scores | None = None
    turn: int = 0
