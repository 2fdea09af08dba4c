"""Confidence intervals for means, quantiles and groups, in NumPy and without random numbers.

SciPy is not used because it is larger than the rest of a device's install; the tests compare
these functions with SciPy's. All intervals are two-sided: a gate that uses only the upper end has
an error rate of ``(1 - LEVEL) / 2``.
"""

from __future__ import annotations

import math
from functools import lru_cache
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.bench.bounds import MIN_QUERIES, UNBOUNDED

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.types import Floats, Ints


LEVEL = 0.95

MIN_CLUSTERS = 5
"""Minimum number of patients for an interval."""

MAX_SKEWNESS = 0.3
"""Skewness of a mean up to which it is removed: more would be that of one value."""

MAX_SLOW_RATIO = 2.3
"""Power of the slowest changes over that of faster ones: more in 8 % of runs of one speed."""

MIN_TURNS = 5
"""Minimum number of turns for the interval of a ratio."""

PRIOR_FREEDOM = 10
"""Weight of the variance of all images in that of a group, in degrees of freedom."""

MAX_GROUPS = 10
"""Groups of the jackknife: more would be shorter and less independent."""

_NORMAL = NormalDist()
_LARGEST = 0.75
_COSINES, _SLOW, _SLOWEST = 40, 6, 4


def mean_interval(values: Floats, clusters: Ints | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean of skewed or heavy-tailed values.

    It is Student's, transformed to remove the skewness (Hall 1992, "On the removal of skewness by
    transformation"), with as many degrees of freedom as the variance has by the kurtosis. The
    largest deviation counts ``1 + _LARGEST`` times: few large changes among many small ones say
    little of the spread, and there may be fewer of them than expected. It is too narrow below about
    30 values, and unbounded (``UNBOUNDED``) for one that is not 0.

    Args:
        values: ``(N,)``. The difference of two models' errors for a paired interval.
        clusters: Numbers of the patients, ``(N,)``. The images of one patient are alike, so their
            deviations are added to one.
    """
    mean = float(values.mean())
    deviations = values - mean
    if len(values) == 1 and mean:
        return -UNBOUNDED, UNBOUNDED
    if np.abs(deviations).max() <= 1e-12 * max(1.0, abs(mean)):  # equal except for rounding
        return mean, mean
    if clusters is not None:
        _, places = np.unique(clusters, return_inverse=True)
        deviations = np.bincount(places, deviations).astype(float)
        if len(deviations) < MIN_CLUSTERS:
            return -UNBOUNDED, UNBOUNDED
    squares, count = deviations**2, len(deviations)
    largest = float(squares.max())
    variance = (float(squares.sum()) + _LARGEST * largest) / count
    fourth = (float((squares**2).sum()) + _LARGEST * largest**2) / (count + _LARGEST)
    kurtosis = fourth / variance**2
    freedom = 2 * count / max(kurtosis - (count - 3) / (count - 1), 2 * count / (count - 1))
    reach = student_quantile((1 + LEVEL) / 2, max(freedom, 4.0))
    skewness = float((deviations**3).mean() / squares.mean() ** 1.5) / math.sqrt(count)
    skewness = min(max(skewness, -MAX_SKEWNESS), MAX_SKEWNESS)
    error = math.sqrt(variance * count) / len(values)
    low, high = (mean - error * _without_skewness(side, skewness) for side in (reach, -reach))
    return low, high


def _without_skewness(quantile: float, skewness: float) -> float:
    """Return the quantile of a studentized mean, from that of a symmetric one."""
    if abs(skewness) < 1e-6:
        return quantile
    return 3 / skewness * (float(np.cbrt(1 + skewness * (quantile - skewness / 6))) - 1)


def quantile_interval(
    values: Floats, share: float, independent: int | None = None
) -> tuple[float, float] | None:
    """Return the 95 % interval of a quantile from order statistics, for any distribution.

    The number of values below the true quantile is binomial, so two of the sorted values enclose
    the quantile (David and Nagaraja, "Order Statistics", 7.1). Between two ranks, of which one is
    too narrow and the next too wide, values are interpolated.

    Args:
        values: ``(N,)`` float64.
        share: The quantile, 0..1.
        independent: Number of independent values with as much information, if the values are
            not independent: the number of patients, or fewer than the queries.

    Returns:
        None if there are too few values for an upper end: below 368 for the 99th percentile.
    """
    count = len(values) if independent is None else independent
    lower, upper = _upper_rank(count, 1 - share), _upper_rank(count, share)
    if lower is None or upper is None:
        return None
    places = np.array([count + 1 - lower, upper]) * (len(values) + 1) / (count + 1) - 1
    low, high = np.interp(places, np.arange(len(values)), np.sort(values))
    return float(low), float(high)


@lru_cache(maxsize=64)
def _upper_rank(count: int, share: float) -> float | None:
    """Return the rank, from 1, that is above a quantile with 97.5 %; None if there is none.

    Ranks are interpolated by Nyblom (1992), "Note on interpolated order statistics".
    """
    level = (1 + LEVEL) / 2
    # above[k]: probability of at most k values below the quantile
    above = np.cumsum([_binomial(k, count, share) for k in range(count)])
    rank = int(np.searchsorted(above, level))  # this one is too low, the next too high
    if rank in {0, count}:
        return None if rank else 1.0
    short, over = level - above[rank - 1], above[rank] - level
    weight = 1 / (1 + rank * (1 - share) * over / ((count - rank) * share * short))
    return rank + float(weight)


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


def group_interval(values: Floats, rows: Ints, clusters: Ints | None = None) -> tuple[float, float]:
    """Return the 95 % interval of the mean of a group, by the moderated t of Smyth (2004).

    The variance is that of the group, joined with the variance of all values, which counts like
    ``PRIOR_FREEDOM`` values more. So two images have an interval, and one large change among ten
    does not hide where the others lie.

    Args:
        values: Of all images, ``(N,)``.
        rows: Row numbers of the group, at least one.
        clusters: Numbers of the patients, ``(N,)``; each counts once, by its mean.
    """
    group, everyone = values[rows], values
    if clusters is not None:
        group, everyone = _mean_by(group, clusters[rows]), _mean_by(values, clusters)
    if len(everyone) < MIN_CLUSTERS:
        return -UNBOUNDED, UNBOUNDED
    mean, count = float(group.mean()), len(group)
    freedom = PRIOR_FREEDOM + count - 1
    squares = PRIOR_FREEDOM * float(everyone.var(ddof=1)) + float(((group - mean) ** 2).sum())
    half = student_quantile((1 + LEVEL) / 2, freedom) * math.sqrt(squares / freedom / count)
    return mean - half, mean + half


def _mean_by(values: Floats, clusters: Ints) -> Floats:
    """Return the mean of each cluster of values, ``(C,)``; both are ``(N,)``."""
    _, places, sizes = np.unique(clusters, return_inverse=True, return_counts=True)
    return np.bincount(places, values) / sizes


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
    follows from the slow changes of being below the percentile: the mean power of its first
    ``_SLOW`` cosines, with as many degrees of freedom (Mueller 2007; Lazarus et al. 2018, "HAR
    inference"). A run whose ``_SLOWEST`` cosines have more power than the faster ones do not
    explain changed its speed over a good part of its length, and has no intervals.

    The interval is of this run: of the percentile at the speeds that the machine had in it. It
    holds the percentile of longer runs, too, if the speed's changes last less than a hundredth of
    the run; no run shows changes that are slower than itself (docs/ci.md).

    Args:
        times: ``(N,)`` float64, in the order of the queries.
        percentiles: The percentiles, 0..100.

    Returns:
        None for a percentile that has no interval: fewer than ``MIN_QUERIES``, too few
        independent ones for its upper end (368 for p99), or a run that changed its speed.
    """
    if len(times) < MIN_QUERIES:
        return [None] * len(percentiles)
    power = _slow_power(np.unique(times, return_inverse=True)[1])
    if power[:_SLOWEST].mean() > MAX_SLOW_RATIO * power[_SLOW:].mean():
        return [None] * len(percentiles)
    reach = student_quantile((1 + LEVEL) / 2, _SLOW) / _NORMAL.inv_cdf((1 + LEVEL) / 2)
    found: list[tuple[float, float] | None] = []
    for percentile in percentiles:
        below = times <= np.percentile(times, percentile)
        inflation = max(float(_slow_power(below)[:_SLOW].mean()) * reach**2, 1.0)
        independent = max(int(len(times) / inflation), 1)
        found.append(quantile_interval(times, percentile / 100, independent))
    return found


def _slow_power(values: npt.NDArray[Any]) -> Floats:
    """Return the squared cosine coefficients of the slowest changes, 1 each for independent values.

    The ``k``-th, from 1, is of a cosine with ``k`` half waves over the run, ``(_COSINES,)``.
    """
    centred = values - values.mean()
    spectrum = np.fft.rfft(np.concatenate([centred, centred[::-1]]))[1 : 1 + _COSINES]
    scale = 2 * float((centred**2).sum())
    return np.abs(spectrum) ** 2 / scale if scale else np.ones(_COSINES)


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
