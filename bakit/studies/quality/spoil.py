"""Radiographs that were spoiled on purpose: cut, doubled, shrunk, flattened, overexposed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from bakit.image.box import Box
    from bakit.studies.quality.canvas import Random
    from bakit.types import Grey

CUT_SHARES = (0.25, 0.55)
"""How much of a hand's box is left of one that is heavily cropped."""


def cropped(grey: Grey, box: Box, rng: Random) -> Grey:
    """Return a window that shows a quarter to just over half of the hand's box.

    Args:
        grey: ``(H, W)`` in 0..1.
        box: The hand.
        rng: Where the window lies.
    """
    share = rng.uniform(*CUT_SHARES)
    across = rng.uniform(max(share, 0.4), 1.0)
    width = max(round(box.width * across), 16)
    height = max(round(box.height * share / across), 16)
    # What the window leaves out is at the box's border, not air around it.
    x0 = box.x0 + round((box.width - width) * rng.random())
    y0 = box.y0 + round((box.height - height) * rng.random())
    x0, y0 = (max(min(v, n - 16), 0) for v, n in ((x0, grey.shape[1]), (y0, grey.shape[0])))
    return np.ascontiguousarray(grey[y0 : y0 + height, x0 : x0 + width])


def side_by_side(first: Grey, second: Grey, rng: Random) -> Grey:
    """Return two radiographs as one, at the height of the first; the second may be mirrored."""
    height = first.shape[0]
    width = max(round(second.shape[1] * height / second.shape[0]), 1)
    other = cv2.resize(second, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        other = other[:, ::-1]
    pair = [first, other] if rng.random() < 0.5 else [other, first]
    return np.ascontiguousarray(np.hstack(pair), np.float32)


def shrunk(grey: Grey, box: Box, side: int) -> Grey:
    """Return the radiograph with the shorter side of the hand's box at ``side`` pixels."""
    factor = side / min(box.width, box.height)
    size = tuple(max(round(n * factor), 16) for n in (grey.shape[1], grey.shape[0]))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    rounded: Grey = np.rint(small * 255).astype(np.float32) / np.float32(255)
    return rounded


def flattened(grey: Grey, levels: int) -> Grey:
    """Return the radiograph as a film of low contrast: so many of 256 greys are left."""
    low, high = float(grey.min()), float(grey.max())
    few = np.rint((grey - low) / max(high - low, 1e-6) * (levels - 1))
    flat: Grey = (few.astype(np.float32) + 100) / np.float32(255)
    return flat


def overexposed(grey: Grey, box: Box, share: float) -> Grey:
    """Return the radiograph with the brightest ``share`` of the hand's box burnt out."""
    inside = grey[box.y0 : box.y1, box.x0 : box.x1]
    top = max(float(np.quantile(inside, 1 - share)), 1 / 255)
    burnt: Grey = np.minimum(grey / np.float32(top), 1).astype(np.float32)
    return burnt
