"""Fit the model of hands, and choose each limit.

The model is the middle of all hands and logistic regressions. A limit lies where good and spoiled
pictures part, or where the error starts to rise.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias

import numpy as np

from bakit.errors import InputError
from bakit.quality.limits import HandModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.types import Floats

DIRECTIONS = 40
"""Main directions that the distance is measured along."""

LEAST = 20
"""Fewest pictures of a kind."""

RIDGE = 30.0
"""Weight of the squared weights: without it, a separable set has no solution."""

_STEPS = 50

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


def fit_hands(hands: Floats, kinds: Mapping[str, tuple[Floats, Floats]]) -> HandModel:
    """Fit a model of hands, with a detector of each kind of other pictures.

    Args:
        hands: ``(M, N)``, vectors of hands.
        kinds: By the detector's name, ``(L, N)`` vectors of good pictures and of those that it is
            to find.

    Raises:
        InputError: If there are too few pictures of a kind.
    """
    groups = {"hands": (hands, DIRECTIONS)}
    for name, (good, bad) in kinds.items():
        groups |= {f"good ones beside {name}": (good, LEAST), name: (bad, LEAST)}
    for name, (vectors, least) in groups.items():
        if len(vectors) < least:
            message = f"{len(vectors)} pictures of {name} are too few; at least {least}"
            raise InputError(message)
    mean, scale = hands.mean(0), np.maximum(hands.std(0), 1e-6)
    entries = (hands - mean) / scale
    _, spreads, rows = np.linalg.svd(entries, full_matrices=False)
    sds = spreads[:DIRECTIONS] / np.sqrt(len(hands))
    basis = rows[:DIRECTIONS] / np.maximum(sds, 1e-6)[:, None]

    stored = basis.astype("<f2")  # it travels as text; the detectors are fitted to what is kept

    def table(vectors: Floats) -> Floats:
        scaled = (vectors - mean) / scale
        return np.column_stack(
            [scaled, np.linalg.norm(scaled @ stored.T.astype(np.float64), axis=1)]
        )

    detectors = {name: _logistic(table(good), table(bad)) for name, (good, bad) in kinds.items()}
    return HandModel(
        _short(mean),
        _short(scale),
        stored.tobytes(),
        {name: _short(weights) for name, weights in detectors.items()},
    )


def _logistic(good: Floats, bad: Floats) -> Floats:
    """Return weights and constant by Newton's method, both groups of equal weight."""
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
    return np.append(slopes, weights[-1] - float(slopes @ middle))


def _short(values: Floats) -> tuple[float, ...]:
    """Return values with the digits that matter: they travel as text."""
    return tuple(float(f"{value:.5g}") for value in values)


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
    measure: str, code: str, worse: Side, rungs: Sequence[Rung], good: Floats
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
