"""Intervals for means, quantiles and groups, in NumPy alone.

A device's install has no scipy, which weighs more than all the rest of it; the tests hold these
functions to scipy's. All intervals are two-sided; a gate that looks at the upper end alone is
wrong in half of ``1 - LEVEL`` of the cases.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bakit.types import Floats


RESAMPLES = 2000
SEED = 0
LEVEL = 0.95

LEAST_BLOCKS = 5
"""Blocks of queries below which their bootstrap says nothing."""

_NORMAL = NormalDist()
_CHUNK = 2_000_000  # values drawn at a time: 16 MB
_BLOCK_RESAMPLES = 1000
_BLOCK_CHUNK = 50


def bootstrap_interval(
    values: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of a mean: bootstrap, bias-corrected and accelerated (BCa).

    Images are drawn with replacement. Give differences of two models' errors by image and the
    interval is paired: what makes an image hard for both cancels out. BCa moves the percentiles of
    the resampled means by their bias and by the skewness of the values (Efron 1987, "Better
    bootstrap confidence intervals"). Below some 30 images it is too narrow, as every bootstrap.

    Args:
        values: ``(N,)`` float64, one for each image.
        resamples: Resamples.
        seed: Seed of the draws; the same seed gives the same interval.
    """
    return bootstrap_intervals(values[None], resamples, seed)[0]


def bootstrap_intervals(
    values: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> list[tuple[float, float]]:
    """Return ``bootstrap_interval`` of several figures of the same images.

    Args:
        values: ``(K, N)`` float64.
        resamples: Resamples, the same ones for all figures.
        seed: Seed of the draws.
    """
    count = values.shape[1]
    generator = np.random.default_rng(seed)
    means = np.empty((len(values), resamples))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.integers(count, size=(stop - start, count))
        for row, figures in enumerate(values):
            means[row, start:stop] = figures[drawn].mean(axis=1)
    return [_bca(figures, resampled) for figures, resampled in zip(values, means, strict=True)]


def _bca(values: Floats, means: Floats) -> tuple[float, float]:
    """Choose the percentiles of the resampled means of ``values``."""
    mean = float(values.mean())
    centred = values - mean
    spread = float((centred**2).sum())
    if spread <= 1e-24 * max(1.0, mean**2) * len(values):  # equal but for rounding
        return mean, mean
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means == mean) / 2) / len(means)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / len(means)), 1 - 1 / len(means)))
    # The jackknife's means differ from their own mean by -centred / (N - 1).
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    ends = []
    for tail in ((1 - LEVEL) / 2, (1 + LEVEL) / 2):
        moved = bias + _NORMAL.inv_cdf(tail)
        ends.append(_NORMAL.cdf(bias + moved / (1 - acceleration * moved)))
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def quantile_interval(values: Floats, share: float) -> tuple[float, float] | None:
    """Return the 95 % interval of a quantile by order statistics: no assumption on the values.

    How many of N values lie below the true quantile is binomial, so two of the sorted values
    enclose it (David and Nagaraja, "Order Statistics", 7.1).

    Args:
        values: ``(N,)`` float64.
        share: Which quantile, 0..1.

    Returns:
        The two values; None if there are too few for an upper one: below 368 for the 99th
        percentile.
    """
    ordered, count = np.sort(values), len(values)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(count + 1)
    ]  # fmt: skip
    below = np.cumsum(np.exp(logs))  # below[k]: at most k of the values are under the quantile
    upper = int(np.searchsorted(below, (1 + LEVEL) / 2))
    if upper >= count:
        return None
    lower = int(np.searchsorted(below, (1 - LEVEL) / 2, side="right")) - 1
    return float(ordered[max(lower, 0)]), float(ordered[upper])


def images_for_quantile(share: float) -> int:
    """Return the fewest images for which ``quantile_interval`` has an upper end."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(share))


def simultaneous_intervals(groups: Sequence[Floats]) -> list[tuple[float, float]]:
    """Return intervals of the groups' means that hold for all of them at once with 95 %.

    Groups are of different children, so their means are independent and Šidák's correction of
    Student's intervals is exact; it says of the worst group what is true of it, and not what
    chance adds to the worst of many.

    Args:
        groups: ``(n,)`` float64 each, of at least two values.
    """
    level = LEVEL ** (1 / max(len(groups), 1))
    intervals = []
    for values in groups:
        reach = student_quantile((1 + level) / 2, len(values) - 1)
        half = reach * float(values.std(ddof=1)) / math.sqrt(len(values))
        intervals.append((float(values.mean()) - half, float(values.mean()) + half))
    return intervals


def student_quantile(share: float, freedom: int) -> float:
    """Return a quantile of Student's t: Cornish and Fisher's expansion in 1 / ``freedom``.

    Within 0.1 % from 15 degrees of freedom up, for shares up to 0.9999 (Abramowitz and Stegun,
    26.7.5).
    """
    z = _NORMAL.inv_cdf(share)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return math.fsum(term / freedom**power for power, term in enumerate(terms))


def block_intervals(
    times: Floats, block: int, percentiles: Sequence[float], seed: int = SEED
) -> list[tuple[float, float]] | None:
    """Return 95 % intervals of percentiles (0..100) of times that follow each other.

    Neighbours are alike, since a machine is slow or fast for a while. So whole blocks are drawn
    with replacement, and the percentiles are those of all their times.

    Args:
        times: ``(N,)`` float64, in the order in which they were taken.
        block: Times in a block; what is left at the end is left out.
        percentiles: Which, 0..100.
        seed: Seed of the draws.

    Returns:
        None if there are fewer than ``LEAST_BLOCKS`` blocks.
    """
    blocks = times[: len(times) // block * block].reshape(-1, block)
    if len(blocks) < LEAST_BLOCKS:
        return None
    draws = _draw_blocks([blocks], seed)
    resampled = [np.percentile(drawn, percentiles, axis=1) for (drawn,) in draws]
    ends = np.percentile(np.concatenate(resampled, axis=1), (2.5, 97.5), axis=1)
    return [(float(low), float(high)) for low, high in ends.T]


def ratio_interval(
    times: Floats, other: Floats, block: int, percentile: float, *, paired: bool, seed: int = SEED
) -> tuple[float, float] | None:
    """Return the 95 % interval of the ratio of two series' percentiles.

    Args:
        times: ``(N,)`` float64, the numerator's times in order.
        other: ``(M,)`` float64, the denominator's.
        block: Times in a block.
        percentile: Which, 0..100.
        paired: Whether block ``i`` of both was measured in one round: then blocks are drawn in
            pairs, and what slowed a round down cancels out.
        seed: Seed of the draws.

    Returns:
        The interval; None if either has fewer than ``LEAST_BLOCKS`` blocks.
    """
    above, below = (t[: len(t) // block * block].reshape(-1, block) for t in (times, other))
    if min(len(above), len(below)) < LEAST_BLOCKS:
        return None
    if paired:
        rounds = min(len(above), len(below))
        draws = _draw_blocks([above[:rounds], below[:rounds]], seed)
    else:
        separate = zip(_draw_blocks([above], seed), _draw_blocks([below], seed + 1), strict=True)
        draws = ([*first, *second] for first, second in separate)
    ratios = [np.divide(*(np.percentile(t, percentile, axis=1) for t in pair)) for pair in draws]
    low, high = np.percentile(np.concatenate(ratios), (2.5, 97.5))
    return float(low), float(high)


def _draw_blocks(series: Sequence[Floats], seed: int) -> Iterator[list[Floats]]:
    """Draw the same blocks ``(B, block)`` of each series: times ``(C, N)``, some resamples each."""
    generator = np.random.default_rng(seed)
    count = len(series[0])
    for _ in range(_BLOCK_RESAMPLES // _BLOCK_CHUNK):
        drawn = generator.integers(count, size=(_BLOCK_CHUNK, count))
        yield [blocks[drawn].reshape(_BLOCK_CHUNK, -1) for blocks in series]
