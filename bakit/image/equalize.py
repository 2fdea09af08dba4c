"""Grey values as uint8 and float32, and histogram equalization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Bytes, Grey


_BLOCK = 1 << 15
"""Number of pixels per block."""

_LUT = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)


def as_grey(pixels: npt.NDArray[Any]) -> Grey:
    """Return uint8 grey values as float32 in 0..1, and float32 unchanged."""
    grey: Grey = cv2.LUT(pixels, _LUT) if pixels.dtype == np.uint8 else pixels  # type: ignore[assignment]
    return grey


def levels(crop: Grey | Bytes, *, equalize: bool, inverted: bool) -> Bytes:
    """Return a crop in 256 levels.

    It is stretched to its own range first, so that 12 bits stored in 16 use all levels.

    Args:
        crop: ``(H, W)`` float32 in 0..1, or 255 times that as uint8, which is faster.
        equalize: Whether to equalize the histogram, as ``cv2.equalizeHist``.
        inverted: Whether bones are dark; they become bright.

    Returns:
        ``(H, W)`` uint8.
    """
    if crop.dtype == np.uint8:
        return _of_bytes(crop, equalize=equalize, inverted=inverted)  # type: ignore[arg-type]
    found = _stretched(crop, float(crop.min()), float(crop.max()))  # type: ignore[arg-type]
    if inverted:
        found = 255 - found
    return cv2.equalizeHist(found).astype(np.uint8, copy=False) if equalize else found


def _of_bytes(crop: Bytes, *, equalize: bool, inverted: bool) -> Bytes:
    """Compute ``levels`` on 256 values instead of all pixels."""
    counts = cv2.calcHist([crop], [0], None, [256], [0, 256]).ravel().astype(np.int64)
    present = np.flatnonzero(counts)
    low, high = (float(_LUT[present[end]]) for end in (0, -1))
    table = _stretched(_LUT.clip(low, high)[None], low, high)[0]
    if inverted:
        table = 255 - table
    if equalize:
        table = _equalizing(np.bincount(table, counts, 256).astype(np.int64))[table]
    return cv2.LUT(crop, table).astype(np.uint8, copy=False)


def _equalizing(counts: npt.NDArray[np.int64]) -> Bytes:
    """Return the table of ``cv2.equalizeHist`` for a histogram."""
    first = int(np.flatnonzero(counts)[0])
    above = int(counts.sum() - counts[first])
    if not above:  # a single level is unchanged
        return np.full(256, first, np.uint8)
    ranks = (counts.cumsum() - counts[first]).clip(0).astype(np.float32)
    table: Bytes = np.rint(ranks * (np.float32(255) / np.float32(above))).astype(np.uint8)
    return table


def _stretched(grey: Grey, low: float, high: float) -> Bytes:
    """Map grey values from ``low`` to ``high`` to integers from 0 to 255.

    It works on blocks of rows, whose intermediate values fit in the cache.
    """
    factor = 255 / max(high - low, 1e-6)
    found = np.empty(grey.shape, np.uint8)
    rows = max(_BLOCK // grey.shape[1], 1)
    for start in range(0, len(grey), rows):
        block = grey[start : start + rows] - low
        block *= factor
        found[start : start + rows] = np.rint(block, out=block)
    return found
