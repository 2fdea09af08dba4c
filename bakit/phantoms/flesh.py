"""Soft tissue: the silhouette of the hand and its thickness, in millimetres."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import numpy.typing as npt

from bakit.phantoms.shapes import Camera, coarse_blur

if TYPE_CHECKING:
    from bakit.phantoms.shapes import Flesh, FloatArray

_ROWS: Final = 320  # the silhouette is drawn on a grid this fine and then enlarged
_FLATNESS: Final = 0.81  # hands are flatter than round
_CORNERS: Final = np.linspace(0.0, 2.0 * np.pi, 24, endpoint=False)
_RING: Final = np.stack([np.cos(_CORNERS), np.sin(_CORNERS)], axis=1)
_FOLDS_MM: Final = (1.5, 0.7)  # rise of the thumb's ball and of the pads below the fingers


def flesh_map(
    flesh: Flesh, camera: Camera, seed: tuple[int, ...]
) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Soft tissue per pixel in millimetres, and its mask; both (H, W)."""
    rows, columns = camera.shape
    factor = min(1.0, _ROWS / rows)
    shape = (max(round(rows * factor), 8), max(round(columns * factor), 8))
    small = Camera(
        camera.scale * factor, camera.turn_deg,
        (camera.origin[0] * shape[1] / columns, camera.origin[1] * shape[0] / rows), shape,
    )  # fmt: skip
    # The frame is padded so that distances are right where the forearm leaves the image.
    pad = math.ceil(flesh.palm_mm * small.scale) + 4
    big = Camera(
        small.scale, small.turn_deg, (small.origin[0] + pad, small.origin[1] + pad),
        (shape[0] + 2 * pad, shape[1] + 2 * pad),
    )  # fmt: skip
    canvas = np.zeros(big.shape, dtype=np.uint8)
    palm = np.zeros(big.shape, dtype=np.uint8)
    _draw_palm(palm, flesh, big)
    canvas |= palm
    for chain in flesh.chains:
        for first, second in itertools.pairwise(chain):
            _fill_hull(canvas, (first, second), big)
    signed = _closed_distance(canvas, palm, flesh.fillet_mm * big.scale) / big.scale
    deep = np.full(big.shape, flesh.finger_mm, dtype=np.float32)
    deep[palm > 0] = flesh.palm_mm
    deep = coarse_blur(deep, 5.5 * big.scale)
    deep += _bells(flesh, big)
    if flesh.crease_mm > 0.0:
        deep += _crease(flesh, big)
    bulge = _bulges(flesh, big)
    rng = np.random.default_rng(seed)
    lumps = rng.standard_normal((9, 9)).astype(np.float32)
    lumpy = cv2.resize(lumps, big.shape[::-1], interpolation=cv2.INTER_CUBIC)
    deep *= 1.0 + 0.03 * lumpy
    crop = (slice(pad, pad + shape[0]), slice(pad, pad + shape[1]))
    full = (columns, rows)
    distance = np.asarray(
        cv2.resize(signed[crop], full, interpolation=cv2.INTER_CUBIC), dtype=np.float32
    )
    square = np.asarray(cv2.resize(deep[crop], full), dtype=np.float32)
    rise = np.asarray(cv2.resize(bulge[crop], full), dtype=np.float32)
    inside = np.clip(distance, 0.0, square)
    # A round edge: half thickness sqrt(d (2 R - d)) at a depth d below R.
    square *= 2.0
    square -= inside
    square *= inside
    thick = np.sqrt(square)
    thick *= 2.0 * _FLATNESS
    thick += np.minimum(rise, thick)
    return np.asarray(thick), np.asarray(distance > 0.0)


def _circle(disc: tuple[float, float, float], camera: Camera) -> npt.NDArray[np.float32]:
    """(24, 2) corners of a disc, pixels."""
    x, y = camera.place(disc[:2])
    return np.asarray(_RING * (disc[2] * camera.scale) + np.array((x, y)), dtype=np.float32)


def _fill_hull(
    canvas: npt.NDArray[np.uint8], discs: tuple[tuple[float, float, float], ...], camera: Camera
) -> None:
    hull = cv2.convexHull(np.concatenate([_circle(disc, camera) for disc in discs]))
    _fill(canvas, np.asarray(hull[:, 0], dtype=np.float32))


def _fill(canvas: npt.NDArray[np.uint8], corners: npt.NDArray[np.float32]) -> None:
    fixed = np.round(corners * 16.0).astype(np.int32)
    cv2.fillPoly(canvas, [fixed], 255, cv2.LINE_8, 4)


def _draw_palm(canvas: npt.NDArray[np.uint8], flesh: Flesh, camera: Camera) -> None:
    _fill_hull(canvas, flesh.palm, camera)
    for polygon in (*flesh.webs, flesh.forearm):
        _fill(canvas, np.array([camera.place(corner) for corner in polygon], dtype=np.float32))


def _closed_distance(
    canvas: npt.NDArray[np.uint8], palm: npt.NDArray[np.uint8], fillet: float
) -> FloatArray:
    """Signed distance to a silhouette (positive inside) with its webs rounded, pixels."""
    away = cv2.distanceTransform(255 - canvas, cv2.DIST_L2, cv2.DIST_MASK_5)
    grown = (away < fillet).astype(np.uint8)
    back = cv2.distanceTransform(grown, cv2.DIST_L2, cv2.DIST_MASK_5) - fillet
    # Only next to the palm: fingers that nearly touch further up stay apart.
    beyond = cv2.distanceTransform(255 - palm, cv2.DIST_L2, cv2.DIST_MASK_5)
    closed = ((canvas > 0) | ((back > 0.0) & (beyond < 1.5 * fillet))).astype(np.uint8)
    inside = cv2.distanceTransform(closed, cv2.DIST_L2, cv2.DIST_MASK_5)
    outside = cv2.distanceTransform(1 - closed, cv2.DIST_L2, cv2.DIST_MASK_5)
    signed = inside - outside
    return np.asarray(cv2.GaussianBlur(signed, (0, 0), 2.4))


def _bulges(flesh: Flesh, camera: Camera) -> FloatArray:
    """Extra thickness of the pads that end in a visible fold, mm."""
    total = np.zeros(camera.shape, dtype=np.float32)
    for discs, height in zip(flesh.folds, _FOLDS_MM, strict=True):
        canvas = np.zeros(camera.shape, dtype=np.uint8)
        _fill_hull(canvas, discs, camera)
        depth = cv2.distanceTransform(canvas, cv2.DIST_L2, cv2.DIST_MASK_5)
        rise = 1.0 - np.clip(depth * (1.0 / (4.5 * camera.scale)), 0.0, 1.0)
        total += height * np.sqrt(1.0 - rise * rise)
    return np.asarray(cv2.GaussianBlur(total, (0, 0), 0.8))


def _crease(flesh: Flesh, camera: Camera) -> FloatArray:
    """Change of half thickness at the fold that plump babies have at the wrist, mm."""
    x0, y0 = camera.place((0.0, 0.0))
    ax, ay = camera.turn(flesh.arm_axis)
    xs = ((np.arange(camera.shape[1]) - x0) / camera.scale).astype(np.float32)[None, :]
    ys = ((np.arange(camera.shape[0]) - y0) / camera.scale).astype(np.float32)[:, None]
    along, across = xs * ax + ys * ay, ys * ax - xs * ay
    along += 0.006 * across * across + 1.0
    fold = np.exp(-(((along + 1.2) / 1.6) ** 2)) - 1.3 * np.exp(-(((along - 0.8) / 0.9) ** 2))
    return np.asarray(flesh.crease_mm * fold, dtype=np.float32)


def _bells(flesh: Flesh, camera: Camera) -> FloatArray:
    """Extra half thickness of the palm's muscles, mm."""
    rows, columns = camera.shape
    total = np.zeros(camera.shape, dtype=np.float32)
    for x, y, radius, extra in flesh.pads:
        px, py = camera.place((x, y))
        spread = radius * camera.scale
        along_x = np.exp(-(((np.arange(columns) - px) / spread) ** 2)).astype(np.float32)
        along_y = np.exp(-(((np.arange(rows) - py) / spread) ** 2)).astype(np.float32)
        total += np.float32(extra) * along_y[:, None] * along_x[None, :]
    return total
