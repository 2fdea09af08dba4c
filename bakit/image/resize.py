"""Resize images: OpenCV's INTER_AREA in a fraction of its time, and bytes equal on every machine.

A radiograph has three million pixels. OpenCV needs as long to shrink two of them as the regressor
for one age (``tests/benchmarks/speed.py``), but sums whole rows ten times faster: rows are
summed first, and INTER_AREA shrinks the result.

On bytes, OpenCV's arithmetic on Arm is another than on x86. INTER_LINEAR's pixels differ by up to
10 grey levels, and ages by 0.04 months; ``_bilinear`` is x86's, in whole numbers. INTER_AREA rounds
another mean in a thousand to the next level, and ages differ by 0.02 months; ``_rounded`` sums
these means as x86 does.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Bytes, Floats, Grey

    Indices: TypeAlias = npt.NDArray[np.int64]

_NEGLIGIBLE = 1e-3
"""Part of a pixel that INTER_AREA ignores."""

_NEAR_HALF = 0.004
"""Distance from a half within which a mean is summed again; float32 sums differ by less."""

ROWS = 4
"""Rows per output row from which summing first is faster."""


def resize(pixels: npt.NDArray[Any], size: int) -> npt.NDArray[Any]:
    """Resize to a square, averaging if it shrinks; uint8 stays uint8."""
    is_bytes = pixels.dtype == np.uint8
    if min(pixels.shape) <= size:
        if is_bytes:
            return _bilinear(pixels, size)
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_LINEAR)
    if pays(pixels, size):
        rows = _shrink_rows(pixels, size)
    elif is_bytes and any(side % size for side in pixels.shape):
        rows = pixels.astype(np.float32)
    else:  # whole pixels have no weights, so their sums are the same everywhere
        return cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    means = _area(rows, size)
    return _rounded(rows, means) if is_bytes else means


def thumbnail(grey: Grey, longest: int, method: int = cv2.INTER_AREA) -> Grey:
    """Shrink an image to a longest side in pixels; return a smaller one unchanged."""
    scale = longest / max(grey.shape)
    if scale >= 1:
        return grey
    height, width = (max(round(side * scale), 1) for side in grey.shape)
    return cv2.resize(grey, (width, height), interpolation=method).astype(np.float32, copy=False)


def _bilinear(pixels: Bytes, size: int) -> Bytes:
    """Return ``(size, size)``: bilinear between centres of pixels, in OpenCV's fixed point."""
    rows, y_weights = _centres(len(pixels), size, at_ends=False)
    columns, x_weights = _centres(pixels.shape[1], size, at_ends=True)
    lines = sum(
        pixels.take(column, 1).astype(np.int32) * weight
        for column, weight in zip(columns, x_weights, strict=True)
    )
    halves = (
        (lines[row] >> 4) * weight[:, None] >> 16
        for row, weight in zip(rows, y_weights, strict=True)
    )
    resized: Bytes = ((sum(halves) + 2) >> 2).astype(np.uint8)
    return resized


@lru_cache(maxsize=64)
def _centres(
    length: int, size: int, *, at_ends: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int32]]:
    """Return the two pixels around each new pixel's centre and their weights, ``(2, size)`` each.

    Weights are in units of 1/2048. OpenCV sets them to 1 and 0 at the ends in x, not in y.
    """
    at = ((np.arange(size) + 0.5) * (1 / (size / length)) - 0.5).astype(np.float32)
    first = np.floor(at).astype(np.int64)
    part = at - first.astype(np.float32)
    if at_ends:
        part[(first < 0) | (first >= length - 1)] = 0
    weights = np.rint(np.stack([1 - part, part]) * np.float32(2048)).astype(np.int32)
    return np.clip([first, first + 1], 0, length - 1), weights


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
    return _area(_shrink_rows(pixels, size), size)


def _area(pixels: Grey, size: int) -> Grey:
    small = cv2.resize(pixels, (size, size), interpolation=cv2.INTER_AREA)
    return small.astype(np.float32, copy=False)


def _rounded(pixels: Grey, means: Grey) -> Bytes:
    """Return the means of the areas of ``(H, W)`` as whole numbers, the same on every machine.

    Means near a half depend on the order and the width of their sums, so they are summed again.
    """
    y, x = np.nonzero(np.abs(means - np.floor(means) - np.float32(0.5)) < _NEAR_HALF)
    rows, row_weights = (part[:, y] for part in _areas(len(pixels), len(means)))
    columns, weights = (part[:, x] for part in _areas(pixels.shape[1], len(means)))
    lines = sum(pixels[rows, column] * part for column, part in zip(columns, weights, strict=True))
    means[y, x] = sum(lines * row_weights)
    return np.rint(means).astype(np.uint8)


@lru_cache(maxsize=64)
def _areas(length: int, size: int) -> tuple[Indices, Grey]:
    """Return the pixels in the area of each new pixel and their weights, ``(N, size)`` each.

    They are in OpenCV's order; the weights of an area with fewer pixels end with 0.
    """
    starts, stops, before, after = _spans(length, size)
    steps = np.arange(-1, (stops - starts).max() + 1)[:, None]
    indices = starts + steps
    weights = np.where((steps >= 0) & (indices < stops), 1.0, 0.0)
    weights[0] = before
    weights += np.where(indices == stops, after, 0)
    return indices.clip(0, length - 1), (weights / (length / size)).astype(np.float32)


def _shrink_rows(pixels: npt.NDArray[Any], size: int) -> Grey:
    """Return ``(size, W)``: means of the rows of ``(H, W)``."""
    starts, stops, before, after = _spans(len(pixels), size)
    means = np.empty((size, pixels.shape[1]), np.float32)
    for mean, start, stop in zip(means, starts, stops, strict=True):
        cv2.reduce(pixels[start:stop], 0, cv2.REDUCE_SUM, dst=mean[None], dtype=cv2.CV_32F)
    for rows, part in ((starts - 1, before), (stops.clip(max=len(pixels) - 1), after)):
        means += pixels[rows] * part[:, None].astype(np.float32)
    means *= np.float32(size / len(pixels))
    return means


@lru_cache(maxsize=64)
def _spans(length: int, size: int) -> tuple[Indices, Indices, Floats, Floats]:
    """Return each new pixel's first whole pixel and the one after its last, ``(size,)`` each.

    The others are the parts of the pixels before and after them, 0..1.
    """
    edges = np.arange(size + 1) * (length / size)
    edges[-1] = length
    start = np.ceil(edges[:-1] - _NEGLIGIBLE).astype(np.int64)
    stop = np.floor(edges[1:] + _NEGLIGIBLE).astype(np.int64)
    parts = (start - edges[:-1], edges[1:] - stop)
    before, after = (np.where(part > _NEGLIGIBLE, part, 0) for part in parts)
    return start, stop, before, after
