"""Choose each limit: where good and spoiled pictures part, or where the error starts to rise."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.types import Floats


FALSE_REJECTS = 0.002
"""Share of good radiographs that one limit may reject."""

FALSE_REVIEWS = 0.01
"""Share of good radiographs that one limit may send to a person."""

MISSED = 0.02
"""Share of spoiled pictures that may lie on the good side where the two part."""

REVIEW_RISE_MONTHS, REJECT_RISE_MONTHS = 1.0, 4.0
"""Rise of the mean error from which a person should look, and from which there is no answer."""

FEW_IMAGES, NEAR_MONTHS = 30, 6.0
"""Ages with fewer training images than this within so many months are hardly known to the model."""


Side: TypeAlias = Literal["above", "below"]


class Chosen(NamedTuple):
    """Where a measure stops being good."""

    measure: str
    code: str
    worse: Side
    review: float | None
    reject: float | None


def between(measure: str, code: str, good: Floats, bad: Floats) -> Chosen:
    """Part good from bad, which is above: halfway, or where few good ones are lost if they overlap.

    A person is asked from where few more good ones are lost, or, the farther the two lie apart the
    more so, from where none is.
    """
    top = float(np.quantile(good, 1 - FALSE_REJECTS))
    few = float(np.quantile(good, 1 - FALSE_REVIEWS))
    gap = max(float(np.quantile(bad, MISSED)) - top, 0.0)
    reject, review = top + gap / 2, min(top + gap / 4, few + gap)
    return Chosen(measure, code, "above", _round(review), _round(reject))


def rare(
    measure: str,
    code: str,
    good: Floats,
    worse: Side,
    *,
    review: float | None = None,
    reject: float | None = None,
) -> Chosen:
    """Set limits that the given shares of good radiographs break."""
    sign = 1.0 if worse == "above" else -1.0

    def at(share: float | None) -> float | None:
        return None if share is None else _round(sign * float(np.quantile(sign * good, 1 - share)))

    return Chosen(measure, code, worse, at(review), at(reject))


class Rung(NamedTuple):
    """One degree of spoiling: the median of a measure, and the rise of the mean absolute error."""

    value: float
    rise_months: float


def from_ladder(
    measure: str,
    code: str,
    worse: Side,
    rungs: Sequence[Rung],
    good: Floats,
) -> Chosen:
    """Set limits where the error of ever more spoiled images, the ``rungs``, rises too far.

    A limit lies between the last degree that is good enough and the first that is not; there is
    none if all are good enough. It never costs more good radiographs than other limits may.
    """
    sign = 1.0 if worse == "above" else -1.0

    def limit(rise_months: float, share: float) -> float | None:
        least = float(np.quantile(sign * good, 1 - share))
        for before, after in pairwise(rungs):
            if after.rise_months > rise_months:
                return _round(sign * max(sign * (before.value + after.value) / 2, least))
        return None

    review = limit(REVIEW_RISE_MONTHS, FALSE_REVIEWS)
    return Chosen(measure, code, worse, review, limit(REJECT_RISE_MONTHS, FALSE_REJECTS))


def trained_ages(ages_months: Floats) -> tuple[Chosen, Chosen]:
    """Set limits on the age: reject what no image had, review what few had."""
    ages = np.sort(ages_months)
    grid = np.arange(np.floor(ages[0]), np.ceil(ages[-1]) + 1)
    near = np.searchsorted(ages, grid + NEAR_MONTHS, "right") - np.searchsorted(
        ages, grid - NEAR_MONTHS, "left"
    )
    known = grid[near >= min(FEW_IMAGES, int(near.max()))]
    measure, code = "age_months", "outside_trained_ages"
    return (
        Chosen(measure, code, "below", _round(float(known[0])), _round(float(ages[0]))),
        Chosen(measure, code, "above", _round(float(known[-1])), _round(float(ages[-1]))),
    )


def _round(value: float) -> float:
    return float(f"{value:.4g}")
