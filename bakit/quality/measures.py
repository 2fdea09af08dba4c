"""Quality measures of an image, its box and its crop."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import msgspec
import numpy as np

from bakit.hand.masks import contacts, hull_of, rectangularity
from bakit.hand.upright import edge_directions
from bakit.image.box import bounds

if TYPE_CHECKING:
    from bakit.hand.found import Found, LocalizerOutput
    from bakit.image.box import Box
    from bakit.types import Bytes, Floats, Grey, Mask


SAMPLE = 256
"""Longest side of the sample of grey values; more pixels add no information."""

BRIGHTEST = 2 / 255
"""Grey values this close to the brightest count as saturated: compression changes them a little."""

TURN_DEGREES = 8.0
"""Rotation of the regressor's input that tests whether the age is stable."""

_SHAPES = 15
_CELLS = 3
_FINE = 6
_BINS = 8
_OUTLINE = 8
_SIDE = 48
_BLUR = 1.5

VECTOR = _SHAPES + (_CELLS**2 + _FINE**2) * _BINS + 4 + _OUTLINE**2
"""Length of ``hand_vector``."""


def hand_measures(
    grey: Grey | Bytes, output: LocalizerOutput | None, found: Found, pixels: Grey
) -> tuple[dict[str, float], Floats | None]:
    """Return the measures of a hand by name, and its ``hand_vector``; nothing without a hand.

    ``grey`` is the radiograph as for ``bakit.hand.prepare.prepare``, the others its results.
    """
    if output is None or found.box is None or found.scores is None:
        return {}, None
    measures: dict[str, float] = msgspec.to_builtins(found.scores)
    measures |= box_measures(grey, found.box, inverted=found.inverted)
    return measures, hand_vector(output, found, pixels)


def box_measures(grey: Grey | Bytes, box: Box, *, inverted: bool = False) -> dict[str, float]:
    """Return the quality measures of the grey values in a box.

    Args:
        grey: ``(H, W)`` float32 in 0..1, or 255 times that as uint8.
        box: The hand.
        inverted: Whether bones are dark; the grey values are inverted first, as for the prediction.

    Returns:
        ``side_pixels``: the shorter side; ``grey_levels``: distinct grey values; ``saturated``:
        share of the pixels with the brightest grey, 0..1.
    """
    step = max(max(box.width, box.height) // SAMPLE, 1)
    sample = grey[box.y0 : box.y1 : step, box.x0 : box.x1 : step]
    top = 255
    if sample.dtype != np.uint8:
        top = 65535
        sample = np.rint(sample * 65535).astype(np.uint16)  # type: ignore[assignment]
    if inverted:  # otherwise the background counts as saturated
        sample = top - sample
    counts = np.bincount(sample.ravel())
    present = np.flatnonzero(counts)
    brightest = len(counts) - 1 - (len(counts) - 1 - present[0]) * BRIGHTEST
    return {
        "side_pixels": float(min(box.width, box.height)),
        "grey_levels": float(len(present)),
        "saturated": float(counts[int(np.ceil(brightest)) :].sum() / sample.size),
    }


def hand_vector(result: LocalizerOutput, found: Found, pixels: Grey) -> Floats:
    """Return features that distinguish hands: shape, texture, outline, contact, edge directions.

    All are those of the upright hand.

    Args:
        result: Output of the localizer, with at least one region.
        found: The hand that was chosen in it.
        pixels: ``(S, S)`` float32 in 0..1, the regressor's input.

    Returns:
        ``(VECTOR,)`` float64.
    """
    region = result.regions[0].mask
    mask = np.ascontiguousarray(np.rot90(region, found.turn))
    # Blurred, so that large, small and subsampled radiographs give the same features.
    small = cv2.resize(pixels, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
    smooth = cv2.GaussianBlur(small, (0, 0), _BLUR).astype(np.float32)
    box = bounds(mask)
    inside = mask[box.y0 : box.y1, box.x0 : box.x1].astype(np.float32)
    outline = cv2.resize(inside, (_OUTLINE, _OUTLINE), interpolation=cv2.INTER_AREA)
    return np.concatenate(
        [
            _shape(result, mask, found, smooth),
            edge_directions(smooth[None], _CELLS, _BINS)[0],
            np.roll(contacts(region, result.field), -found.turn),
            edge_directions(smooth[None], _FINE, _BINS)[0],
            outline.ravel(),
        ]
    )


def _shape(result: LocalizerOutput, mask: Mask, found: Found, smooth: Grey) -> Floats:
    """Return the ``_SHAPES`` measures of the hand's shape and texture."""
    scores = found.scores
    assert scores is not None
    area = float(mask.sum())
    side = area**0.5
    hull = hull_of(mask)
    box = bounds(mask)
    is_map = result.output.dtype == np.float32
    certain = result.output.astype(np.float32) if is_map else mask.astype(np.float32)
    unsure = float(((certain > 0.1) & (certain < 0.9)).sum()) / side
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    depth = float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max())
    clefts = float((hull & ~mask).sum()) / area
    inside = cv2.GaussianBlur(result.working, (0, 0), _BLUR)[result.regions[0].mask]
    small = smooth
    textures = []
    for _ in range(2):
        small = cv2.pyrDown(small).astype(np.float32)
        blurred = cv2.GaussianBlur(small, (0, 0), 1)
        textures.append(float(np.abs(small - blurred).mean()))
    values = {
        "confidence": scores.confidence,
        "softness": unsure,
        "area": side / len(mask),
        "solidity": area / float(hull.sum()),
        "rectangularity": rectangularity(hull),
        "depth": depth / side,
        "elongation": float(np.log(box.width / box.height)),
        "clefts": clefts,
        "contrast": abs(scores.contrast),
        "agreement": scores.agreement,
        "border": scores.border,
        "second": scores.second,
        "middle": textures[0],
        "coarse": textures[1],
        "bones": float(inside.std()),
    }
    return np.array(list(values.values()))


def turned(pixels: Grey) -> list[Grey]:
    """Return the regressor's input ``(S, S)`` rotated by ``TURN_DEGREES``, both ways."""
    side = len(pixels)
    found = []
    for degrees in (-TURN_DEGREES, TURN_DEGREES):
        rotation = cv2.getRotationMatrix2D((side / 2, side / 2), degrees, 1.0)
        moved = cv2.warpAffine(pixels, rotation, (side, side), borderMode=cv2.BORDER_REPLICATE)
        found.append(moved.astype(np.float32, copy=False))
    return found
