"""Quality control of one radiograph: its measures, and the verdict of the checkpoint's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError
from bakit.quality.limits import HandScorer, Quality
from bakit.quality.measures import VECTOR, box_measures, hand_vector

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bakit.hand.found import Found, LocalizerOutput
    from bakit.quality.limits import QualityLimits
    from bakit.types import Bytes, Grey


class Judge:
    """Applies the limits of a checkpoint; without limits, nothing is rejected.

    Raises:
        InputError: If the limits are for another number of measures of a hand.
    """

    def __init__(self, limits: QualityLimits | None) -> None:
        size = VECTOR if limits is None else len(limits.hands.mean)
        if size != VECTOR:
            message = f"quality limits are for {size} measures of a hand; this bakit has {VECTOR}"
            raise InputError(message)
        self._limits = limits
        self._hands = None if limits is None else HandScorer(limits.hands)

    def measures(
        self, grey: Grey | Bytes, output: LocalizerOutput | None, found: Found, pixels: Grey
    ) -> dict[str, float]:
        """Return the measures that need no age, by name; empty without a hand.

        ``grey`` is the radiograph as for ``bakit.hand.prepare.prepare``, the others its results.
        """
        if output is None or found.box is None or found.scores is None:
            return {}
        scores = msgspec.to_builtins(found.scores)
        measures: dict[str, float] = scores | box_measures(grey, found.box)
        if self._hands is not None:
            measures |= self._hands.score(hand_vector(output, found.scores, pixels))
        return measures

    def age_measures(
        self, age_months: float, blank_months: Callable[[], float]
    ) -> dict[str, float]:
        """Return the measures of a predicted age.

        Args:
            age_months: The predicted age.
            blank_months: Returns the age predicted for a blank image; called only if needed.
        """
        if self._limits is None:
            return {}
        return {
            "age_months": age_months,
            "from_mean_months": abs(age_months - self._limits.mean_months),
            "from_blank_months": abs(age_months - blank_months()),
        }

    def judge(
        self, found: Found, measures: Mapping[str, float], doubts: tuple[str, ...] = ()
    ) -> Quality:
        """Return whether the radiograph can be used, and the reasons against it.

        ``doubts`` are codes from the file's header; they mean review.
        """
        if self._limits is None:  # without limits nothing is rejected
            reasons = (*found.reasons, *doubts)
            return Quality("review" if reasons else "accept", reasons)
        known = [code for code in found.reasons if code in {"no_hand_found", "inverted"}]
        return self._limits.judge(measures, (*known, *doubts))
