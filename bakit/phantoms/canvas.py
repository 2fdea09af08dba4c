"""Drawing tools for images without a hand: flesh, bones, noise, film exposure."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    Picture: TypeAlias = npt.NDArray[np.float32]
    Points: TypeAlias = Sequence[tuple[float, float]]

Random: TypeAlias = np.random.Generator


def blank(rng: Random) -> Picture:
    """Return a black image of a random shape, 160 to 360 pixels per side."""
    height, width = (int(n) for n in rng.integers(160, 360, 2))
    return np.zeros((height, width), np.float32)


def limb(picture: Picture, points: Points, widths: Sequence[float], thickness: float) -> None:
    """Add a limb along a line: bright in the middle, with round ends.

    Args:
        picture: ``(H, W)``, changed in place.
        points: The line, as shares of width and height.
        widths: Half width at each point, as a share of the smaller side.
        thickness: Brightness of the middle.
    """
    mask = np.zeros(picture.shape, np.uint8)
    height, width = picture.shape
    least = min(height, width)
    line = np.array([(x * width, y * height) for x, y in points])
    for (a, b), (ra, rb) in zip(pairwise(line), pairwise(widths), strict=True):
        for t in np.linspace(0, 1, 24):
            middle = a + (b - a) * t
            radius = max(round(float((ra + (rb - ra) * t) * least)), 1)
            cv2.circle(mask, (round(float(middle[0])), round(float(middle[1]))), radius, 1, -1)
    depth = cv2.distanceTransform(np.pad(mask, 1), cv2.DIST_L2, 3)[1:-1, 1:-1]
    highest = max(float(depth.max()), 1.0)
    picture += (thickness * np.sqrt(depth / highest)).astype(np.float32)


def bone(picture: Picture, points: Points, widths: Sequence[float], density: float) -> None:
    """Add a bone with a bright rim along a line. Arguments as for ``limb``."""
    solid = np.zeros_like(picture)
    limb(solid, points, widths, 1.0)
    rim = solid - 0.55 * cv2.GaussianBlur(solid, (0, 0), max(min(picture.shape) / 90, 0.6))
    picture += np.float32(density) * rim


def oval(
    picture: Picture, at: tuple[float, float], axes: tuple[float, float], angle: float, grey: float
) -> None:
    """Add a filled ellipse; centre and half axes are shares of width and height."""
    height, width = picture.shape
    shape = np.zeros(picture.shape, np.float32)
    middle = (round(at[0] * width), round(at[1] * height))
    lengths = (max(round(axes[0] * width), 1), max(round(axes[1] * height), 1))
    cv2.ellipse(shape, middle, lengths, angle, 0, 360, 1.0, -1, cv2.LINE_AA)
    picture += np.float32(grey) * shape


def clouds(shape: tuple[int, int], rng: Random, steepness: float) -> Picture:
    """Return noise in 0..1 whose power falls with frequency; a higher steepness is smoother."""
    spectrum = np.fft.rfft2(rng.normal(size=shape))
    across = np.fft.rfftfreq(shape[1])[None, :]
    down = np.fft.fftfreq(shape[0])[:, None]
    radius = np.sqrt(across**2 + down**2)
    radius[0, 0] = 1.0
    noise = np.fft.irfft2(spectrum / radius**steepness, shape)
    low, high = np.percentile(noise, (1, 99))
    stretched: Picture = ((noise - low) / max(high - low, 1e-9)).clip(0, 1).astype(np.float32)
    return stretched


def in_bytes(picture: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.uint8]:
    """Return values, clipped to 0..1, as uint8."""
    whole: npt.NDArray[np.uint8] = np.rint(picture.clip(0, 1) * 255).astype(np.uint8)
    return whole


def film(picture: Picture, rng: Random) -> npt.NDArray[np.uint8]:
    """Return the image as a film with random exposure and development, uint8."""
    top = max(float(picture.max()), 1e-6)
    developed = (picture / top).clip(0, 1) ** rng.uniform(0.6, 1.5)
    base, span = rng.uniform(0, 0.25), rng.uniform(0.35, 0.75)
    shaded = base + span * developed
    shaded += rng.uniform(-0.1, 0.1) * np.linspace(-1, 1, picture.shape[1])[None, :]
    blurred = cv2.GaussianBlur(shaded.astype(np.float32), (0, 0), rng.uniform(0.4, 1.4))
    noisy = blurred + rng.normal(0, rng.choice([0.004, 0.012, 0.03]), picture.shape)
    return in_bytes(noisy)
