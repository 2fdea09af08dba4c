"""Agreement of two readings: Bland-Altman, and the two hands of one child."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, TypeVar

import msgspec
import numpy as np

from bakit.bench.statistics import (
    LEVEL,
    mean_interval,
    quantile_interval,
    student_quantile,
)
from bakit.errors import LabelsError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bakit.data.labels import Sample
    from bakit.studies.evaluate.document import Predicted
    from bakit.types import Floats

Item = TypeVar("Item", "Sample", "Predicted")

SIDES = {"": "", "l": "L", "left": "L", "r": "R", "right": "R"}

LEAST = 16
"""Minimum number of differences for Student's intervals (``student_quantile``)."""

SDS = 1.96
"""Half the width of the limits of agreement, in standard deviations."""


class BlandAltman(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Bias and limits of agreement: the mean difference, and 1.96 SD on either side.

    Intervals are those of Bland and Altman, "Measuring agreement in method comparison studies",
    1999, sections 2.1 and 2.2: Student's, for normal differences.
    """

    bias_months: float
    bias_ci95_months: tuple[float, float] | None
    lower_months: float
    lower_ci95_months: tuple[float, float] | None
    upper_months: float
    upper_ci95_months: tuple[float, float] | None

    @property
    def lines(self) -> dict[str, tuple[float, tuple[float, float] | None]]:
        """The three figures by name, from the top, each in months with its interval."""
        return {
            "+1.96 SD": (self.upper_months, self.upper_ci95_months),
            "bias": (self.bias_months, self.bias_ci95_months),
            "-1.96 SD": (self.lower_months, self.lower_ci95_months),
        }


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Differences between the predictions for the two images of a pair.

    Attributes:
        pairs: Pairs of which both images have a predicted age.
        mean_abs_difference_ci95_months: Over pairs (``mean_interval``).
        median_abs_difference_ci95_months: From order statistics; None for fewer than 6 pairs.
        sided_pairs: Pairs of a left and a right hand.
        left_minus_right: Of these; None for fewer than two.
    """

    pairs: int
    mean_abs_difference_months: float
    mean_abs_difference_ci95_months: tuple[float, float]
    median_abs_difference_months: float
    median_abs_difference_ci95_months: tuple[float, float] | None
    sided_pairs: int
    left_minus_right: BlandAltman | None


def bland_altman(differences: Floats) -> BlandAltman | None:
    """Return bias and limits of agreement of ``(N,)`` differences; None for fewer than two."""
    count = len(differences)
    if count < 2:
        return None
    bias, sd = float(differences.mean()), float(differences.std(ddof=1))

    def interval(middle: float, error: float) -> tuple[float, float] | None:
        if count < LEAST:
            return None
        half = student_quantile((1 + LEVEL) / 2, count - 1) * error
        return middle - half, middle + half

    lower, upper = bias - SDS * sd, bias + SDS * sd
    of_limit = sd * math.sqrt(1 / count + SDS**2 / (2 * (count - 1)))
    return BlandAltman(
        bias,
        interval(bias, sd / math.sqrt(count)),
        lower,
        interval(lower, of_limit),
        upper,
        interval(upper, of_limit),
    )


def agreement_of(predictions: Iterable[Predicted]) -> Agreement | None:
    """Compare the two predictions of each pair; None without pairs."""
    # The left hand first: L sorts before R.
    pairs = [sorted(pair, key=lambda item: item.side) for pair in pairs_of(predictions)]
    if not pairs:
        return None
    differences = np.array([one.predicted_months - two.predicted_months for one, two in pairs])
    sided = np.array([one.side == "L" and two.side == "R" for one, two in pairs])
    off = np.abs(differences)
    return Agreement(
        len(off),
        float(off.mean()),
        mean_interval(off),
        float(np.median(off)),
        quantile_interval(off, 0.5),
        int(sided.sum()),
        bland_altman(differences[sided]),
    )


def pairs_of(items: Iterable[Item]) -> list[tuple[Item, Item]]:
    """Return the pairs of which both images are there, in the order of their first images."""
    groups: dict[str, list[Item]] = {}
    for item in items:
        if item.pair:
            groups.setdefault(item.pair, []).append(item)
    return [(group[0], group[1]) for group in groups.values() if len(group) == 2]


def check_pairs(samples: Iterable[Sample], table: str) -> list[Sample]:
    """Return samples with sides ``L``, ``R`` or empty.

    Raises:
        LabelsError: If more than two images share a pair, both are of one hand, or a side is
            another word.
    """
    checked: list[Sample] = []
    seen: dict[str, list[str]] = {}
    for sample in samples:
        side = SIDES.get(sample.side.lower())
        if not sample.pair:
            checked.append(sample._replace(side=side or ""))
            continue
        if side is None:
            message = f"{table}: side of {sample.id!r} is {sample.side!r}; use L or R"
            raise LabelsError(message)
        others = seen.setdefault(sample.pair, [])
        if len(others) == 2:
            message = f"{table}: pair {sample.pair!r} has a third image, {sample.id!r}"
            raise LabelsError(message)
        if side and side in others:
            message = f"{table}: both images of pair {sample.pair!r} have side {side}"
            raise LabelsError(message)
        others.append(side)
        checked.append(sample._replace(side=side))
    return checked
