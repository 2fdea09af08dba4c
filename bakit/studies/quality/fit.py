"""Fit what tells hands from other things: the middle of all hands, and logistic regressions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.errors import InputError
from bakit.quality.limits import HandModel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bakit.types import Floats


DIRECTIONS = 40
"""Main directions that the distance is measured along."""

LEAST = 20
"""Fewest pictures of a kind."""

RIDGE = 30.0
"""Weight of the squared weights: without it, a separable set has no solution."""

_STEPS = 50


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
