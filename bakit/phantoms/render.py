"""Render bones to a thickness map: millimetres of compact bone per ray."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from bakit.phantoms.shapes import OUTLINE_SIZE, TABLE_SIZE

if TYPE_CHECKING:
    from bakit.phantoms.shapes import Camera, End, FloatArray, Hand, Pebble, Point, Tube

_TILE_MM: Final = 38.4  # the spongy texture repeats after this much bone
_TILE_SIZE: Final = 768
_OVERLAP: Final = 0.45  # share of the thinner carpal that counts where two overlap


def bone_map(hand: Hand, camera: Camera, seed: tuple[int, ...]) -> FloatArray:
    """Compact bone per pixel in millimetres, (H, W)."""
    out = np.zeros(camera.shape, dtype=np.float32)
    # Meshes finer than a pixel average out, so the texture is blurred to the pixel's size first.
    octave = max(0, math.ceil(2.0 * math.log2(max(8.0 / camera.scale, 1.0))))
    tile = _spongy_tile(octave)
    shifts = np.random.default_rng(seed).random((len(hand.tubes) + len(hand.pebbles), 2))
    for tube, shift in zip(hand.tubes, shifts, strict=False):
        _add_tube(out, tube, camera, tile, shift)
    carpals = np.zeros_like(out)
    for pebble, shift in zip(hand.pebbles, shifts[len(hand.tubes) :], strict=True):
        _add_pebble(carpals, pebble, camera, tile, shift)
    out += carpals
    return out


@functools.lru_cache(maxsize=16)
def _spongy_tile(octave: int) -> FloatArray:
    """A periodic net of bright strands, mean 0, one texture for all bones of all hands."""
    rng = np.random.default_rng((20, 1898))
    cell = _TILE_MM / _TILE_SIZE
    total = np.zeros((_TILE_SIZE, _TILE_SIZE), dtype=np.float32)
    for mesh_mm, weight in ((0.13, 1.0), (0.22, 1.0), (0.42, 0.5)):
        noise = rng.standard_normal((_TILE_SIZE, _TILE_SIZE)).astype(np.float32)
        noise = _wrap_blur(noise, mesh_mm / cell)
        noise /= noise.std()
        # The zero crossings of smooth noise form a net, like the plates of spongy bone.
        total += weight * (np.exp(-np.abs(noise) * 1.6).astype(np.float32) - 0.42)
    sigma = 0.05 * 2.0 ** (octave / 2.0) / cell
    total = _wrap_blur(total, sigma)
    total -= total.mean()
    return np.asarray(total / 0.32, dtype=np.float32)


def _wrap_blur(image: FloatArray, sigma: float) -> FloatArray:
    pad = min(int(4 * sigma) + 1, _TILE_SIZE)
    wide = np.pad(image, pad, mode="wrap")
    return np.asarray(cv2.GaussianBlur(wide, (0, 0), sigma)[pad:-pad, pad:-pad])


def _window(camera: Camera, corners: list[Point], margin: float) -> tuple[slice, slice] | None:
    """Rows and columns around some points (mm), clipped to the image; None when outside."""
    xs, ys = zip(*(camera.place(corner) for corner in corners), strict=True)
    rows, columns = camera.shape
    x0, x1 = max(math.floor(min(xs) - margin), 0), min(math.ceil(max(xs) + margin), columns)
    y0, y1 = max(math.floor(min(ys) - margin), 0), min(math.ceil(max(ys) + margin), rows)
    return (slice(y0, y1), slice(x0, x1)) if x0 < x1 and y0 < y1 else None


def _end_curve(end: End, across: FloatArray) -> FloatArray:
    """Distance of an end along the axis at each position across the bone."""
    square = across * across
    curve = end.at_mm + end.linear * across + end.square * square
    if end.rim:
        curve += end.rim * square * square * square
    if end.notch:
        offset = across - end.notch_at
        curve += end.notch * np.exp(-offset * offset * 12.0)
    return curve


def _taper(depth: FloatArray, length: float) -> FloatArray:
    """Share of the full thickness at a depth behind an end that is rounded over a length."""
    slope = 1.0 - np.clip(depth * (1.0 / max(length, 1e-3)), 0.0, 1.0)
    return np.asarray(np.sqrt(1.0 - slope * slope), dtype=np.float32)


def _chord(offset: FloatArray, half: FloatArray) -> FloatArray:
    """Half thickness of a round rod at an offset from its axis."""
    return np.asarray(np.sqrt(np.maximum(half * half - offset * offset, 0.0)), dtype=np.float32)


def _add_tube(
    out: FloatArray, tube: Tube, camera: Camera, tile: FloatArray, shift: FloatArray
) -> None:
    (ox, oy), (ax, ay) = tube.origin, tube.axis
    low, high = tube.span
    low -= abs(tube.near.square) + abs(tube.near.linear) + abs(tube.near.rim) + abs(tube.near.notch)
    reach = float(tube.half_width.max()) + abs(tube.bow_mm)
    corners = [
        (ox + ax * t - ay * v, oy + ay * t + ax * v)
        for t in (low, min(high + 1.0, low + 320.0))
        for v in (-reach, reach)
    ]
    window = _window(camera, corners, 1.0)
    if window is None:
        return
    along, across = _bone_axes(camera, tube.origin, tube.axis, window)
    step = (TABLE_SIZE - 1) / (tube.span[1] - tube.span[0])
    index = np.clip((along - tube.span[0]) * step, 0, TABLE_SIZE - 1).astype(np.int32)
    if tube.bow_mm:
        share = np.clip(along / tube.span[1], 0.0, 1.0)
        across -= 4.0 * tube.bow_mm * share * (1.0 - share)
    half, wall = tube.half_width[index], tube.cortex[index]
    v = np.clip(across * (1.0 / tube.unit_mm), -1.2, 1.2)
    before = along - _end_curve(tube.near, v)
    after = _end_curve(tube.far, v) - along
    outer = _chord(across, half)
    outer *= _taper(before, tube.near.round_mm) * _taper(after, tube.far.round_mm)
    inner = _chord(across, np.maximum(half - wall, 0.0))
    inner *= _taper(before - tube.near.plate_mm, tube.near.round_mm)
    inner *= _taper(after - tube.far.plate_mm, tube.far.round_mm)
    inner = np.minimum(inner, outer)
    mesh = _texture(along / tube.stretch, across, tile, shift)
    # The thicker the bone, the more strands lie behind each other and even out.
    contrast = 0.33 * min(1.0, 4.5 / tube.unit_mm) ** 0.5
    spongy = tube.density[index] * (1.0 + contrast * mesh)
    path = outer - inner * (1.0 - spongy)
    if tube.scar is not None and tube.scar[1] > 0.0:
        line = (along - _end_curve(tube.scar[0], v)) / 0.45
        path += tube.scar[1] * outer * np.exp(-line * line)
    a, b = tube.fade
    if (a, b) != (1.0, 0.0):
        path *= np.clip(a + b * v * v, 0.0, 1.0)
    out[window] += (2.0 * tube.depth) * path


def _bone_axes(
    camera: Camera, origin: Point, axis: Point, window: tuple[slice, slice]
) -> tuple[FloatArray, FloatArray]:
    """Distances along and across an axis for every pixel of a window, mm."""
    ox, oy = camera.place(origin)
    ax, ay = camera.turn(axis)
    columns = (np.arange(window[1].start, window[1].stop) + (0.5 - ox)) / camera.scale
    rows = (np.arange(window[0].start, window[0].stop) + (0.5 - oy)) / camera.scale
    xs: FloatArray = columns.astype(np.float32)[None, :]
    ys: FloatArray = rows.astype(np.float32)[:, None]
    return xs * np.float32(ax) + ys * np.float32(ay), ys * np.float32(ax) - xs * np.float32(ay)


def _texture(
    first: FloatArray, second: FloatArray, tile: FloatArray, shift: FloatArray
) -> FloatArray:
    """Sample the spongy texture at two coordinates in mm, both (H, W)."""
    cell = _TILE_SIZE / _TILE_MM
    map_x = first * np.float32(cell) + np.float32(shift[0] * _TILE_SIZE)
    map_y = second * np.float32(cell) + np.float32(shift[1] * _TILE_SIZE)
    return np.asarray(cv2.remap(tile, map_x, map_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_WRAP))


def _add_pebble(
    out: FloatArray, pebble: Pebble, camera: Camera, tile: FloatArray, shift: FloatArray
) -> None:
    reach = float(pebble.radii.max()) + 0.5
    x, y = pebble.centre
    corners = [(x + dx, y + dy) for dx in (-reach, reach) for dy in (-reach, reach)]
    window = _window(camera, corners, 1.0)
    if window is None:
        return
    dx_mm, dy_mm = _bone_axes(camera, pebble.centre, (1.0, 0.0), window)
    radius: FloatArray = np.hypot(dx_mm, dy_mm)
    theta = np.arctan2(dy_mm, dx_mm)
    place = (theta + np.pi) * (OUTLINE_SIZE / (2.0 * np.pi))
    index = place.astype(np.int32)
    part = place - index
    index %= OUTLINE_SIZE
    nearby = pebble.radii[(index + 1) % OUTLINE_SIZE]
    edge = pebble.radii[index] * (1.0 - part) + nearby * part
    q = radius / edge
    hollow = np.maximum(edge - pebble.shell_mm, 0.05)
    outer = np.sqrt(np.maximum(1.0 - q * q, 0.0))
    q = radius / hollow
    inner = np.sqrt(np.maximum(1.0 - q * q, 0.0)) * max(1.0 - pebble.shell_mm / pebble.depth_mm, 0)
    mesh = _texture(dx_mm, dy_mm * np.float32(0.8), tile, shift)
    spongy = pebble.density * (1.0 + 0.24 * mesh)
    path = 2.0 * pebble.depth_mm * (outer - inner * (1.0 - spongy))
    # Neighbours interlock rather than stack, so an overlap counts less than the sum.
    under = out[window]
    out[window] = np.maximum(under, path) + _OVERLAP * np.minimum(under, path)
