"""Fit the detectors and choose each limit.

A limit separates good from bad images, or lies where the error starts to rise.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.errors import InputError
from bakit.quality.limits import Limit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.quality.limits import Side
    from bakit.types import Floats

LEAST = 20
"""Minimum number of images of a kind."""

RIDGE = 30.0
"""L2 penalty; without it, a separable dataset has no solution."""

_STEPS = 50

FALSE_REJECTS = 0.003
"""Share of good radiographs that all limits together may reject."""

FALSE_REVIEWS = 0.01
"""Share of good radiographs that may be sent to review for one reason."""

MISSED = 0.02
"""Share of bad images that a limit may miss."""

REVIEW_RISE_MONTHS, REJECT_RISE_MONTHS = 1.0, 4.0
"""Rise of the mean error from which an image is reviewed or rejected."""

YOUNG, OLD = (0.003, 0.002), (0.01, 0.01)
"""Share of the training images at that end of the scale, and the largest share of radiographs that
are reviewed there. Children of one year are read well, hands near maturity are not."""

END_MISSED = 0.2
"""Share of the hands at an end that may be read as farther inside."""


def fit_detectors(kinds: Mapping[str, tuple[Floats, Floats]]) -> dict[str, tuple[float, ...]]:
    """Fit one detector for each kind of bad images (``QualityLimits.detectors``).

    ``kinds`` has the ``(L, N)`` vectors of good and of bad images by the detector's name.

    Raises:
        InputError: If there are too few images of a kind.
    """
    for name, groups in kinds.items():
        few = min(map(len, groups))
        if few < LEAST:
            message = f"{few} images are too few for {name}; at least {LEAST} are needed"
            raise InputError(message)
    return {name: _logistic(good, bad) for name, (good, bad) in kinds.items()}


def _logistic(good: Floats, bad: Floats) -> tuple[float, ...]:
    """Fit a logistic regression with equal group weights by Newton's method.

    Returns:
        The weights and the constant, in the seven significant digits that are stored.
    """
    rows = np.vstack([good, bad])
    wanted = np.r_[np.zeros(len(good)), np.ones(len(bad))]
    share = np.r_[np.full(len(good), 0.5 / len(good)), np.full(len(bad), 0.5 / len(bad))]
    share *= len(rows)
    middle, spread = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    design = np.column_stack([(rows - middle) / spread, np.ones(len(rows))])
    ridge = np.diag([RIDGE] * rows.shape[1] + [1e-6])
    weights = np.zeros(design.shape[1])
    for _ in range(_STEPS):
        odds = 1 / (1 + np.exp(-(design @ weights).clip(-30, 30)))
        slope = design.T @ (share * (odds - wanted)) + ridge @ weights
        curve = (design * (share * odds * (1 - odds))[:, None]).T @ design + ridge
        step = np.linalg.solve(curve, slope)
        weights -= step
        if float(np.abs(step).max()) < 1e-6:
            break
    slopes = weights[:-1] / spread
    constant = weights[-1] - float(slopes @ middle)
    return tuple(float(f"{value:.7g}") for value in (*slopes, constant))


def between(
    measure: str,
    code: str,
    good: Floats,
    varied: Floats,
    bad: Floats,
    rejects: float,
    sharing: int = 1,
) -> Limit:
    """Set limits between good images and bad ones, which have higher values.

    The limit for rejection is halfway, or at the share ``rejects`` of the good images if the groups
    overlap. The limit for review is lower; ``varied`` are good images of more kinds. Detectors of
    one reason, ``sharing`` of them, share its false reviews.
    """
    top = float(np.quantile(good, 1 - rejects))
    few = float(np.quantile(varied, 1 - FALSE_REVIEWS / sharing))
    gap = max(float(np.quantile(bad, MISSED)) - top, 0.0)
    reject, review = top + gap / 2, min(top, few + gap / 4)
    return Limit(measure, code, "above", _round(review), _round(reject))


def rare(measure: str, code: str, good: Floats, worse: Side, share: float) -> Limit:
    """Set a limit for review that this share of good radiographs exceeds."""
    sign = 1.0 if worse == "above" else -1.0
    return Limit(
        measure, code, worse, _round(sign * float(np.quantile(sign * good, 1 - share))), None
    )


class Rung(NamedTuple):
    """One degree of degradation: the median of a measure, and the expected rise of the MAE."""

    value: float
    rise_months: float


def expected_rise(error_months: float, change_months: float) -> float:
    """Return the rise of a mean error by changes of the ages that do not depend on it.

    On a few films the error itself is too uncertain; their changes are not.
    """
    return float(np.hypot(error_months, change_months)) - error_months


def from_ladder(
    measure: str, code: str, worse: Side, rungs: Sequence[Rung], good: Floats, rejects: float
) -> Limit:
    """Set limits where the error of increasingly degraded images (``rungs``) rises too far.

    A limit lies between the last acceptable degree and the first unacceptable one; it is None if
    all are acceptable. At most ``FALSE_REVIEWS`` and ``rejects`` of good radiographs are beyond.
    """
    sign = 1.0 if worse == "above" else -1.0

    def limit(rise_months: float, share: float) -> float | None:
        least = float(np.quantile(sign * good, 1 - share))
        for before, after in pairwise(rungs):
            if after.rise_months > rise_months:
                return _round(sign * max(sign * (before.value + after.value) / 2, least))
        return None

    review = limit(REVIEW_RISE_MONTHS, FALSE_REVIEWS)
    return Limit(measure, code, worse, review, limit(REJECT_RISE_MONTHS, rejects))


def ends_of_scale(
    ages_months: Floats, predicted: Floats, true: Floats
) -> tuple[Limit, Limit, Limit, Limit]:
    """Set limits on the predicted age where true ages at the ends of the scale land.

    A model's outputs do not reach the ends: the oldest hands, and adults', are read as somewhat
    younger. So a prediction is reviewed from the age on that most of the oldest are read as, and
    likewise at the youngest; ages beyond all training images are rejected.
    """

    def end(sign: float, share: float, reviews: float) -> float:
        limit = float(np.quantile(sign * ages_months, 1 - share))
        landed = sign * predicted[sign * true >= limit]
        rare_enough = float(np.quantile(sign * predicted, 1 - reviews))
        most = float(np.quantile(landed, END_MISSED)) if len(landed) else rare_enough
        return sign * max(most, rare_enough)

    measure = "age_months"
    return (
        Limit(measure, "below_trained_ages", "below", _round(end(-1, *YOUNG)), None),
        Limit(measure, "skeletally_mature", "above", _round(end(1, *OLD)), None),
        Limit(measure, "outside_trained_ages", "below", None, _round(float(ages_months.min()))),
        Limit(measure, "outside_trained_ages", "above", None, _round(float(ages_months.max()))),
    )


def _round(value: float) -> float:
    return float(f"{value:.4g}")
