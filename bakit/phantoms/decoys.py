"""Generated images without a hand: kinds to fit the limits on, and held-out kinds to test them.

An image depends only on its kind and seed.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

from bakit.phantoms.canvas import blank, bone, clouds, film, in_bytes, limb, oval
from bakit.phantoms.scans import breast, ct_scout, ct_slice, mr_head, spine, ultrasound

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from bakit.phantoms.canvas import Picture, Random
    from bakit.types import Bytes, Mask

    Drawing: TypeAlias = Callable[[Picture, Random], npt.NDArray[Any] | None]
    """Draws on a black image, or returns a new float image or a finished uint8 image."""


def draw(kind: str, seed: int) -> Bytes:
    """Return one image ``(H, W)`` of a kind in ``LEARNED`` or ``MET``."""
    rng = np.random.default_rng([seed, *kind.encode()])
    picture = blank(rng)
    drawn = (LEARNED | MET)[kind](picture, rng)
    if drawn is not None and drawn.dtype == np.uint8:
        return drawn
    return film(picture if drawn is None else drawn, rng)


# Kinds to fit on


def _foot_from_above(picture: Picture, rng: Random) -> None:
    lean = rng.uniform(-0.06, 0.06)
    spine = [(0.5, 0.92), (0.5 + lean, 0.6), (0.5, 0.38)]
    limb(picture, spine, [0.16, rng.uniform(0.13, 0.18), rng.uniform(0.2, 0.27)], 0.5)
    for toe in range(5):
        x = 0.5 + (toe - 2) * rng.uniform(0.075, 0.1)
        top = 0.16 + 0.035 * toe + rng.uniform(-0.01, 0.01)
        wide = 0.06 if toe == 0 else 0.035
        limb(picture, [(x, 0.34), (x, top)], [wide, wide], 0.4)
        middle = 0.5 + (x - 0.5) * 0.6
        bone(picture, [(middle, 0.62), (x, 0.38)], [0.022, 0.03], 0.7)
        bone(picture, [(x, 0.35), (x, top + 0.03)], [0.02, 0.015], 0.7)
    oval(picture, (0.5, 0.8), (0.12, 0.1), 0, 0.3)


def _chest(picture: Picture, rng: Random) -> None:
    """Draw a bright trunk with two dark lungs, ribs, a heart and a spine."""
    limb(picture, [(0.5, 0.15), (0.5, 0.95)], [rng.uniform(0.3, 0.36), 0.42], 0.9)
    for side in (-1, 1):
        oval(picture, (0.5 + side * 0.2, 0.5), (0.14, rng.uniform(0.26, 0.34)), side * 6, -0.5)
        for rib in range(7):
            y = 0.2 + 0.09 * rib
            points = [(0.5, y), (0.5 + side * 0.2, y + 0.02), (0.5 + side * 0.34, y + 0.12)]
            bone(picture, points, [0.012] * 3, 0.35)
        bone(picture, [(0.5, 0.13), (0.5 + side * 0.36, 0.1)], [0.018, 0.015], 0.5)
    oval(picture, (0.55, 0.6), (0.13, 0.13), 30, 0.45)
    bone(picture, [(0.5, 0.05), (0.5, 0.98)], [0.04, 0.05], 0.4)


def _forearm(picture: Picture, rng: Random) -> None:
    tilt = rng.uniform(-0.25, 0.25)
    ends = [(0.5 - tilt, -0.05), (0.5 + tilt, 1.05)]
    limb(picture, ends, [rng.uniform(0.14, 0.22), rng.uniform(0.14, 0.25)], 0.5)
    for side in (-0.06, 0.06):
        bone(picture, [(x + side, y) for x, y in ends], [0.04, 0.035], 0.7)


def _skull(picture: Picture, rng: Random) -> None:
    oval(picture, (0.5, 0.42), (0.3, 0.32), rng.uniform(-15, 15), 0.5)
    oval(picture, (0.5, 0.42), (0.27, 0.29), 0, -0.2)
    for side in (-1, 1):
        oval(picture, (0.5 + side * 0.12, 0.48), (0.07, 0.06), 0, -0.22)
        bone(picture, [(0.5 + side * 0.2, 0.6), (0.5 + side * 0.1, 0.85)], [0.04, 0.05], 0.5)
    limb(picture, [(0.5, 0.7), (0.5, 1.0)], [0.16, 0.18], 0.3)


def _letter(picture: Picture, rng: Random) -> Picture:
    page = np.zeros(picture.shape[:2], np.uint8)
    step = int(rng.integers(8, 18))
    for y in range(2 * step, picture.shape[0] - step, step):
        word = "".join(chr(c) for c in rng.integers(65, 123, int(rng.integers(5, 40))))
        cv2.putText(page, word, (12, y), cv2.FONT_HERSHEY_PLAIN, step / 16, 255, 1, cv2.LINE_AA)
    grey: Picture = page.astype(np.float32) / np.float32(255)
    return 1 - grey if rng.random() < 0.6 else grey


def _noise(picture: Picture, rng: Random) -> Bytes:
    shape = picture.shape
    grain = rng.normal(0.5, rng.uniform(0.02, 0.3), shape).astype(np.float32)
    if rng.random() < 0.6:
        grain = cv2.GaussianBlur(grain, (0, 0), rng.uniform(0.5, 8)).astype(np.float32)
        grain = (grain - grain.min()) / max(float(np.ptp(grain)), 1e-6)
    return in_bytes(grain)


def _nearly_blank(picture: Picture, rng: Random) -> Bytes:
    """Draw one grey with weak noise, a gradient and sometimes a label."""
    picture += np.float32(rng.uniform(0.02, 0.9))
    picture += np.float32(rng.uniform(0, 0.15)) * np.linspace(0, 1, picture.shape[1])[None, :]
    picture += rng.normal(0, rng.uniform(0.002, 0.02), picture.shape).astype(np.float32)
    page = in_bytes(picture)
    if rng.random() < 0.4:
        cv2.putText(page, "L 12", (9, 30), cv2.FONT_HERSHEY_PLAIN, 1.5, 255, 2, cv2.LINE_AA)
    return page


def _blobs(picture: Picture, rng: Random) -> None:
    for _ in range(int(rng.integers(1, 7))):
        x, y = rng.uniform(0.1, 0.9, 2)
        a, b = rng.uniform(0.03, 0.35, 2)
        oval(picture, (x, y), (a, b), rng.uniform(0, 180), rng.uniform(0.2, 1))


def _plates(picture: Picture, rng: Random) -> None:
    height, width = picture.shape
    for _ in range(int(rng.integers(1, 6))):
        middle = (float(rng.uniform(0, width)), float(rng.uniform(0, height)))
        size = (float(rng.uniform(0.1, 0.9) * width), float(rng.uniform(0.1, 0.9) * height))
        corners = cv2.boxPoints((middle, size, float(rng.uniform(0, 90)))).astype(np.int32)
        cv2.fillPoly(picture, [corners], float(rng.uniform(0.1, 1)))


def _clouds(picture: Picture, rng: Random) -> Picture:
    return clouds(picture.shape, rng, rng.uniform(0.8, 2.2))


def _branches(picture: Picture, rng: Random) -> None:
    def grow(x: float, y: float, angle: float, length: float, width: float) -> None:
        end = (x + length * math.sin(angle), y - length * math.cos(angle))
        limb(picture, [(x, y), end], [width, width * 0.75], 0.4)
        if length > 0.07:
            for _ in range(int(rng.integers(2, 4))):
                turn = angle + rng.uniform(-0.9, 0.9)
                grow(*end, turn, length * rng.uniform(0.55, 0.8), width * 0.65)

    grow(0.5, 0.95, rng.uniform(-0.3, 0.3), rng.uniform(0.2, 0.32), rng.uniform(0.03, 0.07))


def _star(picture: Picture, rng: Random) -> None:
    spikes = int(rng.integers(3, 12))
    for spike in range(spikes):
        angle = 2 * math.pi * (spike + rng.uniform(-0.2, 0.2)) / spikes
        reach = rng.uniform(0.25, 0.45)
        end = (0.5 + reach * math.cos(angle), 0.5 + reach * math.sin(angle))
        limb(picture, [(0.5, 0.5), end], [rng.uniform(0.05, 0.12), 0.02], 0.5)


def _stripes(picture: Picture, rng: Random) -> Picture:
    y, x = np.mgrid[: picture.shape[0], : picture.shape[1]].astype(np.float32)
    angle, period = rng.uniform(0, math.pi), rng.uniform(6, 60)
    wave = np.sin((x * math.cos(angle) + y * math.sin(angle)) * np.float32(2 * math.pi / period))
    if rng.random() < 0.5:
        wave = wave * np.sin(
            (y * math.cos(angle) - x * math.sin(angle)) * np.float32(6.28 / period)
        )
    bright: Mask = wave > rng.uniform(-0.7, 0.7)
    return bright.astype(np.float32)


# Held-out kinds


def _foot_from_the_side(picture: Picture, rng: Random) -> None:
    limb(picture, [(0.35, -0.05), (0.36, 0.6)], [0.14, 0.13], 0.5)
    limb(picture, [(0.25, 0.72), (0.55, 0.72), (0.88, 0.8)], [0.14, 0.15, 0.06], 0.5)
    bone(picture, [(0.33, 0.0), (0.34, 0.58)], [0.045, 0.06], 0.7)
    bone(picture, [(0.42, 0.0), (0.42, 0.58)], [0.02, 0.02], 0.6)
    bone(picture, [(0.2, 0.75), (0.4, 0.68)], [0.07, 0.08], 0.6)
    for ray in range(3):
        y = 0.7 + 0.04 * ray
        bone(picture, [(0.5, y), (0.75, y + 0.06), (0.86, 0.82)], [0.025, 0.02, 0.015], 0.5)


def _knee(picture: Picture, rng: Random) -> None:
    bend = rng.uniform(-0.15, 0.15)
    limb(picture, [(0.5 - bend, -0.05), (0.5, 0.5), (0.5 + bend, 1.05)], [0.26, 0.24, 0.2], 0.5)
    bone(picture, [(0.5 - bend, -0.05), (0.5, 0.4)], [0.08, 0.1], 0.6)
    bone(picture, [(0.42, 0.44), (0.58, 0.44)], [0.09, 0.09], 0.6)
    bone(picture, [(0.4, 0.56), (0.6, 0.56)], [0.06, 0.06], 0.6)
    bone(picture, [(0.5, 0.6), (0.5 + bend, 1.05)], [0.09, 0.07], 0.6)
    bone(picture, [(0.64, 0.62), (0.62 + bend, 1.05)], [0.03, 0.03], 0.5)


def _pelvis(picture: Picture, rng: Random) -> None:
    limb(picture, [(0.5, 0.0), (0.5, 0.6)], [0.42, 0.45], 0.4)
    for side in (-1, 1):
        limb(picture, [(0.5 + side * 0.22, 0.55), (0.5 + side * 0.26, 1.05)], [0.2, 0.17], 0.4)
        oval(picture, (0.5 + side * 0.2, 0.35), (0.15, 0.18), side * 30, 0.4)
        oval(picture, (0.5 + side * 0.1, 0.62), (0.05, 0.07), 0, -0.25)
        bone(
            picture,
            [(0.5 + side * 0.24, 0.55), (0.5 + side * 0.34, 0.62), (0.5 + side * 0.3, 1.05)],
            [0.07, 0.06, 0.05],
            0.6,
        )
    bone(picture, [(0.5, 0.0), (0.5, 0.4)], [0.08, 0.06], 0.5)


def _jaw(picture: Picture, rng: Random) -> None:
    for row, y0 in ((0, 0.42), (1, 0.58)):
        for tooth in range(14):
            x = 0.1 + 0.8 * tooth / 13
            y = y0 + (0.25 if row else -0.1) * (2 * x - 1) ** 2 * (-1 if row else 1)
            down = 0.12 if row else -0.12
            bone(picture, [(x, y), (x, y + down)], [0.028, 0.012], 0.9)
    oval(picture, (0.5, 0.55), (0.48, 0.35), 0, 0.3)


def _screen(picture: Picture, rng: Random) -> Bytes:
    picture += np.float32(rng.uniform(0, 0.9))
    height, width = picture.shape
    for _ in range(int(rng.integers(2, 7))):
        x, y = int(rng.integers(0, width - 60)), int(rng.integers(0, height - 60))
        w, h = int(rng.integers(50, width)), int(rng.integers(40, height))
        cv2.rectangle(picture, (x, y), (x + w, y + h), float(rng.uniform(0, 1)), -1)
        cv2.rectangle(picture, (x, y), (x + w, y + 10), float(rng.uniform(0, 1)), -1)
        for line in range(y + 22, min(y + h, height), 12):
            end = x + int(rng.integers(10, max(w - 5, 11)))
            cv2.line(picture, (x + 6, line), (end, line), float(rng.uniform(0, 1)), 3)
    return in_bytes(picture)


def _landscape(picture: Picture, rng: Random) -> Picture:
    height, width = picture.shape
    picture += np.linspace(rng.uniform(0.5, 1), rng.uniform(0.2, 0.7), height)[:, None].astype("f4")
    for layer in range(3):
        ridge = height * (0.4 + 0.18 * layer) + 0.1 * height * np.sin(
            np.linspace(rng.uniform(0, 6), rng.uniform(6, 12), width)
        )
        below = np.arange(height)[:, None] > ridge[None, :]
        texture = clouds(picture.shape, rng, 1.2) * np.float32(rng.uniform(0.1, 0.6))
        picture = np.where(below, texture + np.float32(rng.uniform(0, 0.4)), picture)
    sun = (int(rng.integers(0, width)), int(rng.integers(0, height // 3)))
    cv2.circle(picture, sun, int(rng.integers(8, 30)), 1.0, -1, cv2.LINE_AA)
    x, y = int(rng.integers(0, width - 70)), int(rng.integers(height // 2, height - 50))
    cv2.rectangle(picture, (x, y), (x + 60, y + 45), float(rng.uniform(0, 1)), -1)
    return picture


def _face(picture: Picture, rng: Random) -> None:
    picture += np.float32(rng.uniform(0, 0.6))
    picture += 0.15 * clouds(picture.shape, rng, 1.5)
    limb(picture, [(0.5, 0.75), (0.5, 1.1)], [0.14, 0.4], 0.3)
    oval(picture, (0.5, 0.45), (0.2, rng.uniform(0.26, 0.32)), rng.uniform(-10, 10), 0.5)
    for side in (-1, 1):
        oval(picture, (0.5 + side * 0.08, 0.4), (0.035, 0.02), 0, -0.4)
    oval(picture, (0.5, 0.6), (0.07, 0.02), 0, -0.3)


def _by_kind(*drawings: Drawing) -> dict[str, Drawing]:
    return {draw.__name__.strip("_").replace("_", " "): draw for draw in drawings}


LEARNED = _by_kind(
    _foot_from_above, _chest, _forearm, _skull, _letter, _noise, _nearly_blank, _blobs, _plates,
    _clouds, _branches, _star, _stripes, ct_slice, ultrasound, ct_scout,
)  # fmt: skip
"""Kinds to fit the limits on."""

MET = _by_kind(
    _foot_from_the_side, _knee, _pelvis, _jaw, _screen, _landscape,
    _face, mr_head, spine, breast,
)  # fmt: skip
"""Held-out kinds to test the limits on, in addition to new ``noise`` and ``nearly blank``."""
