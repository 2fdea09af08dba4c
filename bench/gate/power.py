"""Number of images for a decision: measured pairs of ages, resampled through the limits on ages."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.bench.drift.compare import ages_of, drift_of_ages
from bakit.bench.gate.accuracy import LEAST_IMAGES, P99_IMAGES, drift_of, limit_checks
from bakit.bench.gate.verdict import PASSING

if TYPE_CHECKING:
    from collections.abc import Collection

    from bakit.bench.gate.check import Gate
    from bakit.bench.report.document import BundleReport

WANTED = 0.9
"""Share of the draws that have to pass."""

DRAWS = 40
GROWTH = 1.4
MOST_IMAGES = 20_000


def images_to_pass(gate: Gate, bundle: BundleReport, named: Collection[str] = ()) -> int | None:
    """Return how many images like a bundle's would pass all limits on ages.

    Returns:
        The smallest number of images, in steps of ``GROWTH`` above the measured number, of which
        ``WANTED`` of the draws pass; None if ``MOST_IMAGES`` are not enough. Below
        ``LEAST_IMAGES`` measured images it is the smallest number that the limits need at all.
    """
    samples = drift_of(bundle, "the report").samples
    least = LEAST_IMAGES if gate.max_p99_change_months is None else P99_IMAGES
    if samples < LEAST_IMAGES:
        return least
    images = max(least, int(GROWTH * samples) + 1)
    while images <= MOST_IMAGES:
        if pass_share(gate, bundle, images, named, least=WANTED) >= WANTED:
            return images
        images = int(GROWTH * images)
    return None


def pass_share(
    gate: Gate,
    bundle: BundleReport,
    images: int,
    named: Collection[str] = (),
    draws: int = DRAWS,
    *,
    seed: int = 0,
    least: float = 0.0,
) -> float:
    """Return the share of draws of ``images`` measured pairs that pass the limits on ages.

    Pairs are drawn with replacement. ``named`` limits have no room, as in the gate. Draws end,
    with 0, when ``least`` cannot be reached any more.
    """
    drift = drift_of(bundle, "the report")
    generator = np.random.default_rng(seed)
    ages = ages_of(drift.rows)
    passed = 0
    for done in range(draws):
        if passed + draws - done < least * draws:
            return 0.0
        places = generator.integers(drift.samples, size=images)
        drawn = drift_of_ages(ages.take(places), rows=(), **drift.given)
        checks = limit_checks(gate, msgspec.structs.replace(bundle, drift=drawn), named)
        passed += all(check.outcome in PASSING for check in checks)
    return passed / draws
