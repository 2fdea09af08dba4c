"""Methods to compute an INT8 range from the statistics of an activation.

A range that is too wide wastes quantization levels; one that is too narrow clips values. All
methods use the same statistics, so comparing them needs no further inference.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.calib.statistics import Statistics
    from bakit.types import Floats


LEVELS: Final = 256
TAIL_SHARE: Final = 0.04
"""Share of the images that ``tails`` averages, so that no single outlier sets the range."""

_SHRINKS: Final = np.linspace(1.0, 0.2, 33)
"""Shares of the observed range that ``mse`` and ``entropy`` try."""


def find_ranges(statistics: Statistics, method: str) -> dict[str, tuple[float, float]]:
    """Return each tensor's range; ``method`` is one of ``METHODS``."""
    low, high = METHODS[method](statistics)
    return {
        name: (float(low[index]), float(high[index])) for index, name in enumerate(statistics.names)
    }


def _tails(seen: Statistics) -> tuple[Floats, Floats]:
    """Average the most extreme per-image percentiles."""
    count = max(1, round(TAIL_SHARE * seen.tails.shape[2]))
    low = np.sort(seen.tails[:, 0], axis=1)[:, :count].mean(1)
    high = np.sort(seen.tails[:, 1], axis=1)[:, -count:].mean(1)
    return low, high


def _percentile(share: float) -> Callable[[Statistics], tuple[Floats, Floats]]:
    """Clip at a percentile of all values, on each side."""

    def ranges(seen: Statistics) -> tuple[Floats, Floats]:
        below = np.cumsum(seen.counts, axis=1) / seen.counts.sum(1, keepdims=True)
        width = (seen.high - seen.low) / seen.counts.shape[1]
        first = (below < 1 - share).sum(1)
        last = (below < share).sum(1) + 1
        return seen.low + first * width, seen.low + last * width

    return ranges


def _best_shrink(
    seen: Statistics, loss: Callable[[Floats, Floats, float, float], float]
) -> tuple[Floats, Floats]:
    """Take the share of the observed range with the smallest loss."""
    low, high = seen.low.copy(), seen.high.copy()
    bins = seen.counts.shape[1]
    for index in range(len(seen.names)):
        bottom, top = seen.low[index], seen.high[index]
        centres = bottom + (np.arange(bins) + 0.5) * (top - bottom) / bins
        counts = seen.counts[index].astype(np.float64)
        losses = [loss(centres, counts, bottom * kept, top * kept) for kept in _SHRINKS]
        best = _SHRINKS[int(np.argmin(losses))]
        low[index], high[index] = bottom * best, top * best
    return low, high


def _squared_error(centres: Floats, counts: Floats, low: float, high: float) -> float:
    step = (high - low) / (LEVELS - 1)
    clipped = centres - np.clip(centres, low, high)
    return float((counts * (clipped**2 + step**2 / 12)).sum())


def _divergence(centres: Floats, counts: Floats, low: float, high: float) -> float:
    inside = (centres >= low) & (centres <= high)
    if not inside.any():
        return np.inf
    kept = counts[inside]
    clipped = kept.copy()
    clipped[0] += counts[centres < low].sum()
    clipped[-1] += counts[centres > high].sum()
    level = np.minimum((np.arange(len(kept)) * LEVELS) // len(kept), LEVELS - 1)
    filled = kept > 0
    mass = np.bincount(level, kept, LEVELS)
    members = np.bincount(level, filled, LEVELS)
    quantized = np.where(filled, mass[level] / np.maximum(members[level], 1), 0.0)
    # Values clipped into an empty bin would divide by zero: use a tiny mass.
    p = clipped / clipped.sum()
    q = np.maximum(quantized / max(quantized.sum(), 1e-30), 1e-12)
    some = p > 0
    return float((p[some] * np.log(p[some] / q[some])).sum())


METHODS: Final[dict[str, Callable[[Statistics], tuple[Floats, Floats]]]] = {
    "percentile-99.99": _percentile(0.9999),
    "mse": partial(_best_shrink, loss=_squared_error),
    "tails": _tails,
    "percentile-99.9": _percentile(0.999),
    "entropy": partial(_best_shrink, loss=_divergence),  # as TensorRT's calibrator
    "minmax": lambda seen: (seen.low, seen.high),
}
"""Range methods by name, the default first."""

DEFAULT_METHOD: Final = next(iter(METHODS))
