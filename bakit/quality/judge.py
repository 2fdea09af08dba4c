"""Judge one film: what is measured on it, and the verdict of the checkpoint's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.quality.limits import HandScorer, Quality
from bakit.quality.measures import box_measures, hand_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bakit.hand.found import Found, Seen
    from bakit.quality.limits import QualityLimits
    from bakit.types import Bytes, Grey


class Judge:
    """The limits of a checkpoint, ready to be applied.

    Args:
        limits: The limits; None if the checkpoint has none: then nothing is rejected.
    """

    def __init__(self, limits: QualityLimits | None) -> None:
        self._limits = limits
        self._hands = None if limits is None else HandScorer(limits.hands)

    def measures(
        self, grey: Grey | Bytes, seen: Seen | None, found: Found, pixels: Grey
    ) -> dict[str, float]:
        """Return what can be measured before the age is known; nothing without a hand.

        Args:
            grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
            seen: What the localizer made of it.
            found: The hand.
            pixels: ``(S, S)`` float32, the regressor's input.
        """
        if seen is None or found.box is None or found.scores is None:
            return {}
        scores = msgspec.to_builtins(found.scores)
        measures: dict[str, float] = scores | box_measures(grey, found.box)
        if self._hands is not None:
            measures |= self._hands.score(hand_vector(seen, found.scores, pixels))
        return measures

    def age_measures(
        self, age_months: float, blank_months: Callable[[], float]
    ) -> dict[str, float]:
        """Return what the age itself tells about the answer.

        Args:
            age_months: The predicted age.
            blank_months: Returns the age that is predicted for a blank image; called if needed.
        """
        if self._limits is None:
            return {}
        return {
            "age_months": age_months,
            "from_mean_months": abs(age_months - self._limits.mean_months),
            "from_blank_months": abs(age_months - blank_months()),
        }

    def judge(self, found: Found, measures: Mapping[str, float]) -> Quality:
        """Return whether the film can be used, and why not."""
        if self._limits is None:  # nothing was learned that could reject an image
            return Quality("review" if found.reasons else "accept", found.reasons)
        known = [code for code in found.reasons if code in {"no_hand_found", "inverted"}]
        return self._limits.judge(measures, known)
