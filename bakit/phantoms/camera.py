"""Map millimetres of the hand's frame to pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from bakit.phantoms.shapes import FloatArray, Point


@dataclass(frozen=True)
class Camera:
    """A rotation, a scale and a shift from the hand's frame to pixels.

    Attributes:
        scale: Pixels per millimetre.
        turn_deg: Clockwise turn of the hand in the image.
        origin: Where the hand's origin lies, pixels.
        shape: Rows and columns of the image.
    """

    scale: float
    turn_deg: float
    origin: Point
    shape: tuple[int, int]

    def turn(self, vector: Point) -> Point:
        """Rotate a vector of the hand's frame into the image."""
        sine, cosine = math.sin(math.radians(self.turn_deg)), math.cos(math.radians(self.turn_deg))
        return vector[0] * cosine - vector[1] * sine, vector[0] * sine + vector[1] * cosine

    def place(self, point: Point) -> Point:
        """Pixel coordinates of a point of the hand, mm."""
        x, y = self.turn(point)
        return self.origin[0] + self.scale * x, self.origin[1] + self.scale * y


def coarse_blur(image: FloatArray, sigma: float) -> FloatArray:
    """Blur with a wide Gaussian, computed on a small copy."""
    rows, columns = image.shape
    factor = max(1, int(sigma / 3.0))
    size = (max(columns // factor, 4), max(rows // factor, 4))
    small = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), max(sigma / factor, 0.3))
    return np.asarray(cv2.resize(small, (columns, rows), interpolation=cv2.INTER_LINEAR))
