"""Which way up a hand is: the quarter turns that make its fingers point up.

A linear score of the localizer's input and output inside the hand's box is computed for the four
quarter turns; the highest wins. ``tests/benchmarks/learn_upright.py`` learned its
weights.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from bakit.hand.weights import FOLDER
from bakit.image.box import bounds

if TYPE_CHECKING:
    from bakit.hand.found import LocalizerOutput
    from bakit.types import Floats, Grey, Ints, Mask


SIDE = 48
"""Side of the patch whose edges are measured."""

UNSURE = 0.95
"""Probability of a turn below which it is doubted."""

_CELLS = 4
_BINS = 8
_COARSE = 8


class Turn(NamedTuple):
    """Anticlockwise quarter turns that make a hand upright, and their probability."""

    quarters: int
    probability: float


def upright_turn(result: LocalizerOutput, *, inverted: bool) -> Turn:
    """Return how a localized hand becomes upright."""
    scores = turn_features(result, inverted=inverted) @ _weights()
    odds = np.exp(scores - scores.max())
    best = int(scores.argmax())
    return Turn(best, float(odds[best] / odds.sum()))


def turn_features(result: LocalizerOutput, *, inverted: bool) -> Floats:
    """Return ``(4, N)``: the features of the hand after 0 to 3 anticlockwise quarter turns."""
    mask = result.regions[0].mask
    box = bounds(mask)
    rows, columns = slice(box.y0, box.y1), slice(box.x0, box.x1)
    grey = 1 - result.working if inverted else result.working
    patch = _resized(grey[rows, columns], SIDE)
    shape = _resized(mask[rows, columns].astype(np.float32), _COARSE)
    patches = _turns(patch)
    coarse = np.stack([_resized(turned, _COARSE).ravel() for turned in patches])
    shapes = _turns(shape).reshape(4, -1)
    directions = edge_directions(patches, _CELLS, _BINS)
    return np.hstack([directions, shapes, coarse - coarse.mean(1, keepdims=True)])


def _turns(square: Grey) -> Grey:
    """Return ``(4, S, S)``: a square after 0 to 3 anticlockwise quarter turns."""
    return np.stack([square, square.T[::-1], square[::-1, ::-1], square.T[:, ::-1]])


def _resized(pixels: Grey | Mask, side: int) -> Grey:
    whole = np.ascontiguousarray(pixels, np.float32)
    method = cv2.INTER_AREA if min(whole.shape) > side else cv2.INTER_LINEAR
    return cv2.resize(whole, (side, side), interpolation=method).astype(np.float32)


def edge_directions(smooth: Grey, cells: int, bins: int) -> Floats:
    """Return the root of a histogram of edge directions in ``cells x cells`` cells of squares.

    ``bins`` is a power of 2. It is that of oriented gradients (Dalal and Triggs, CVPR 2005):
    ``(N, cells * cells * bins)`` for ``(N, S, S)``.
    """
    across = np.vstack([cv2.Sobel(image, cv2.CV_32F, 1, 0) for image in smooth])
    down = np.vstack([cv2.Sobel(image, cv2.CV_32F, 0, 1) for image in smooth])
    size, angle = cv2.cartToPolar(across, down)
    index = (angle * (bins / np.pi)).astype(np.int64) & (bins - 1)  # an edge has no direction
    index += _first_bins(len(smooth), smooth.shape[1], cells, bins)
    counts = np.bincount(index.ravel(), size.ravel(), len(smooth) * cells * cells * bins)
    counts = counts.reshape(len(smooth), -1)
    total: Floats = np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1e-9))
    return total


@lru_cache(maxsize=8)
def _first_bins(count: int, side: int, cells: int, bins: int) -> Ints:
    """Return the first bin of each pixel's cell, ``(count * side, side)``."""
    rows, columns = (np.arange(length) // (side // cells) for length in (count * side, side))
    return (rows[:, None] * cells + columns) * bins


@lru_cache(maxsize=1)
def _weights() -> Floats:
    stored: Floats = np.load(FOLDER / "upright.npy").astype(np.float64)
    return stored
