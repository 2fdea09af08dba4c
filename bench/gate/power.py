"""Number of images for a decision: measured pairs of ages, resampled through the limits on ages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.bench.drift.compare import group_images, tail_images
from bakit.bench.gate.accuracy import LEAST_IMAGES, P99_IMAGES, room_of
from bakit.bench.statistics import group_interval, mean_interval, quantile_ranks

if TYPE_CHECKING:
    from collections.abc import Collection

    import numpy.typing as npt

    from bakit.bench.gate.check import Gate
    from bakit.bench.report.drift import DriftReport
    from bakit.types import Floats

WANTED = 0.9
"""Share of the draws that have to pass."""

DRAWS = 40
GROWTH = 1.4
MOST_IMAGES = 20_000


def images_to_pass(
    gate: Gate, drift: DriftReport, named: Collection[str] = (), draws: int = DRAWS
) -> int | None:
    """Return how many images like the measured ones would pass all limits on ages.

    Returns:
        The smallest number of images, in steps of ``GROWTH`` above the measured number, of which
        ``WANTED`` of the draws pass; None if ``MOST_IMAGES`` are not enough. Below
        ``LEAST_IMAGES`` measured images it is the smallest number that the limits need at all.
    """
    least = LEAST_IMAGES if gate.max_p99_change_months is None else P99_IMAGES
    if drift.samples < LEAST_IMAGES:
        return least
    images = max(least, int(GROWTH * drift.samples) + 1)
    while images <= MOST_IMAGES:
        if pass_share(gate, drift, images, named, draws, least=WANTED) >= WANTED:
            return images
        images = int(GROWTH * images)
    return None


def pass_share(
    gate: Gate,
    drift: DriftReport,
    images: int,
    named: Collection[str] = (),
    draws: int = DRAWS,
    seed: int = 0,
    *,
    least: float = 0.0,
) -> float:
    """Return the share of draws of ``images`` measured pairs that pass the limits on ages.

    Pairs are drawn with replacement, and judged as in the gate: with ``ROOM`` for the limits that
    are not in ``named``. Draws end, with 0, when ``least`` cannot be reached any more.
    """
    rows = [(row.true_months, row.float_months, row.bundle_months) for row in drift.rows]
    ages = np.array(rows, float).T
    males = np.array([row.male is True for row in drift.rows])
    knows_sex = all(row.male is not None for row in drift.rows)
    generator = np.random.default_rng(seed)
    passed = 0
    for done in range(draws):
        if passed + draws - done < least * draws:
            return 0.0
        drawn = generator.integers(ages.shape[1], size=images)
        pairs = ages[:, drawn]
        passed += _passes(gate, pairs, room_of("max_p99_change_months", named)) and (
            not knows_sex or _groups_pass(gate, pairs, males[drawn], named)
        )
    return passed / draws


def _passes(gate: Gate, ages: Floats, room: float) -> bool:
    """Return whether all images together pass; ``ages`` are true, float's and bundle's, (3, N)."""
    true_months, float_months, bundle_months = ages
    before, after = np.abs(float_months - true_months), np.abs(bundle_months - true_months)
    changes = np.abs(bundle_months - float_months)
    mae = float(before.mean())
    figures = (
        (after - before, gate.max_drift_months),
        (after - before, None if gate.max_drift_pct is None else gate.max_drift_pct * mae / 100),
        (after, gate.max_mae_months),
        (changes, gate.max_mean_change_months),
    )
    for values, limit in figures:
        if limit is None:
            continue
        if mean_interval(values)[1] > limit:
            return False
    limit = gate.max_p99_change_months
    if limit is None:
        return True
    ranks = quantile_ranks(len(changes), 0.99)
    if ranks is None:
        return False
    upper = np.partition(changes, ranks[1])[ranks[1]]
    return bool(upper <= room * limit and np.percentile(changes, 99) <= limit)


def _groups_pass(
    gate: Gate, ages: Floats, males: npt.NDArray[np.bool_], named: Collection[str]
) -> bool:
    true_months, float_months, bundle_months = ages
    signed = bundle_months - float_months
    drifts = np.abs(bundle_months - true_months) - np.abs(float_months - true_months)
    for group in (*group_images(true_months, males), *tail_images(true_months, males)):
        figures = {"max_group_change_months": signed, "max_group_drift_months": drifts}
        for name, values in figures.items():
            limit = getattr(gate, name)
            if limit is None:
                continue
            low, high = group_interval(values, group.rows)
            estimate = float(values[group.rows].mean())
            if values is signed:
                estimate, high = abs(estimate), max(-low, high)
            if estimate > limit or high > room_of(name, named) * limit:
                return False
    return True
