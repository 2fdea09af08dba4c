"""Confidence intervals for means, quantiles and groups, in NumPy.

SciPy is not used because it is larger than the rest of a device's install; the tests compare
these functions with SciPy's. All intervals are two-sided: a gate that uses only the upper end has
an error rate of ``(1 - LEVEL) / 2``.
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

MIN_BLOCKS = 5
"""Minimum number of blocks of queries for a bootstrap."""

_NORMAL = NormalDist()
_CHUNK = 2_000_000  # values per draw: 16 MB
_BLOCK_RESAMPLES = 1000
_BLOCK_CHUNK = 50


def bootstrap_interval(
    values: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of a mean: bootstrap, bias-corrected and accelerated (BCa).

    Images are drawn with replacement. For a paired interval, pass the difference of two models'
    errors for each image. BCa corrects the percentiles of the resampled means for bias and
    skewness (Efron 1987, "Better bootstrap confidence intervals"). Like every bootstrap, it is too
    narrow below about 30 images.

    Args:
        values: ``(N,)`` float64, one for each image.
        resamples: Number of resamples.
        seed: Seed of the draws.
    """
    return bootstrap_intervals(values[None], resamples, seed)[0]


def bootstrap_intervals(
    values: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> list[tuple[float, float]]:
    """Return ``bootstrap_interval`` of several figures, ``(K, N)``, with the same resamples."""
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
    """Return the corrected percentiles of the resampled means of ``values``."""
    mean = float(values.mean())
    centred = values - mean
    spread = float((centred**2).sum())
    if spread <= 1e-24 * max(1.0, mean**2) * len(values):  # equal except for rounding
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
    """Return the 95 % interval of a quantile from order statistics, for any distribution.

    The number of values below the true quantile is binomial, so two of the sorted values enclose
    the quantile (David and Nagaraja, "Order Statistics", 7.1).

    Args:
        values: ``(N,)`` float64.
        share: The quantile, 0..1.

    Returns:
        None if there are too few values for an upper end: below 368 for the 99th percentile.
    """
    ordered, count = np.sort(values), len(values)
    logs = [
        math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
        + k * math.log(share) + (count - k) * math.log1p(-share)
        for k in range(count + 1)
    ]  # fmt: skip
    below = np.cumsum(np.exp(logs))  # below[k]: P(at most k values are below the quantile)
    upper = int(np.searchsorted(below, (1 + LEVEL) / 2))
    if upper >= count:
        return None
    lower = int(np.searchsorted(below, (1 - LEVEL) / 2, side="right")) - 1
    return float(ordered[max(lower, 0)]), float(ordered[upper])


def images_for_quantile(share: float) -> int:
    """Return the minimum number of images for which ``quantile_interval`` has an upper end."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(share))


def simultaneous_intervals(groups: Sequence[Floats]) -> list[tuple[float, float]]:
    """Return simultaneous 95 % intervals of the means of several groups.

    The groups have no image in common, so their means are independent, and Šidák's correction of
    Student's intervals is exact.

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
    """Return a quantile of Student's t by the Cornish-Fisher expansion in 1 / ``freedom``.

    The error is below 0.1 % for at least 15 degrees of freedom and shares up to 0.9999
    (Abramowitz and Stegun, 26.7.5).
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
    """Return 95 % intervals of percentiles of consecutive latencies: a block bootstrap.

    Consecutive latencies are correlated, so whole blocks are drawn with replacement.

    Args:
        times: ``(N,)`` float64, in the order of the queries.
        block: Queries in a block; an incomplete last block is ignored.
        percentiles: The percentiles, 0..100.
        seed: Seed of the draws.

    Returns:
        None if there are fewer than ``MIN_BLOCKS`` blocks.
    """
    blocks = times[: len(times) // block * block].reshape(-1, block)
    if len(blocks) < MIN_BLOCKS:
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
        times: ``(N,)`` float64, the numerator's latencies in order.
        other: ``(M,)`` float64, the denominator's latencies in order.
        block: Queries in a block.
        percentile: The percentile, 0..100.
        paired: Whether block ``i`` of both was measured in the same round. Blocks are then drawn
            in pairs, so that a slow round cancels out.
        seed: Seed of the draws.

    Returns:
        None if either series has fewer than ``MIN_BLOCKS`` blocks.
    """
    above, below = (t[: len(t) // block * block].reshape(-1, block) for t in (times, other))
    if min(len(above), len(below)) < MIN_BLOCKS:
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
    """Yield resamples ``(C, N)`` of each series ``(B, block)``; all series use the same draws."""
    generator = np.random.default_rng(seed)
    count = len(series[0])
    for _ in range(_BLOCK_RESAMPLES // _BLOCK_CHUNK):
        drawn = generator.integers(count, size=(_BLOCK_CHUNK, count))
        yield [blocks[drawn].reshape(_BLOCK_CHUNK, -1) for blocks in series]
