"""Side markers: lead letters on a plastic tag next to the hand."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from bakit.phantoms.shapes import FloatArray

_LETTERS: Final = "ABCDEFGHJKLMNPRSTVW"
_TRIES: Final = 60
_LEAD: Final = 3.6  # attenuation of lead letters
_FONTS: Final = (cv2.FONT_HERSHEY_SIMPLEX, cv2.FONT_HERSHEY_DUPLEX)


def add_marker(
    extra: FloatArray,
    hand: npt.NDArray[np.bool_],
    field: FloatArray,
    rng: np.random.Generator,
) -> None:
    """Add a side marker's attenuation in place; it avoids the hand if there is room.

    ``extra``, ``hand`` and ``field`` (the exposed share of each pixel) are (H, W). The number of
    draws is constant.
    """
    rows, columns = hand.shape
    tall, wide, turn, ink, plastic, kind = (float(value) for value in rng.random(6))
    letters = [_LETTERS[int(i)] for i in rng.integers(len(_LETTERS), size=3)]
    count = int(rng.integers(1, 4))
    font = _FONTS[int(rng.integers(2))]
    spots = rng.random((_TRIES, 2)) ** (1.5, 1.0)  # more often on the little finger's side
    lines = ["L", "".join(letters[:count])] if kind < 0.8 else ["L"]
    height = rows * (0.09 + 0.10 * tall)
    width = height * ((0.50 + 0.30 * wide) if len(lines) == 2 else (0.6 + 0.25 * wide))
    angle = math.radians((turn - 0.5) * (24.0 if wide < 0.7 else 120.0))
    tag, lead = _tag(width, height, lines, font, 0.10 + 0.05 * ink, kind)
    x, y = _free_spot(hand, field, spots, 0.5 * math.hypot(width, height))
    sine, cosine = math.sin(angle), math.cos(angle)
    shift = (x - cosine * width / 2 + sine * height / 2, y - sine * width / 2 - cosine * height / 2)
    matrix = np.array([[cosine, -sine, shift[0]], [sine, cosine, shift[1]]], dtype=np.float64)
    for layer, strength in ((tag, 0.05 + 0.28 * plastic**1.5), (lead, _LEAD)):
        extra += strength * cv2.warpAffine(layer, matrix, (columns, rows), flags=cv2.INTER_LINEAR)


def _tag(
    width: float, height: float, lines: list[str], font: int, stroke: float, kind: float
) -> tuple[FloatArray, FloatArray]:
    """Plastic and lead layers of an upright tag, 0 to 1, drawn at four times the size."""
    zoom = 4
    shape = (max(round(height), 6), max(round(width), 6))
    big = (shape[0] * zoom, shape[1] * zoom)
    plastic = np.zeros(big, dtype=np.uint8)
    rim = big[1] // 7
    cv2.rectangle(plastic, (rim, 0), (big[1] - rim, big[0]), 255, -1)
    cv2.rectangle(plastic, (0, rim), (big[1], big[0] - rim), 255, -1)
    for x in (rim, big[1] - rim):
        for y in (rim, big[0] - rim):
            cv2.circle(plastic, (x, y), rim, 255, -1)
    if kind < 0.45:  # the hole of the key ring
        cv2.circle(plastic, (big[1] // 2, big[0] // 9), big[1] // 9, 0, -1)
    lead = np.zeros(big, dtype=np.uint8)
    top = 0.16 if kind < 0.45 else 0.08
    room = (0.94 - top) / (1.0 if len(lines) == 1 else 1.65)
    for i, text in enumerate(lines):
        tall = big[0] * room * (0.85 if i == 0 else 0.42)
        (raw_width, raw_height), _ = cv2.getTextSize(text, font, 4.0, 1)
        size = min(4.0 * tall / raw_height, 4.0 * 0.72 * big[1] / raw_width)
        thick = max(round(stroke * big[0] * room * (0.75 if i == 0 else 0.5)), 2)
        text_width = raw_width * size / 4.0
        base = big[0] * (top + room * (0.92 if i == 0 else 1.52))
        place = (round((big[1] - text_width) / 2), round(base))
        cv2.putText(lead, text, place, font, size, 255, thick, cv2.LINE_AA)
    return (
        cv2.resize(plastic, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0,
        cv2.resize(lead, shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float32) / 255.0,
    )


def _free_spot(
    hand: npt.NDArray[np.bool_], field: FloatArray, spots: npt.NDArray[np.float64], radius: float
) -> tuple[float, float]:
    """First of some places (shares of width and height) clear of the hand, else the best."""
    rows, columns = hand.shape
    factor = 128.0 / rows
    size = (max(round(columns * factor), 8), 128)
    blocked = cv2.resize(hand.astype(np.uint8), size, interpolation=cv2.INTER_AREA)
    room = np.minimum(cv2.distanceTransform(1 - np.minimum(blocked, 1), cv2.DIST_L2, 5), 128.0)
    lit = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    # Without any unlit pixel the transform has nothing to measure to.
    inside = np.minimum(cv2.distanceTransform((lit > 0.5).astype(np.uint8), cv2.DIST_L2, 5), 128.0)
    best, found = -1.0, (0.0, 0.0)
    for u, v in spots:
        i, j = min(int(v * 128), 127), min(int(u * size[0]), size[0] - 1)
        clear = float(room[i, j]) if inside[i, j] > 0.35 * radius * factor else 0.0
        # The image's own border is no obstacle: real markers are often cut by it.
        if clear > best:
            best, found = clear, (float(u) * columns, float(v) * rows)
        if clear > radius * factor:
            break
    return found
