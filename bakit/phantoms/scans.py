"""Generated scans without a hand: cross-sections, ultrasound, overviews of other body parts.

They are drawn in the manner of ``bakit.phantoms.decoys``.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.phantoms.canvas import bone, clouds, limb, oval

if TYPE_CHECKING:
    from bakit.phantoms.canvas import Picture, Random


def _speckle(picture: Picture, rng: Random, size: float) -> Picture:
    grain = cv2.GaussianBlur(rng.normal(size=picture.shape).astype("f4"), (0, 0), size)
    speckle: Picture = np.abs(grain / max(float(grain.std()), 1e-6)).astype(np.float32)
    return speckle


def _write(picture: Picture, text: str, at: tuple[int, int]) -> None:
    page = np.zeros(picture.shape, np.uint8)
    cv2.putText(page, text, at, cv2.FONT_HERSHEY_PLAIN, 1, 255, 1, cv2.LINE_AA)
    np.maximum(picture, page.astype(np.float32) / np.float32(255), out=picture)


def ct_slice(picture: Picture, rng: Random) -> None:
    """Draw a cross-section of a trunk: a ring of fat and muscle, organs, a vertebra, ribs."""
    wide, high = rng.uniform(0.3, 0.46), rng.uniform(0.22, 0.36)
    oval(picture, (0.5, 0.5), (wide, high), 0, 0.35)
    oval(picture, (0.5, 0.5), (0.93 * wide, 0.9 * high), 0, 0.2)
    dark = rng.random() < 0.5  # lungs, or organs
    for side in (-1, 1):
        at = (0.5 + side * 0.5 * wide, 0.47)
        oval(picture, at, (0.35 * wide, rng.uniform(0.4, 0.65) * high), 0, -0.5 if dark else 0.2)
    oval(picture, (0.5, 0.5 + 0.62 * high), (0.12 * wide, 0.14 * high), 0, 0.6)
    for angle in np.linspace(0.3, 2 * math.pi - 0.3, int(rng.integers(6, 16))):
        at = (0.5 + 0.9 * wide * math.sin(angle), 0.5 + 0.87 * high * math.cos(angle))
        oval(picture, at, (0.06 * wide, 0.03), math.degrees(-angle), 0.6)
    if rng.random() < 0.6:  # the table
        limb(picture, [(0.15, 0.93), (0.5, 0.96), (0.85, 0.93)], [0.008] * 3, 0.3)


def mr_head(picture: Picture, rng: Random) -> Picture:
    """Draw a cross-section of a head: skin, skull, folded brain, ventricles."""
    wide, high = rng.uniform(0.3, 0.38), rng.uniform(0.36, 0.44)
    oval(picture, (0.5, 0.5), (wide, high), 0, rng.uniform(0.6, 0.9))
    oval(picture, (0.5, 0.5), (0.9 * wide, 0.92 * high), 0, -0.5)
    inside = np.zeros_like(picture)
    oval(inside, (0.5, 0.5), (0.85 * wide, 0.87 * high), 0, 1.0)
    folds = clouds(picture.shape, rng, rng.uniform(1.2, 1.7))
    picture += inside * (np.float32(0.25) + np.float32(0.5) * (folds > 0.5))
    for side in (-1, 1):
        oval(picture, (0.5 + side * 0.06, 0.48), (0.03, 0.12), side * 12, -0.4)
    return picture


def ultrasound(picture: Picture, rng: Random) -> Picture:
    """Draw speckle in a fan or a rectangle, with dark vessels and a bright scale."""
    height, width = picture.shape
    y, x = np.mgrid[:height, :width].astype(np.float32)
    middle, top = width * rng.uniform(0.4, 0.6), -height * rng.uniform(0.0, 0.3)
    radius, angle = np.hypot(x - middle, y - top), np.arctan2(x - middle, y - top)
    half = rng.uniform(0.4, 0.8)
    reach = height * rng.uniform(0.75, 0.95) - top
    fan = (np.abs(angle) < half) & (radius < reach) & (radius > 0.06 * height - top)
    if rng.random() < 0.3:
        fan = (np.abs(x - middle) < 0.35 * width) & (y > 0.06 * height) & (y < 0.9 * height)
    grey = (
        0.3 * _speckle(picture, rng, rng.uniform(0.8, 2)) * (0.4 + clouds(picture.shape, rng, 1.6))
    )
    for _ in range(int(rng.integers(1, 6))):
        shape = np.zeros_like(picture)
        axes = (rng.uniform(0.03, 0.15), rng.uniform(0.02, 0.1))
        oval(shape, (rng.uniform(0.3, 0.7), rng.uniform(0.25, 0.8)), axes, rng.uniform(0, 90), 1)
        grey = grey * (1 - np.float32(rng.uniform(0.5, 1)) * shape)
    found: Picture = np.where(fan, grey, 0).astype(np.float32)
    _write(found, f"{rng.integers(1, 99)} Hz", (5, 20))
    found[height // 10 :: max(height // 12, 1), -8:-3] = 1
    return found


def ct_scout(picture: Picture, rng: Random) -> None:
    """Draw head, neck, trunk and arms from the front, as the overview of a CT."""
    limb(picture, [(0.5, 0.02), (0.5, 0.2)], [0.1, 0.12], 0.7)
    limb(picture, [(0.5, 0.2), (0.5, 0.32), (0.5, 1.0)], [0.06, rng.uniform(0.2, 0.3), 0.25], 0.7)
    for side in (-1, 1):
        raised = rng.random() < 0.5
        end = (0.5 + side * 0.3, 0.0 if raised else 0.9)
        limb(picture, [(0.5 + side * 0.25, 0.33), end], [0.07, 0.05], 0.4)
        oval(picture, (0.5 + side * 0.11, 0.48), (0.09, 0.15), side * 5, -0.4)
    for step in range(16):
        oval(picture, (0.5, 0.2 + 0.05 * step), (0.04, 0.018), 0, 0.4)
    for side in (-1, 1):
        for rib in range(8):
            y = 0.33 + 0.045 * rib
            bone(picture, [(0.5, y), (0.5 + side * 0.2, y + 0.05)], [0.008, 0.008], 0.3)


def spine(picture: Picture, rng: Random) -> None:
    """Draw a spine from the side, in a long field."""
    bend = rng.uniform(-0.2, 0.2)
    limb(picture, [(0.5, -0.05), (0.5 + bend, 0.5), (0.5, 1.05)], [0.3, 0.34, 0.3], 0.5)
    for step in range(int(rng.integers(7, 14))):
        y = 0.03 + 0.09 * step
        x = 0.45 + bend * math.sin(math.pi * min(y, 1))
        oval(picture, (x, y), (0.09, 0.033), rng.uniform(-8, 8), 0.5)
        bone(picture, [(x + 0.1, y), (x + 0.2, y + 0.05)], [0.012, 0.012], 0.4)


def breast(picture: Picture, rng: Random) -> Picture:
    """Draw half an ellipse of cloudy tissue at an edge, with a label."""
    oval(picture, (0.0, 0.5), (rng.uniform(0.5, 0.85), rng.uniform(0.3, 0.42)), 0, 0.4)
    picture *= 0.5 + clouds(picture.shape, rng, 1.6)
    _write(picture, "R MLO", (int(0.7 * picture.shape[1]), 30))
    return picture
