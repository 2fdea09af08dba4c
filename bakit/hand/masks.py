"""Shape of a mask: convex hull, rectangularity, contact with a field's edges."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.image.box import bounds

if TYPE_CHECKING:
    from bakit.image.box import Box
    from bakit.types import Mask


def hull_of(mask: Mask) -> Mask:
    """Return the convex hull of a mask that is not empty."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), 1)
    return hull.astype(np.bool_)


def rectangularity(hull: Mask) -> float:
    """Return the area of a convex mask over that of its smallest rotated rectangle, 0..1."""
    _, sides, _ = cv2.minAreaRect(cv2.findNonZero(hull.astype(np.uint8)))
    return float(hull.sum() / ((sides[0] + 1) * (sides[1] + 1)))  # centre to centre: one short


def inside(mask: Mask, field: Box | None) -> Mask:
    """Return the part of a mask in a field; all of it if there is none."""
    return mask if field is None else mask[field.y0 : field.y1, field.x0 : field.x1]


def contacts(mask: Mask, field: Box | None) -> tuple[float, float, float, float]:
    """Return the length of a hand's contact with each edge of the field: top, right, bottom, left.

    Lengths are shares of the hand's width at the top and at the bottom, of its height at the sides.
    """
    part, box = inside(mask, field), bounds(mask)
    edges = (part[:2].any(0), part[:, -2:].any(1), part[-2:].any(0), part[:, :2].any(1))
    lengths = (box.width, box.height) * 2
    top, right, bottom, left = (
        float(edge.sum()) / n for edge, n in zip(edges, lengths, strict=True)
    )
    return top, right, bottom, left
