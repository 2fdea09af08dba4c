"""Shrink images by area means: OpenCV's INTER_AREA in a fraction of its time.

A radiograph has three million pixels. OpenCV needs as long to shrink two of them as the regressor
for one age (``tests/benchmarks/speed.py``), but sums whole rows ten times faster: rows are
summed first, and INTER_AREA shrinks the result.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Grey


_NEGLIGIBLE = 1e-3
"""Part of a pixel that INTER_AREA ignores."""

ROWS = 4
"""Rows per output row from which summing first is faster."""


def resize(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Resize to a square, averaging if it shrinks; uint8 stays uint8."""
    if pays(pixels, size):
        means = area_means(pixels, size)
        return np.rint(means).astype(np.uint8) if pixels.dtype == np.uint8 else means
    method = cv2.INTER_AREA if min(pixels.shape) > size else cv2.INTER_LINEAR
    return cv2.resize(pixels, (size, size), interpolation=method)


def pays(pixels: npt.NDArray[Any], size: int) -> bool:
    """Return whether an image shrinks so much that ``area_means`` is faster."""
    return len(pixels) >= ROWS * size and pixels.shape[1] > size


def area_means(pixels: npt.NDArray[Any], size: int) -> Grey:
    """Shrink an image to a square of area means.

    Equal to ``cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)`` on float32, except
    for rounding.

    Args:
        pixels: ``(H, W)`` uint8 or float32, for which it ``pays``.
        size: Side of the square.

    Returns:
        ``(size, size)`` float32, not rounded to whole numbers.
    """
    rows = _shrink_rows(pixels, size)
    small = cv2.resize(rows, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32, copy=False)


def _shrink_rows(pixels: npt.NDArray[Any], size: int) -> Grey:
    """Return ``(size, W)``: means of the rows of ``(H, W)``."""
    spans = _spans(len(pixels), size)
    means = np.empty((size, pixels.shape[1]), np.float32)
    for mean, start, stop in zip(means, spans.start, spans.stop, strict=True):
        cv2.reduce(pixels[start:stop], 0, cv2.REDUCE_SUM, dst=mean[None], dtype=cv2.CV_32F)
    means += pixels[spans.start - 1] * spans.before
    means += pixels[spans.stop.clip(max=len(pixels) - 1)] * spans.after
    means *= np.float32(size / len(pixels))
    return means


class _Spans(NamedTuple):
    """Rows of each output row: from ``start`` to ``stop``, and parts of the rows before and after.

    Row indices ``(size,)``, parts 0..1 as ``(size, 1)`` float32.
    """

    start: npt.NDArray[np.int64]
    stop: npt.NDArray[np.int64]
    before: Grey
    after: Grey


@lru_cache(maxsize=64)
def _spans(length: int, size: int) -> _Spans:
    edges = np.arange(size + 1) * (length / size)
    edges[-1] = length
    start = np.ceil(edges[:-1] - _NEGLIGIBLE).astype(np.int64)
    stop = np.floor(edges[1:] + _NEGLIGIBLE).astype(np.int64)
    before, after = start - edges[:-1], edges[1:] - stop
    parts = [
        np.where(part > _NEGLIGIBLE, part, 0).astype(np.float32)[:, None]
        for part in (before, after)
    ]
    return _Spans(start, stop, *parts)
