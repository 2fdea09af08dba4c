"""The localizer's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.image.equalize import as_grey
from bakit.image.resize import area_means, pays, resize

if TYPE_CHECKING:
    from bakit.types import Bytes, Grey


def working_image(grey: Grey | Bytes, size: int) -> Grey:
    """Return the localizer's input.

    The whole radiograph is squashed to a square, so that the graph's shape is static, and its grey
    values are stretched between the 1st and 99th percentile.

    Args:
        grey: ``(H, W)`` in 0..1, or 255 times that as uint8.
        size: Side, in pixels.

    Returns:
        ``(size, size)`` float32 in 0..1.
    """
    small: Grey
    if pays(grey, size):
        small = area_means(grey, size)
        small = small / np.float32(255) if grey.dtype == np.uint8 else small
    else:
        small = resize(as_grey(grey), size).astype(np.float32)
    low, high = (float(value) for value in np.percentile(small, (1, 99)))
    if high <= low:  # nearly everything is one grey: stretch over what there is
        low, high = float(small.min()), float(small.max())
    stretched: Grey = (small - np.float32(low)) / np.float32(max(high - low, 1e-6))
    return stretched.clip(0, 1)
