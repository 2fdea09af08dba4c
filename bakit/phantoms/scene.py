"""Layout of the image: position of the hand, collimation, scale."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from bakit.phantoms.shapes import Camera

if TYPE_CHECKING:
    from bakit.phantoms.shapes import FloatArray, Hand, Point

# Width over height of the image: the plates and crops that hospitals send.
_ASPECTS: Final = (0.66, 0.72, 0.74, 0.74, 0.77, 0.79, 0.80, 0.83, 0.87, 0.90, 1.0)


@dataclass(frozen=True)
class Scene:
    """A hand in front of a camera.

    Attributes:
        camera: From the hand's frame to the rendered image's pixels.
        corners: (4, 2) corners of the exposed field, pixels.
        whole: Whether the field fills the image.
    """

    camera: Camera
    corners: FloatArray
    whole: bool

    def field(self, penumbra_mm: float) -> FloatArray:
        """Exposed share of every pixel, 0 to 1, (H, W)."""
        if self.whole:
            return np.ones(self.camera.shape, dtype=np.float32)
        mask = np.zeros(self.camera.shape, dtype=np.uint8)
        fixed = np.round(self.corners * 16.0).astype(np.int32)
        cv2.fillConvexPoly(mask, fixed, 255, cv2.LINE_AA, 4)
        sigma = max(penumbra_mm * self.camera.scale, 0.35)
        return np.asarray(cv2.GaussianBlur(mask, (0, 0), sigma).astype(np.float32) / 255.0)


def lay_out(
    rng: np.random.Generator, hand: Hand, rows: int, step: int, *, tilted: bool, collimated: bool
) -> Scene:
    """Place a hand in an image.

    A tilted plate is rotated in the image; a collimated field is smaller than it. The number of
    draws is constant; the image's columns are a multiple of ``step``.

    Returns:
        The scene; the hand's fingers are inside the field and the forearm leaves it below.
    """
    turn = float(np.clip(rng.normal(0.0, 6.0), -20.0, 20.0))
    aspect = float(_ASPECTS[int(rng.integers(len(_ASPECTS)))])
    arm, top, left, right, lean, zoom, sign, sway = (float(value) for value in rng.random(8))
    edges = rng.random(4)
    fringe = (0.04 * sway - 0.01, 0.14)[collimated]
    tilt = 0.0
    if tilted:
        tilt = math.copysign(3.0 + 22.0 * lean**1.6, sign - 0.5)
    elif collimated:
        tilt = 4.0 * (lean - 0.5)

    unit = Camera(1.0, turn, (0.0, 0.0), (1, 1))
    discs = [disc for chain in (*hand.flesh.chains, hand.flesh.palm) for disc in chain]
    placed = [(*unit.turn((x, y)), radius) for x, y, radius in discs]
    reach = -min(y - r for _, y, r in placed)
    down = unit.turn(hand.flesh.arm_axis)
    bottom = reach * (0.10 + 0.38 * arm)
    # A forearm that runs off sideways still has to cross most of the lower border.
    foot = down[0] / max(down[1], 0.3) * bottom
    x0 = min(*(x - r for x, _, r in placed), foot - 0.12 * reach)
    x1 = max(*(x + r for x, _, r in placed), foot + 0.12 * reach)
    x0 -= (0.03 + 0.20 * left**1.5) * (x1 - x0)
    x1 += (0.03 + 0.20 * right**1.5) * (x1 - x0)
    y0 = -reach * (1.03 + 0.17 * top**1.5)
    if collimated or tilted:
        # Shutters follow the hand; the plate around them is larger.
        margin = 1.0 + fringe * (0.4 + zoom)
        box = ((x0, y0), (x1, bottom))
    else:
        margin = 1.0
        wide = max(x1 - x0, aspect * (bottom - y0))
        tall = max(bottom - y0, wide / aspect)
        grow_x, grow_y = wide - (x1 - x0), tall - (bottom - y0)
        x0 -= grow_x * (0.25 + 0.5 * sway)
        box = ((x0, y0 - 0.4 * grow_y), (x0 + wide, bottom + 0.6 * grow_y))
    (x0, y0), (x1, y1) = box
    whole = not (collimated or tilted)
    sine, cosine = abs(math.sin(math.radians(tilt))), math.cos(math.radians(tilt))
    spread_x = (x1 - x0) * cosine + (y1 - y0) * sine
    spread_y = (x1 - x0) * sine + (y1 - y0) * cosine
    tall = margin * spread_y
    wide = margin * spread_x
    if not whole:
        wide, tall = max(wide, aspect * tall * 0.94), max(tall, wide / 1.0)
    scale = rows / tall
    columns = max(round(wide * scale / step), 1) * step
    middle = Camera(scale, tilt, (0.0, 0.0), (rows, columns))
    cx, cy = middle.turn(((x0 + x1) / 2.0, (y0 + y1) / 2.0))
    slack_x = (columns - spread_x * scale) * (float(edges[0]) - 0.5) * 0.8
    slack_y = (rows - spread_y * scale) * (float(edges[1]) - 0.5) * 0.8
    origin = (columns / 2.0 - cx * scale + slack_x, rows / 2.0 - cy * scale + slack_y)
    if whole:
        origin = (-x0 * scale, -y0 * scale)
    plate = Camera(scale, tilt, origin, (rows, columns))
    corners: list[Point] = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
    field = np.array([plate.place(corner) for corner in corners], dtype=np.float32)
    return Scene(Camera(scale, turn + tilt, origin, (rows, columns)), field, whole)
