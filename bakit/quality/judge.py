"""Quality control of one radiograph: its measures, and the verdict of the checkpoint's limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.errors import InputError
from bakit.image.header import ADULT_MONTHS
from bakit.quality.limits import Quality, detect
from bakit.quality.measures import VECTOR, hand_measures

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bakit.hand.found import Found, LocalizerOutput
    from bakit.quality.limits import QualityLimits
    from bakit.types import Bytes, Grey


CHILD_MONTHS = (1.0, ADULT_MONTHS)
"""Patient's ages that need no review: from the youngest trained one up to an adult's."""

_NEAR_MONTHS = 1.0


def from_constants(
    age: float, mean: float, blank: float, other: Callable[[], float]
) -> dict[str, float]:
    """Return how far an age is from the training mean and from the age without an image.

    A hand may have exactly that age. If it does, its age upside down differs, unless the model
    ignores the image; the larger of both distances counts.
    """
    distances = {"from_mean_months": abs(age - mean), "from_blank_months": abs(age - blank)}
    if min(distances.values()) < _NEAR_MONTHS:
        second = other()
        for name, constant in (("from_mean_months", mean), ("from_blank_months", blank)):
            distances[name] = max(distances[name], abs(second - constant))
    return distances


class Judge:
    """Applies the limits of a checkpoint; without limits, nothing is rejected.

    Raises:
        InputError: If the limits are those of another version.
    """

    def __init__(self, limits: QualityLimits | None) -> None:
        if limits and {len(row) for row in limits.detectors.values()} != {VECTOR + 1}:
            message = "quality limits of another version of bakit; fit them again (bakit quality), "
            message += "or export the shipped checkpoint again"
            raise InputError(message)
        self._limits = limits

    def measures(
        self, grey: Grey | Bytes, output: LocalizerOutput | None, found: Found, pixels: Grey
    ) -> dict[str, float]:
        """Return the measures that need no age, by name; empty without a hand.

        ``grey`` is the radiograph as for ``bakit.hand.prepare.prepare``, the others its results.
        """
        measures, vector = hand_measures(grey, output, found, pixels)
        if vector is not None and self._limits is not None:
            measures |= detect(self._limits.detectors, vector)
        return measures

    def age_measures(
        self,
        age_months: float,
        blank_months: Callable[[], float],
        other_months: Callable[[], float],
    ) -> dict[str, float]:
        """Return the measures of a predicted age.

        Args:
            age_months: The predicted age.
            blank_months: Returns the age predicted for a blank image; called only if needed.
            other_months: Returns the age predicted for the hand upside down; called only if needed.
        """
        if self._limits is None:
            return {}
        return {"age_months": age_months} | from_constants(
            age_months, self._limits.mean_months, blank_months(), other_months
        )

    def judge(
        self, found: Found, measures: Mapping[str, float], doubts: tuple[str, ...] = ()
    ) -> Quality:
        """Return whether the radiograph can be used, and the reasons against it.

        Args:
            found: The hand.
            measures: Results of ``measures`` and ``age_measures``, and ``patient_months``, the age
                in a DICOM header, if it is known.
            doubts: Codes from the file's header; they mean review.
        """
        if not CHILD_MONTHS[0] <= measures.get("patient_months", CHILD_MONTHS[0]) < CHILD_MONTHS[1]:
            doubts = (*doubts, "patient_age")
        if self._limits is None:  # without limits nothing is rejected
            reasons = (*found.reasons, *doubts)
            return Quality("review" if reasons else "accept", reasons)
        known = [code for code in found.reasons if code in {"no_hand_found", "inverted", "turned"}]
        return self._limits.judge(measures, (*known, *doubts))
