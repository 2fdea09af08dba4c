"""Shape of a mask: bounding box, convex hull, rectangularity."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.image.box import Box

if TYPE_CHECKING:
    from bakit.types import Mask


def bounds(mask: Mask) -> Box:
    """Return the bounding box of a mask that is not empty."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return Box(int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1)


def hull_of(mask: Mask) -> Mask:
    """Return the convex hull of a mask that is not empty."""
    points = cv2.findNonZero(mask.astype(np.uint8))
    hull = cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), cv2.convexHull(points), 1)
    return hull.astype(np.bool_)


def rectangularity(hull: Mask) -> float:
    """Return the area of a convex mask over that of its smallest rotated rectangle, 0..1."""
    _, sides, _ = cv2.minAreaRect(cv2.findNonZero(hull.astype(np.uint8)))
    return float(hull.sum() / ((sides[0] + 1) * (sides[1] + 1)))  # centre to centre: one short
