"""Perturbations that leave bone age unchanged.

Seven kinds are those of Santomartino et al., *Evaluating the Robustness of a Deep Learning Bone Age
Algorithm to Clinical Image Variation Using Computational Stress Testing* (2024); size, compression
and frame are those of images on their way through archives and viewers. The strengths are our
choice.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np

from bakit.hand.field import border_grey, window_of
from bakit.hand.prepare import from_bytes, to_bytes
from bakit.image.box import Box
from bakit.image.resize import thumbnail

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from bakit.types import Bytes, Grey

SMALLEST = 8
"""Minimum side of a shrunk image, in pixels."""


class Perturbation(NamedTuple):
    """One perturbation; ``apply`` maps ``(H, W)`` float32 in 0..1 to the same, of any size."""

    kind: str
    name: str
    apply: Callable[[Grey], Grey]


def perturbations(kinds: Sequence[str] = ()) -> list[Perturbation]:
    """Return the perturbations of the given ``KINDS``, or all."""
    return [item for item in _all() if not kinds or item.kind in kinds]


def _all() -> list[Perturbation]:
    turns, lights = (-90, -45, -20, -10, -5, 5, 10, 20, 45, 90, 180), (-30, -20, -10, 10, 20, 30)
    factors = (0.4, 0.6, 0.8, 1.25, 1.5, 2.0)
    changes: list[tuple[str, str, Callable[[Grey], Grey]]] = [
        *(("rotation", f"turned by {n:+d} degrees", partial(rotated, degrees=n)) for n in turns),
        ("flip", "left and right swapped", partial(flipped, axis=1)),
        ("flip", "top and bottom swapped", partial(flipped, axis=0)),
        *(("brightness", f"brightness {n:+d} %", partial(lit, by=n / 100)) for n in lights),
        *(("contrast", f"contrast x {n:g}", partial(contrasted, factor=n)) for n in factors),
        ("inversion", "black and white swapped", inverted),
        *(
            ("resolution", f"pixels {n} times as large", partial(coarse, factor=n))
            for n in (2, 4, 8)
        ),
        *(("marker", f"lead letter {letter}", partial(marked, letter=letter)) for letter in "LR"),
        *(("size", f"longest side {n} px", partial(shrunk, longest=n)) for n in (299, 150, 100)),
        ("compression", "JPEG quality 50", partial(compressed, quality=50)),
        ("frame", "5 % cut off at each border", partial(framed, by=-0.05)),
        ("frame", "5 % added at each border", partial(framed, by=0.05)),
    ]
    return [Perturbation(*change) for change in changes]


def rotated(grey: Grey, degrees: float) -> Grey:
    """Rotate counter-clockwise; the image grows, and is filled with the median of its border."""
    if degrees % 90 == 0:  # exact, without interpolation
        return np.ascontiguousarray(np.rot90(grey, int(degrees // 90)))
    height, width = grey.shape
    matrix = cv2.getRotationMatrix2D((width / 2 - 0.5, height / 2 - 0.5), degrees, 1.0)
    cosine, sine = abs(matrix[0, 0]), abs(matrix[0, 1])
    wide = round(height * sine + width * cosine)
    tall = round(height * cosine + width * sine)
    matrix[:, 2] += ((wide - width) / 2, (tall - height) / 2)
    turned = cv2.warpAffine(
        grey,
        matrix,
        (wide, tall),
        flags=cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_CONSTANT,
        borderValue=border_grey(grey),
    )
    return _in_range(turned)


def flipped(grey: Grey, axis: int) -> Grey:
    """Mirror an image along an axis."""
    return np.ascontiguousarray(np.flip(grey, axis))


def lit(grey: Grey, by: float) -> Grey:
    """Add ``by`` to every pixel and clip to 0..1."""
    return _in_range(grey + np.float32(by))


def contrasted(grey: Grey, factor: float) -> Grey:
    """Scale grey values around the image's mean and clip to 0..1."""
    mean = grey.mean(dtype=np.float64).astype(np.float32)
    return _in_range(mean + (grey - mean) * np.float32(factor))


def inverted(grey: Grey) -> Grey:
    """Swap black and white."""
    return _in_range(1 - grey)


def coarse(grey: Grey, factor: float) -> Grey:
    """Shrink an image and enlarge it again."""
    height, width = grey.shape
    size = max(SMALLEST, round(width / factor)), max(SMALLEST, round(height / factor))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    return _in_range(cv2.resize(small, (width, height), interpolation=cv2.INTER_LINEAR))


def marked(grey: Grey, letter: str) -> Grey:
    """Draw a white side marker, L or R, in its upper corner, a tenth of the image high."""
    height, width = grey.shape
    tall = max(8, min(height, width) // 10)
    font, thickness = cv2.FONT_HERSHEY_SIMPLEX, max(1, tall // 8)
    scale = tall / cv2.getTextSize(letter, font, 1.0, 1)[0][1]
    wide = cv2.getTextSize(letter, font, scale, thickness)[0][0]
    left = tall // 2 if letter == "L" else width - tall // 2 - wide
    lead = np.zeros(grey.shape, np.uint8)
    cv2.putText(lead, letter, (left, tall + tall // 2), font, scale, 255, thickness, cv2.LINE_AA)
    return _in_range(np.maximum(grey, lead / np.float32(255)))


def shrunk(grey: Grey, longest: int) -> Grey:
    """Shrink an image to a longest side in pixels; a smaller one stays as it is."""
    return _in_range(thumbnail(grey, longest))


def compressed(grey: Grey, quality: int) -> Grey:
    """Store an image as an 8-bit JPEG and read it again; quality is 1..100."""
    data = cv2.imencode(".jpg", to_bytes(grey), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    pixels: Bytes = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
    return from_bytes(pixels)


def framed(grey: Grey, by: float) -> Grey:
    """Add a share ``by`` of each side at each border, of the border's median, or cut it off."""
    height, width = grey.shape
    down, across = round(height * by), round(width * by)
    window = Box(-across, -down, width + across, height + down)
    return _in_range(window_of(grey, window, Box(0, 0, width, height)))


def _in_range(values: npt.NDArray[Any]) -> Grey:
    grey: Grey = values.astype(np.float32, copy=False).clip(0, 1)
    return grey


KINDS = tuple(dict.fromkeys(item.kind for item in _all()))
"""The kinds of perturbation."""
