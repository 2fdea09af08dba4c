"""Candidate hands from the unrolled localizer's label map.

The paper's rule (``largest_regions``) is the base: remove the background and keep the largest
connected region. Read literally it returns the collimated field of a framed or tilted plate and
loses finger tips that share the background's label, so by default

* labels are taken from bright to dark, and every connected region of every such union is a
  candidate; inside whatever is rectangular like a plate, so are the regions that Otsu's
  threshold leaves;
* each candidate is redrawn by grey values against its own surroundings: halos go, finger tips
  and forearm come back. Small differences between two label maps vanish in this step;
* the candidate that looks most like a hand wins: bright against its surroundings, neither convex
  nor thin, large, with little contact with the image's border.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import cv2
import numpy as np

from bakit.hand.found import Region
from bakit.hand.masks import hull_of, rectangularity

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.types import Grey, Mask

    Labels: TypeAlias = npt.NDArray[np.int32]

SMALLEST = 0.02
"""Smallest area of a candidate, as a share of the image."""

LEAST_SCORE = 0.02
"""Lowest score of a candidate."""

REACH = 1 / 8
"""Width of the ring in which the background is sampled, as a share of the side."""

GROWTHS = (1 / 8, 1 / 40)
"""How far a region may grow, as shares of the side. The short one is for hands near to a bright
frame or surround."""

STRIP = 1 / 32
"""Border of the image that is copied from the pixels inside it, as a share of the side: frames are
thin and bright, and a forearm continues to the edge."""

LEAST_CONTRAST = 0.03
"""Smallest grey step that counts as a difference, on the stretched scale 0..1."""

RECTANGULAR = 0.85
"""Rectangularity from which a convex hull may be a plate with a hand in it."""


def hand_candidates(labels: Labels, working: Grey) -> list[Region]:
    """Return the regions that may be the hand, best first, their holes filled.

    The score is a product of contrast, spread of the fingers, difference from a rectangle,
    thickness, area and distance from the border. A good hand has 0.1 to 0.6.

    Args:
        labels: ``(h, w)`` int32, the localizer's label map.
        working: ``(h, w)`` float32 in 0..1, the localizer's input.
    """
    found: dict[bytes, Region] = {}
    for region, field in _regions(labels, working):
        for growth in GROWTHS:
            mask = _redraw(region, field, working, growth)
            if mask is None or mask.tobytes() in found:
                continue
            found[mask.tobytes()] = Region(mask, _score(mask, field, working))
    plausible = [region for region in found.values() if region.score >= LEAST_SCORE]
    return sorted(plausible, key=lambda region: -region.score)


def largest_regions(labels: Labels) -> list[Region]:
    """Return the paper's candidates: the regions without the background, largest first.

    The paper does not say which label is the background: here it is the most frequent one. The
    score is the area, as a share of all that is not background.

    Args:
        labels: ``(h, w)`` int32, the localizer's label map.
    """
    names, counts = np.unique(labels, return_counts=True)
    foreground = labels != names[counts.argmax()]
    regions = sorted(_components(foreground), key=lambda mask: -int(mask.sum()))
    return [Region(mask, float(mask.sum() / foreground.sum())) for mask in regions]


def _regions(labels: Labels, working: Grey) -> list[tuple[Mask, Mask]]:
    """Return the regions to examine, each with the field that it lies in.

    They are the connected regions of the unions of the brightest labels, in the whole image, and
    the bright regions (Otsu) inside each plate and inside the image. A plate is a rectangle of
    labels: a bright field, or a dark one whose label surrounds the hand. Labels miss a hand that
    differs little from its plate.
    """
    names, index = np.unique(labels, return_inverse=True)
    if len(names) == 1:
        return []
    index = index.reshape(labels.shape)
    means = np.bincount(index.ravel(), working.ravel()) / np.bincount(index.ravel())
    everywhere = np.ones(labels.shape, np.bool_)
    union = ~everywhere
    regions: list[Mask] = []
    for label in np.argsort(-means):
        union = union | (index == label)
        regions += _components(union)
    unique = {region.tobytes(): region for region in regions if not region.all()}
    pairs = [(region, everywhere) for region in unique.values()]
    singles = [index == label for label in range(len(names))]
    singles += [region for single in singles for region in _components(single)]
    plates = {everywhere.tobytes(): everywhere}
    for region in [*unique.values(), *singles]:
        hull = hull_of(region)
        if rectangularity(hull) > RECTANGULAR:
            plates[hull.tobytes()] = hull
    for plate in plates.values():
        # A plate's outermost pixels are half surround, and so is their grey.
        field, inner = _erode(plate, 1), _erode(plate, 3)
        if inner.sum() > SMALLEST * inner.size:
            inside = _components(field & (working > _otsu(working[inner])))
            pairs += [(region, everywhere if plate.all() else field) for region in inside]
    return pairs


def _redraw(region: Mask, field: Mask, working: Grey, growth: float) -> Mask | None:
    """Return the region redrawn by grey values against its background, None if nothing is left.

    A pixel of the field within reach belongs to it when it is clearly brighter than the
    background around it and connected to the region through such pixels.
    """
    side = min(working.shape)
    strip = max(round(side * STRIP), 1)
    for _ in range(2):
        distance = cv2.distanceTransform((~region).astype(np.uint8), cv2.DIST_L2, 3)
        ring = field & (distance > 1) & (distance <= max(side * REACH, 2))
        if not ring.any():
            return None
        background, noise = _background(working, ring, round(side * REACH))
        bright = working > background + _step(noise)
        bright &= distance <= max(side * growth, 1)
        bright &= np.pad(bright[strip:-strip, strip:-strip], strip, mode="edge") & field
        _, parts = cv2.connectedComponents(bright.astype(np.uint8), connectivity=4)
        shares = np.bincount(parts[region & bright], minlength=1)
        if len(shares) < 2:
            return None
        region = _fill(parts == shares.argmax())
        if region.sum() < SMALLEST * region.size:
            return None
    return region


def _background(working: Grey, ring: Mask, reach: int) -> tuple[Grey, float]:
    """Return the background's grey around every pixel and its noise, from the pixels of a ring.

    Pixels far from the estimate (finger tips, markers, the surround of the field) are left out of
    the next estimate; where the ring is out of reach, the median of its background is used.
    """
    estimate = np.full(working.shape, np.median(working[ring]), np.float32)
    noise = 0.0
    prior = np.float32(1e-3)
    size = (2 * reach + 1, 2 * reach + 1)
    for _ in range(3):
        residual = np.abs(working - estimate)
        noise = 1.5 * float(np.median(residual[ring]))  # the SD, if it is Gaussian
        sample = ring & (residual <= _step(noise))
        sums = np.dstack([sample, sample * working]).astype(np.float32)
        for _ in range(2):  # a box filter twice is nearly a Gaussian, at any size the same cost
            sums = cv2.blur(sums, size, borderType=cv2.BORDER_CONSTANT).astype(np.float32)
        middle = np.float32(np.median(working[sample]))
        estimate = (sums[..., 1] + prior * middle) / (sums[..., 0] + prior)
    return estimate, noise


def _step(noise: float) -> float:
    """Return the grey step that counts as a difference: three standard deviations of the noise."""
    return max(3 * noise, LEAST_CONTRAST)


def _score(mask: Mask, field: Mask, working: Grey) -> float:
    """Return the score of a region, 0..1.

    The ramps are wide on purpose: a single pixel must not change which candidate is best.
    """
    ring = cv2.dilate(mask.astype(np.uint8), _disk(2)).astype(np.bool_) & field & ~mask
    if not ring.any():
        return 0.0
    contrast = float(working[mask].mean() - working[ring].mean())
    steps = np.abs(np.diff(working, axis=0, append=working[-1:]))
    roughness = float(steps[mask].mean()) + 1e-6
    hull = hull_of(mask)
    area = float(mask.sum())
    solidity = area / float(hull.sum())
    border = mask[field & ~_erode(field, 1)]
    padded = np.pad(mask, 1, mode="edge").astype(np.uint8)
    depth = float(cv2.distanceTransform(padded, cv2.DIST_L2, 3).max())
    return (
        _ramp(contrast, 0.0, 0.2)
        * _ramp(contrast / roughness, 1.0, 2.0)  # about 1 for noise
        * _ramp(solidity, 0.98, 0.5)  # fingers apart; a palm alone is convex
        * _ramp(solidity, 0.3, 0.5)  # frames are hollow
        * _ramp(rectangularity(hull), 1.0, 0.85)
        * _ramp(depth / area**0.5, 0.05, 0.35)  # thickest part: a palm, or a strip
        * _ramp(area / mask.size, 0.0, 0.5)
        * _ramp(float(border.mean()), 0.4, 0.1)
    )


def _ramp(value: float, zero: float, one: float) -> float:
    """Return 0 at ``zero``, 1 at ``one``, linear between and flat beyond."""
    return min(max((value - zero) / (one - zero), 0.0), 1.0)


def _components(mask: Mask) -> list[Mask]:
    """Return the connected regions large enough to be a hand."""
    count, parts, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    least = SMALLEST * mask.size
    return [parts == i for i in range(1, count) if stats[i, cv2.CC_STAT_AREA] >= least]


def _erode(mask: Mask, radius: int) -> Mask:
    """Return a mask without its outermost pixels; the image's border counts as an edge."""
    padded = np.pad(mask, radius).astype(np.uint8)
    return cv2.erode(padded, _disk(radius))[radius:-radius, radius:-radius].astype(np.bool_)


def _fill(mask: Mask) -> Mask:
    """Return the mask with its holes filled."""
    outside = np.pad(~mask, 1, constant_values=True).astype(np.uint8)
    _, parts = cv2.connectedComponents(outside, connectivity=4)
    filled: Mask = parts[1:-1, 1:-1] != parts[0, 0]
    return filled


def _otsu(values: Grey) -> float:
    """Return the threshold that splits grey values best in two."""
    levels = np.round(values * 255).astype(np.uint8).reshape(-1, 1)
    threshold, _ = cv2.threshold(levels, 0, 255, cv2.THRESH_BINARY + cv2.THRESH_OTSU)
    return float(threshold + 0.5) / 255


def _disk(radius: int) -> npt.NDArray[np.uint8]:
    """Return a round structuring element."""
    size = 2 * radius + 1
    return cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (size, size)).astype(np.uint8)
