"""What is known of a hand in a film."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bakit.image.box import Box

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from bakit.types import Grey, Mask


class Scores(msgspec.Struct, frozen=True):
    """What is known about the quality of a box.

    Attributes:
        confidence: 0..1. Of the student: how sure it is of the hand's pixels. Of the others: how
            much the region looks like a hand (``bakit.hand.regions``); a good one has 0.1 to 0.6.
        second: Area of the next region that may be a hand, as a share of the first's.
        border: Share of the image's side along which the hand touches the border elsewhere than
            a forearm does, which leaves the image once and is no wider than half of it.
        agreement: Overlap (IoU) with a cheap second opinion, Otsu's threshold.
        contrast: How much brighter than its surroundings it is, -1..1; negative: inverted.
    """

    confidence: float
    second: float
    border: float
    agreement: float
    contrast: float


class Place(NamedTuple):
    """What a crop needs to know of a hand.

    Attributes:
        box: The hand, in pixels of the film; None for the whole film.
        inverted: Whether its bones are dark.
    """

    box: Box | None
    inverted: bool = False


class Found(NamedTuple):
    """Where the hand is, and what speaks against it.

    Attributes:
        box: The hand, in pixels of the image; None if there is none.
        reasons: Codes: ``no_hand_found``, ``two_hands``, ``hand_cut_off``, ``methods_disagree``,
            ``inverted``.
        scores: What the reasons rest on; None without a hand.
    """

    box: Box | None
    reasons: tuple[str, ...] = ()
    scores: Scores | None = None

    @property
    def inverted(self) -> bool:
        """Whether the hand is darker than what is around it."""
        return "inverted" in self.reasons

    @property
    def place(self) -> Place:
        """What a crop needs to know."""
        return Place(self.box, self.inverted)


class Seen(NamedTuple):
    """What a localizer made of the working image.

    Attributes:
        working: ``(S, S)`` float32 in 0..1, what it was shown.
        output: ``(S, S)``, its labels (int32) or the student's certainty (float32).
        regions: ``(S, S)`` masks that may be the hand, best first, with a score each.
    """

    working: Grey
    output: npt.NDArray[np.generic]
    regions: list[tuple[Mask, float]]


class Localization(msgspec.Struct, frozen=True):
    """Where the hand is.

    Attributes:
        box: The hand, in pixels of the image; None if none was found.
        method: How it was looked for.
        ms: Time of the localizer and the choice of the hand.
        reasons: What speaks against the box, as codes (``bakit.hand.found.Found``).
        scores: What the reasons rest on; None without a hand.
    """

    box: Box | None
    method: str
    ms: float
    reasons: tuple[str, ...] = ()
    scores: Scores | None = None

    def moved(self, box: Box) -> Localization:
        """Return the same with another box, such as that of the mirrored image."""
        return msgspec.structs.replace(self, box=box)


NOTHING = Found(None, ("no_hand_found",))
