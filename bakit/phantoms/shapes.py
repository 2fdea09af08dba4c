"""Shapes of a hand: tubes, pebbles and flesh, in millimetres.

The origin of the hand's frame is the middle of the radius' joint surface; x points to the thumb's
side and y down the forearm. Scale and rotation map it to an upright image.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt

FloatArray: TypeAlias = npt.NDArray[np.float32]
Point: TypeAlias = tuple[float, float]
Knots: TypeAlias = tuple[tuple[float, float], ...]  # (distance along a bone, value)

TABLE_SIZE: Final = 512  # samples of a profile along a bone; a radius is 1,000 pixels at most
OUTLINE_SIZE: Final = 256  # samples of a pebble's outline

_STEPS: Final = np.linspace(0.0, 1.0, TABLE_SIZE)
_REPLICATE: Final = cv2.BORDER_REPLICATE


@dataclass(frozen=True)
class End:
    """One end of a tube: a curve across the bone.

    The curve's distance along the axis is `at_mm + linear v + square v^2 + rim v^6 + notch g(v)`,
    where v runs from -1 to 1 across the bone and g is a narrow bell at `notch_at`.

    Attributes:
        at_mm: Distance from the tube's origin.
        linear: Slant, mm.
        square: Dome or hollow, mm.
        rim: Lip at both edges, mm.
        notch: Groove between two condyles (or a process, negative), mm.
        notch_at: The v of the groove.
        round_mm: Length over which the end tapers to nothing.
        plate_mm: Thickness of its compact bone.
    """

    at_mm: float
    linear: float = 0.0
    square: float = 0.0
    rim: float = 0.0
    notch: float = 0.0
    notch_at: float = 0.0
    round_mm: float = 1.5
    plate_mm: float = 0.4


@dataclass(frozen=True)
class Tube:
    """A bone of round section along a straight axis, hollow inside.

    Attributes:
        origin: Where the axis starts, mm.
        axis: Unit vector along it.
        near: End at the start.
        far: End at the finish.
        span: Distances between which the profiles are sampled, mm.
        half_width: (TABLE_SIZE,) half width, mm.
        cortex: (TABLE_SIZE,) thickness of the compact wall, mm.
        density: (TABLE_SIZE,) compact share of the spongy inside.
        unit_mm: Half width at which an end's v is 1.
        bow_mm: Sideways offset of the middle of the shaft.
        depth: Thickness along the beam relative to the width.
        stretch: How much longer than wide the spongy bone's meshes are.
        fade: (a, b): the tube counts `clip(a + b v^2, 0, 1)` times, for a plate that fuses.
        scar: Where a fused plate was, and how strong its line is; None without one.
    """

    origin: Point
    axis: Point
    near: End
    far: End
    span: tuple[float, float]
    half_width: FloatArray
    cortex: FloatArray
    density: FloatArray
    unit_mm: float
    bow_mm: float = 0.0
    depth: float = 0.8
    stretch: float = 3.0
    fade: tuple[float, float] = (1.0, 0.0)
    scar: tuple[End, float] | None = None


@dataclass(frozen=True)
class Pebble:
    """A bone without a shaft: a rounded body inside a closed outline.

    Attributes:
        centre: Its middle, mm.
        radii: (OUTLINE_SIZE,) distance to the outline at equal angles from +x to +y, mm.
        depth_mm: Half its thickness along the beam.
        shell_mm: Thickness of its compact shell.
        density: Compact share of the spongy inside.
    """

    centre: Point
    radii: FloatArray
    depth_mm: float
    shell_mm: float
    density: float


@dataclass(frozen=True)
class Flesh:
    """Soft tissue: the silhouette's ingredients and its thickness.

    Attributes:
        chains: Fingers as chains of (x, y, radius) discs, mm.
        palm: Discs whose convex hull is the palm.
        webs: Filled polygons between neighbouring fingers.
        forearm: Polygon from the wrist far down the arm.
        arm_axis: Unit vector down the forearm.
        pads: Muscles as (x, y, radius, extra half thickness) bells, mm.
        folds: Discs whose hulls are bulges with an edge: the ball of the thumb, the pads
            below the fingers.
        finger_mm: Half thickness of a finger along the beam.
        palm_mm: Half thickness of the palm.
        fillet_mm: Radius of the fillets between the fingers.
        crease_mm: Depth of the fold at the wrist (plump babies), 0 for none.
    """

    chains: tuple[tuple[tuple[float, float, float], ...], ...]
    palm: tuple[tuple[float, float, float], ...]
    webs: tuple[tuple[Point, ...], ...]
    forearm: tuple[Point, ...]
    arm_axis: Point
    pads: tuple[tuple[float, float, float, float], ...]
    folds: tuple[tuple[tuple[float, float, float], ...], ...]
    finger_mm: float
    palm_mm: float
    fillet_mm: float
    crease_mm: float


@dataclass(frozen=True)
class Hand:
    """All parts of a hand, in its own frame.

    Attributes:
        tubes: Tubular bones and their epiphyses.
        pebbles: Carpals and sesamoid.
        flesh: Soft tissue.
    """

    tubes: tuple[Tube, ...]
    pebbles: tuple[Pebble, ...]
    flesh: Flesh


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


def profile(knots: Knots, span: tuple[float, float]) -> FloatArray:
    """Sample a smooth curve through (distance, value) knots at TABLE_SIZE points of a span."""
    at, values = zip(*knots, strict=True)
    curve = np.interp(_STEPS * (span[1] - span[0]) + span[0], at, values).astype(np.float32)
    smooth = cv2.GaussianBlur(curve[None, :], (0, 0), TABLE_SIZE / 60.0, borderType=_REPLICATE)
    return np.asarray(smooth[0])


def outline(points: tuple[Point, ...], roundness: float) -> FloatArray:
    """Radii at equal angles of a closed polygon around the origin, blended with an ellipse.

    Args:
        points: Corners, counted around the origin.
        roundness: 1 for the ellipse of the same spread, 0 for the (softened) polygon.

    Returns:
        (OUTLINE_SIZE,) radii, in the points' unit.
    """
    corners = np.array(points, dtype=np.float64)
    share = np.linspace(0.0, 1.0, 16, endpoint=False)[None, :, None]
    steps = np.roll(corners, -1, axis=0) - corners
    dense = (corners[:, None] + steps[:, None] * share).reshape(-1, 2)
    theta = np.arctan2(dense[:, 1], dense[:, 0])
    angles = np.linspace(-np.pi, np.pi, OUTLINE_SIZE, endpoint=False)
    order = np.argsort(theta)
    radii = np.interp(angles, theta[order], np.hypot(*dense.T)[order], period=2 * np.pi)
    kernel = np.hanning(23)[1:-1]
    kernel /= kernel.sum()
    radii = np.convolve(np.concatenate([radii[-10:], radii, radii[:10]]), kernel, mode="valid")
    width, height = np.abs(dense).mean(axis=0) * (np.pi / 2)
    ellipse = width * height / np.hypot(height * np.cos(angles), width * np.sin(angles))
    return np.asarray((1.0 - roundness) * radii + roundness * ellipse, dtype=np.float32)
