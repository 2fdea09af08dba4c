"""Confidence intervals for means, quantiles and groups, in NumPy.

SciPy is not used because it is larger than the rest of a device's install; the tests compare
these functions with SciPy's. All intervals are two-sided: a gate that uses only the upper end has
an error rate of ``(1 - LEVEL) / 2``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.types import Floats, Ints


RESAMPLES = 2000
SEED = 0
LEVEL = 0.95

MAX_MONTHS = 1e6
"""End of an interval that is as good as unbounded; JSON has no infinity."""

MIN_TURNS = 5
"""Minimum number of turns for the interval of a ratio."""

MAX_GROUPS = 10
"""Groups of the jackknife: more would be shorter and less independent."""

_NORMAL = NormalDist()
_CHUNK = 2_000_000  # values per draw: 16 MB
_MEMORIES = 100
_WINDOW = 3


def bootstrap_interval(
    values: Floats, resamples: int = RESAMPLES, seed: int = SEED
) -> tuple[float, float]:
    """Return the 95 % interval of a mean: bootstrap, bias-corrected and accelerated (BCa).

    Images are drawn with replacement. For a paired interval, pass the difference of two models'
    errors for each image. BCa corrects the percentiles of the resampled means for bias and
    skewness (Efron 1987, "Better bootstrap confidence intervals"). Its percentiles are those of
    Student's t (Hesterberg 2015, "What teachers should know about the bootstrap"), with as many
    degrees of freedom as the variance has by the kurtosis of the values: few large changes among
    many small ones say little of their spread. It is too narrow below about 30 images.

    Args:
        values: ``(N,)`` float64, one for each image.
        resamples: Number of resamples.
        seed: Seed of the draws.
    """
    return bootstrap_intervals(values[None], resamples=resamples, seed=seed)[0]


def bootstrap_intervals(
    values: Floats,
    clusters: Ints | None = None,
    *,
    resamples: int = RESAMPLES,
    seed: int = SEED,
) -> list[tuple[float, float]]:
    """Return ``bootstrap_interval`` of several figures, ``(K, N)``, with the same resamples.

    ``clusters``, ``(N,)``, numbers the patients: whole patients are then drawn, because the images
    of one patient are alike.
    """
    if clusters is not None:
        _, clusters = np.unique(clusters, return_inverse=True)
    sizes = np.ones(values.shape[1]) if clusters is None else np.bincount(clusters).astype(float)
    sums = values if clusters is None else np.stack([np.bincount(clusters, v) for v in values])
    count = len(sizes)
    generator = np.random.default_rng(seed)
    means = np.empty((len(values), resamples))
    step = max(1, _CHUNK // count)
    for start in range(0, resamples, step):
        stop = min(start + step, resamples)
        drawn = generator.integers(count, size=(stop - start, count))
        images = sizes[drawn].sum(axis=1)
        for row, figures in enumerate(sums):
            means[row, start:stop] = figures[drawn].sum(axis=1) / images
    return [_bca(figures, sizes, drawn) for figures, drawn in zip(sums, means, strict=True)]


def _bca(sums: Floats, sizes: Floats, means: Floats) -> tuple[float, float]:
    """Return the corrected percentiles of the resampled means of patients' sums and images."""
    mean = float(sums.sum() / sizes.sum())
    centred = sums - mean * sizes  # the jackknife's means differ from ``mean`` by about -centred
    spread = float((centred**2).sum())
    if spread <= 1e-24 * max(1.0, mean**2) * float((sizes**2).sum()):  # equal except for rounding
        return mean, mean
    below = (np.count_nonzero(means < mean) + np.count_nonzero(means == mean) / 2) / len(means)
    bias = _NORMAL.inv_cdf(min(max(below, 1 / len(means)), 1 - 1 / len(means)))
    acceleration = float((centred**3).sum()) / (6 * spread**1.5)
    reach = _reach(centred, spread)
    ends = []
    for side in (-reach, reach):
        moved = bias + side
        ends.append(_NORMAL.cdf(bias + moved / (1 - acceleration * moved)))
    low, high = np.quantile(means, ends)
    return float(low), float(high)


def _reach(centred: Floats, spread: float) -> float:
    """Return the half width of an interval in standard errors, from ``(n,)`` deviations."""
    count = len(centred)
    kurtosis = count * float((centred**4).sum()) / spread**2
    freedom = 2 * count / max(kurtosis - (count - 3) / (count - 1), 2 * count / (count - 1))
    quantile = student_quantile((1 + LEVEL) / 2, max(freedom, 4.0))
    return quantile * math.sqrt(count / (count - 1))


def quantile_interval(
    values: Floats, share: float, independent: int | None = None
) -> tuple[float, float] | None:
    """Return the 95 % interval of a quantile from order statistics, for any distribution.

    The number of values below the true quantile is binomial, so two of the sorted values enclose
    the quantile (David and Nagaraja, "Order Statistics", 7.1).

    Args:
        values: ``(N,)`` float64.
        share: The quantile, 0..1.
        independent: Number of independent values with as much information, if the values are
            not independent: the number of patients, or fewer than the queries.

    Returns:
        None if there are too few values for an upper end: below 368 for the 99th percentile.
    """
    count = len(values) if independent is None else independent
    ranks = quantile_ranks(count, share)
    if ranks is None:
        return None
    ordered, each = np.sort(values), len(values) / count
    high = min(math.ceil((ranks[1] + 1) * each), len(values)) - 1
    return float(ordered[int(ranks[0] * each)]), float(ordered[high])


@lru_cache(maxsize=64)
def quantile_ranks(count: int, share: float) -> tuple[int, int] | None:
    """Return the places, from 0, of the sorted values that enclose a quantile with 95 %."""
    # below[k]: probability of at most k values below the quantile
    below = np.cumsum([_binomial(k, count, share) for k in range(count + 1)])
    upper = int(np.searchsorted(below, (1 + LEVEL) / 2))
    lower = int(np.searchsorted(below, (1 - LEVEL) / 2, side="right")) - 1
    return None if upper >= count else (max(lower, 0), upper)


def share_bound(hits: int, count: int) -> float:
    """Return the one-sided 95 % upper bound of a share, 0..1 (Clopper and Pearson 1934).

    Without a hit it is ``1 - 0.05 ** (1 / count)``, about ``3 / count``.
    """
    low, high = hits / count, 1.0
    while low < high - 1e-9:
        middle = (low + high) / 2
        at_most = math.fsum(_binomial(k, count, middle) for k in range(hits + 1))
        low, high = (middle, high) if at_most > 1 - LEVEL else (low, middle)
    return high


def _binomial(k: int, count: int, share: float) -> float:
    """Return the probability of ``k`` hits in ``count`` draws."""
    ways = math.lgamma(count + 1) - math.lgamma(k + 1) - math.lgamma(count - k + 1)
    return math.exp(ways + k * math.log(share) + (count - k) * math.log1p(-share))


def images_for_quantile(share: float) -> int:
    """Return the minimum number of images for which ``quantile_interval`` has an upper end."""
    return math.ceil(math.log((1 - LEVEL) / 2) / math.log(share))


def mean_by(values: Floats, clusters: Ints) -> Floats:
    """Return the mean of each cluster of values, ``(C,)``; both are ``(N,)``."""
    _, places, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return np.bincount(places, values) / sizes


def student_interval(values: Floats) -> tuple[float, float]:
    """Return Student's 95 % interval of a mean, from at least five independent values ``(n,)``."""
    if len(values) < 5:  # the films of a few patients: nothing can be said
        return -MAX_MONTHS, MAX_MONTHS
    reach = student_quantile((1 + LEVEL) / 2, len(values) - 1)
    half = reach * float(values.std(ddof=1)) / math.sqrt(len(values))
    return float(values.mean()) - half, float(values.mean()) + half


def difference_interval(values: Floats, others: Floats) -> tuple[float, float] | None:
    """Return the 95 % interval of the difference of the means of two series, ``(N,)`` and ``(M,)``.

    It is Student's for at most ``MAX_GROUPS`` groups of consecutive readings, whose means are
    nearly independent; None if either series has fewer than ``MIN_TURNS`` readings.
    """
    groups = min(MAX_GROUPS, len(values), len(others))
    if groups < MIN_TURNS:
        return None
    means = [np.array([p.mean() for p in np.array_split(s, groups)]) for s in (values, others)]
    error = math.sqrt(math.fsum(float(mean.var(ddof=1)) for mean in means) / groups)
    reach = student_quantile((1 + LEVEL) / 2, groups - 1) * error
    estimate = float(values.mean() - others.mean())
    return estimate - reach, estimate + reach


def student_quantile(share: float, freedom: float) -> float:
    """Return a quantile of Student's t by the Cornish-Fisher expansion in 1 / ``freedom``.

    The error is below 0.1 % for at least 15 degrees of freedom and shares up to 0.9999, and for
    at least 4 and a share of 0.975 (Abramowitz and Stegun, 26.7.5).
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


def serial_intervals(
    times: Floats, percentiles: Sequence[float]
) -> list[tuple[float, float] | None]:
    """Return 95 % intervals of percentiles of consecutive latencies, from order statistics.

    Consecutive latencies are alike, so ``N`` of them count as fewer independent ones. How many
    follows from the data: from the autocorrelation of being below the percentile, over
    ``_WINDOW`` times the memory of the series. The interval holds for the state that the machine
    was in: speeds that change more slowly than the run lasts show in another run only.

    Args:
        times: ``(N,)`` float64, in the order of the queries.
        percentiles: The percentiles, 0..100.

    Returns:
        None for a percentile that has no interval: too few queries for its upper end (368
        independent ones for p99), or a run shorter than ``_MEMORIES`` times its memory.
    """
    memory = _memory(times)
    if len(times) < _MEMORIES * memory:
        return [None] * len(percentiles)
    window = math.ceil(_WINDOW * memory)
    found: list[tuple[float, float] | None] = []
    for percentile in percentiles:
        below = (times <= np.percentile(times, percentile)).astype(float)
        inflation = 1 + 2 * float(_autocorrelation(below)[:window].sum())
        inflation = max(inflation, 1.0) * (1 + 2 * window / len(times))
        independent = max(int(len(times) / inflation), 1)
        found.append(quantile_interval(times, percentile / 100, independent))
    return found


def _memory(times: Floats) -> float:
    """Return how many queries a change of speed lasts; 0 for independent latencies.

    It is the sum of the ranks' autocorrelation up to its first negative pair (Geyer 1992), divided
    by its start, so that noise of single queries does not hide a slow change.
    """
    ranks = np.argsort(np.argsort(times, kind="stable")).astype(float)
    correlation = _autocorrelation(ranks)
    pairs = correlation[: len(correlation) // 2 * 2].reshape(-1, 2).sum(axis=1)
    negative = np.flatnonzero(pairs <= 0)
    stop = int(negative[0]) if len(negative) else len(pairs)
    start = float(correlation[:3].mean()) if len(correlation) >= 3 else 0.0
    if stop == 0 or start * math.sqrt(3 * len(times)) < 2:  # two standard errors
        return 0.0
    return max(float(pairs[:stop].sum()) / start, 1.0)


def _autocorrelation(values: Floats) -> Floats:
    """Return the autocorrelation ``(N - 1,)`` from lag 1 on, without the bias of the mean."""
    centred = values - values.mean()
    power = float((centred**2).sum())
    if power == 0:
        return np.zeros(len(values) - 1)
    size = 1 << (2 * len(values) - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(centred, size)) ** 2
    return np.fft.irfft(spectrum, size)[1 : len(values)] / power + 1 / len(values)


def ratio_interval(
    times: Sequence[Floats], other: Sequence[Floats], percentile: float, *, paired: bool
) -> tuple[float, float] | None:
    """Return the 95 % interval of the ratio of two series' percentiles: a grouped jackknife.

    Each series is cut into at most ``MAX_GROUPS`` groups of consecutive turns, as long as the data
    allow, so that neighbours are nearly independent. Student's interval of the logarithm follows
    from leaving out one group at a time.

    Args:
        times: The numerator's latencies, ``(n,)`` float64 for each turn, in order.
        other: The denominator's.
        percentile: The percentile, 0..100.
        paired: Whether turn ``i`` of both was measured one after the other. The same groups are
            then left out of both, so that a slow moment cancels out.

    Returns:
        None if either series has fewer than ``MIN_TURNS`` turns.
    """
    turns = min(len(times), len(other))
    if turns < MIN_TURNS:
        return None
    pair = (times[:turns], other[:turns]) if paired else (times, other)
    groups = min(MAX_GROUPS, turns)

    def logarithm(series: Sequence[Floats], without: int | None = None) -> float:
        kept = [t for i, t in enumerate(series) if i * groups // len(series) != without]
        return math.log(np.percentile(np.concatenate(kept), percentile))

    left_out = [np.array([logarithm(series, i) for i in range(groups)]) for series in pair]
    parts = [left_out[0] - left_out[1]] if paired else left_out
    error = math.sqrt((groups - 1) * math.fsum(float(part.var()) for part in parts))
    reach = student_quantile((1 + LEVEL) / 2, groups - 1) * error
    estimate = logarithm(pair[0]) - logarithm(pair[1])
    return math.exp(estimate - reach), math.exp(estimate + reach)
