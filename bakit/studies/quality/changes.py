"""Change radiographs: vary their appearance, or degrade them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import cv2
import numpy as np

from bakit.image.box import Box, bounds

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.hand.found import LocalizerOutput
    from bakit.phantoms.canvas import Random
    from bakit.types import Grey

SMALL = 100
"""Side of images that are shrunk to a square by picking pixels, as in some public sets."""


def film_like(grey: Grey, rng: Random) -> Grey:
    """Vary sharpness and grain at random."""
    if max(grey.shape) > SMALL and rng.random() < 0.5:
        grey = cv2.resize(grey, (SMALL, SMALL), interpolation=cv2.INTER_NEAREST)  # type: ignore[assignment]
    if rng.random() < 0.6:
        sigma = rng.uniform(0.3, 1.6) * max(grey.shape) / SMALL
        grey = cv2.GaussianBlur(grey, (0, 0), sigma).astype(np.float32)
    if rng.random() < 0.3:
        noise = rng.normal(0, rng.choice([0.005, 0.015]), grey.shape)
        grey = (grey + noise).clip(0, 1).astype(np.float32)
    return np.ascontiguousarray(grey)


def any_angle(rng: Random) -> float:
    """Return a random angle in degrees: half near upright, else near 90, 180 or 270."""
    return float(rng.choice([0, 0, 0, 90, 180, 270]) + rng.normal(0, 12))


def tilt(rng: Random) -> float:
    """Return a random angle in degrees that is far from every quarter turn."""
    return float(90 * rng.integers(0, 4) + rng.uniform(33, 57))


def exactly(degrees: float) -> Callable[[Random], float]:
    """Return a function that always returns this angle."""
    return lambda _: degrees


def turned_about(grey: Grey, degrees: float, rng: Random) -> Grey:
    """Rotate a radiograph; mirror or invert some at random."""
    if rng.random() < 0.15:
        grey = 1 - grey
    if rng.random() < 0.5:
        grey = np.ascontiguousarray(grey[:, ::-1])
    height, width = grey.shape
    turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, rng.uniform(0.75, 1.0))
    around = float(np.median(grey[:3]))
    moved = cv2.warpAffine(
        grey, turn, (width, height), borderMode=cv2.BORDER_CONSTANT, borderValue=(around,)
    )
    return np.ascontiguousarray(moved.clip(0, 1), np.float32)


def without_background(grey: Grey, output: LocalizerOutput, rng: Random) -> Grey:
    """Keep the hand that was located, if there is one; crop some close to it at random."""
    if not output.regions:
        return grey
    mask = output.regions[0].mask
    height, width = grey.shape
    size = int(rng.integers(1, 4))
    grown = cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8))
    whole = cv2.resize(grown.astype(np.float32), (width, height)) > 0.5
    if not whole.any():
        return grey
    cut = np.where(whole, grey, np.float32(0))
    if rng.random() < 0.6:
        box = bounds(whole)
        pad = rng.integers(0, max(height // 12, 1), 3)
        # The end of the forearm stays at the border; the other sides may keep a margin.
        top, bottom = max(box.y0 - pad[0], 0), box.y1
        left, right = max(box.x0 - pad[1], 0), min(box.x1 + pad[2], width)
        cut = cut[top:bottom, left:right]
    return np.ascontiguousarray(cut, np.float32)


class Part(NamedTuple):
    """A part of a hand's box that is cut off.

    Attributes:
        measure: Name of the detector that learns it.
        gone: Range of the share that goes. Of a slant, the line through the sides of an upper or
            lower corner, it is the height's share; of ``round``, the half axis of the ellipse that
            stays.
    """

    measure: str
    gone: tuple[float, float]


PARTS = {
    "tips": Part("no_fingers", (0.1, 0.3)),
    "fingers": Part("no_fingers", (0.35, 0.6)),
    "slant": Part("no_fingers", (0.5, 1.0)),
    "wrist": Part("no_wrist", (0.3, 0.55)),
    "slanted wrist": Part("no_wrist", (0.5, 0.9)),
    "side": Part("no_side", (0.3, 0.55)),
    "corner": Part("no_side", (0.3, 0.55)),
    "round": Part("no_side", (0.25, 0.43)),
}
"""By name. A detector of one side of the hand finds more than one of all parts."""

_WIDE = (0.75, 1.5)
"""Range of the width's share that a slant cuts off."""

_UNEVEN = 0.4
"""Share of slants and ellipses whose outside is not one grey: with a ramp and noise."""


def cut_hand(grey: Grey, box: Box, part: str, rng: Random) -> Grey:
    """Return a film on which a part of an upright hand is cut off."""
    if part not in {"slant", "slanted wrist", "round"}:
        return only(grey, _without_part(box, part, rng), box, rng)
    gone = rng.uniform(*PARTS[part].gone)
    rows, columns = np.ogrid[: grey.shape[0], : grey.shape[1]]
    across, down = (columns - box.x0) / box.width, (rows - box.y0) / box.height
    if part == "round":
        hidden = np.hypot(across - 0.5, down - 0.5) > gone
    else:
        across = across if rng.random() < 0.5 else 1 - across
        down = down if part == "slant" else 1 - down
        hidden = across / rng.uniform(*_WIDE) + down / gone < 1
    outside = np.full_like(grey, _surround(grey, rng))
    if rng.random() < _UNEVEN:
        ramp = np.linspace(0, rng.uniform(0, 0.4), grey.shape[1], dtype=np.float32)
        outside = (outside + ramp + rng.uniform(0, 0.25) * rng.random(grey.shape)).clip(0, 1)
    return np.where(hidden, outside, grey).astype(np.float32)


def _surround(grey: Grey, rng: Random) -> float:
    """Return black, white, middle grey, or the film's darkest or median grey."""
    fills = (0.0, 1.0, 0.5, float(grey.min()), float(np.median(grey)))
    return fills[int(rng.integers(len(fills)))]


def _without_part(box: Box, part: str, rng: Random) -> Box:
    """Return the window of a film that is left when a part of an upright hand's box is cut off."""
    gone = rng.uniform(*PARTS[part].gone)
    x0, y0, x1, y1 = box
    left = rng.random() < 0.5
    if part in {"tips", "fingers"}:
        y0 += round(box.height * gone)
    elif part == "wrist":
        y1 -= round(box.height * gone)
    if part in {"side", "corner"}:
        across = round(box.width * (gone if part == "side" else rng.uniform(0.3, 0.5)))
        x0, x1 = (x0 + across, x1) if left else (x0, x1 - across)
    if part == "corner":
        down = round(box.height * gone)
        y0, y1 = (y0 + down, y1) if rng.random() < 0.5 else (y0, y1 - down)
    return Box(x0, y0, x1, y1)


def only(grey: Grey, window: Box, around: Box, rng: Random) -> Grey:
    """Return a film of which a window is left, as shutters, padding and cutting leave it.

    It ends there, or everything outside has one grey. Sides of the window outside of ``around``,
    the hand's box, may lie farther out.
    """
    height, width = grey.shape
    reach = rng.uniform(0, 0.3, 4) * (rng.random(4) < 0.6)
    far = (around.width, around.height) * 2
    # The sides that cut the hand stay; the others get some of the film's own background.
    edges = [
        round(edge + sign * r * n) if sign * (edge - limit) >= 0 else edge
        for edge, limit, sign, r, n in zip(window, around, (-1, -1, 1, 1), reach, far, strict=True)
    ]
    x0, y0 = (max(min(v, n - 16), 0) for v, n in zip(edges[:2], (width, height), strict=True))
    x1, y1 = min(max(edges[2], x0 + 16), width), min(max(edges[3], y0 + 16), height)
    part = np.ascontiguousarray(grey[y0:y1, x0:x1])
    fill = _surround(grey, rng)
    way = rng.integers(3)
    if way == 0:
        return part
    if way == 1:
        whole = np.full_like(grey, fill)
        whole[y0:y1, x0:x1] = part
        return whole
    down, across = (round(n * rng.uniform(0.03, 0.35)) for n in part.shape)
    framed = cv2.copyMakeBorder(
        part, down, down, across, across, cv2.BORDER_CONSTANT, value=(fill,)
    )
    return framed.astype(np.float32)


def side_by_side(first: Grey, second: Grey, rng: Random) -> Grey:
    """Join two radiographs at the height of the first; mirror the second at random."""
    height = first.shape[0]
    width = max(round(second.shape[1] * height / second.shape[0]), 1)
    other = cv2.resize(second, (width, height), interpolation=cv2.INTER_AREA)
    if rng.random() < 0.5:
        other = other[:, ::-1]
    pair = [first, other] if rng.random() < 0.5 else [other, first]
    return np.ascontiguousarray(np.hstack(pair), np.float32)


def shrunk(grey: Grey, box: Box, side: float) -> Grey:
    """Shrink a radiograph until the shorter side of the hand's box has ``side`` pixels."""
    factor = side / min(box.width, box.height)
    size = tuple(max(round(n * factor), 16) for n in (grey.shape[1], grey.shape[0]))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    rounded: Grey = np.rint(small * 255).astype(np.float32) / np.float32(255)
    return rounded


def faded(grey: Grey, box: Box, levels: float) -> Grey:
    """Fade a radiograph until most of the hand's box has ``levels`` of 256 grey levels.

    They span its 2nd to 98th percentile: markers and the background may have others.
    """
    inside = grey[box.y0 : box.y1, box.x0 : box.x1]
    low, high = (float(value) for value in np.percentile(inside, (2, 98)))
    few = np.rint((grey - low) / max(high - low, 1e-6) * (levels - 1))
    flat: Grey = (few.astype(np.float32) + 100).clip(0, 255) / np.float32(255)
    return flat


def overexposed(grey: Grey, box: Box, share: float) -> Grey:
    """Saturate the brightest ``share`` of the hand's box."""
    inside = grey[box.y0 : box.y1, box.x0 : box.x1]
    top = max(float(np.quantile(inside, 1 - share)), 1 / 255)
    burnt: Grey = np.minimum(grey / np.float32(top), 1).astype(np.float32)
    return burnt
