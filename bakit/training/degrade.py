"""Degraded copies of radiographs: low resolution, low contrast, JPEG compression.

Radiographs are degraded before cropping and equalization, as in practice: an equalized image with
40 grey levels cannot be made from an equalized image with 256.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import cv2
import numpy as np

from bakit.hand.prepare import from_bytes
from bakit.image.resize import thumbnail

if TYPE_CHECKING:
    from bakit.types import Bytes, Grey

_SIDES = (100, 300)
"""Range of the longest side of a small radiograph, in pixels."""

_LEVELS = (15, 120)
"""Range of grey levels of a faint radiograph, 2nd to 98th percentile; drawn log-uniformly."""

_GAMMA = 1.3
"""Maximum exponent of the tone curve; the minimum is its inverse."""

_QUALITIES = (40, 96)
"""Range of JPEG qualities, upper end excluded."""

_FAINT_QUALITY = 75
"""Minimum JPEG quality of a faint radiograph; less would erase its few grey levels."""


def degrade(grey: Grey, generator: np.random.Generator) -> Grey:
    """Return a degraded copy of a radiograph.

    The tone curve always changes slightly. Half of the copies are smaller, half are faint, half are
    JPEG-compressed.

    Args:
        grey: ``(H, W)`` float32 in 0..1.
        generator: Source of the changes.

    Returns:
        ``(H', W')`` float32 in 0..1, multiples of 1/255; not larger than the original.
    """
    # Some public sets were shrunk by picking pixels without averaging.
    is_small, is_faint, is_compressed, is_picked = generator.random(4) < (0.5, 0.5, 0.5, 0.25)
    side, quality = (int(generator.integers(*bounds)) for bounds in (_SIDES, _QUALITIES))
    levels = math.exp(generator.uniform(math.log(_LEVELS[0]), math.log(_LEVELS[1])))
    base, exponent = generator.random(), _GAMMA ** generator.uniform(-1, 1)
    if is_small:
        grey = thumbnail(grey, side, cv2.INTER_NEAREST if is_picked else cv2.INTER_AREA)
    low, high = float(grey.min()), float(grey.max())
    tones = ((grey - low) / max(high - low, 1e-6)).clip(0, 1) ** exponent
    if is_faint:
        low, high = np.percentile(tones, (2, 98))
        step = levels / 255
        tones = (tones - low) / max(high - low, step) * step + base * (1 - step)
    pixels: Bytes = np.rint(tones.clip(0, 1) * 255).astype(np.uint8)
    if is_compressed:
        least = _FAINT_QUALITY if is_faint else 0
        flags = [cv2.IMWRITE_JPEG_QUALITY, max(quality, least)]
        _, data = cv2.imencode(".jpg", pixels, flags)
        pixels = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)  # type: ignore[assignment]
    return from_bytes(pixels)
