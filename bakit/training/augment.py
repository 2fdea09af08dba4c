"""Data augmentation that depends only on seed, epoch and image.

The random numbers of an epoch are a table with one row per image. A resumed or distributed run
therefore trains on the same images as an uninterrupted run.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.model.recipes import Recipe

DRAWS = (
    "angle",
    "zoom",
    "stretch",
    "shift_x",
    "shift_y",
    "mirror",
    "contrast",
    "brightness",
    "blur",
    "is_blurred",
    "background",
    "is_removed",
    "crop",
)
"""The columns of the random numbers, in order."""

_TRUNCATE = 2  # blur kernels reach this many pixels: sigma is at most about 1


def random_rows(count: int, seed: int, epoch: int) -> Tensor:
    """Return an epoch's random numbers: ``(count, len(DRAWS))`` float32, uniform in 0..1."""
    generator = np.random.default_rng([seed, epoch, 1])
    return torch.from_numpy(generator.random((count, len(DRAWS)), np.float32))


def augment(images: Tensor, rows: Tensor, recipe: Recipe) -> Tensor:
    """Augment a batch: affine transform, mirror, blur, background removal, contrast, brightness.

    Args:
        images: ``(N, 1, S, S)`` float32 in 0..1, histogram-equalized.
        rows: ``(N, len(DRAWS))`` float32 in 0..1 (``random_rows``).
        recipe: Strengths.

    Returns:
        The same shape and dtype; pixels from outside an image are black.
    """
    draw = dict(zip(DRAWS, rows.to(images.device).unbind(1), strict=True))
    changed = _move(images, draw, recipe)
    if recipe.blur > 0:
        changed = _blur(changed, draw, recipe.blur)
    if recipe.background > 0:
        changed = _remove_background(changed, draw, recipe.background)
    contrast = 1 + _signed(draw["contrast"]) * recipe.contrast
    brightness = _signed(draw["brightness"]) * recipe.brightness
    half = 0.5
    changed = (changed - half) * wide(contrast) + (half + wide(brightness))
    return changed.clamp(0, 1)


def _move(images: Tensor, draw: dict[str, Tensor], recipe: Recipe) -> Tensor:
    angle = _signed(draw["angle"]) * math.radians(recipe.rotation_degrees)
    low, high = (math.log(bound) for bound in recipe.zoom)
    zoom = torch.exp(low + draw["zoom"] * (high - low))
    stretch = torch.exp(_signed(draw["stretch"]) * math.log1p(recipe.stretch))
    side = torch.where(draw["mirror"] < 0.5, -1.0, 1.0) if recipe.flip else torch.ones_like(angle)
    shifts = [2 * _signed(draw[name]) * recipe.shift for name in ("shift_x", "shift_y")]
    return moved(images, angle, zoom, stretch, side, shifts)


def moved(
    images: Tensor,
    angle: Tensor,
    zoom: Tensor,
    stretch: Tensor,
    side: Tensor,
    shifts: Sequence[Tensor],
) -> Tensor:
    """Turn, zoom, stretch, mirror (``side`` -1) and shift images, by numbers of shape ``(N,)``.

    Angles are in radians, shifts in x and y in half a side.
    """
    across, down = 1 / (zoom * stretch), stretch / zoom
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # affine_grid maps output to input.
    top = torch.stack([cosine * across * side, -sine * down, shifts[0]], 1)
    bottom = torch.stack([sine * across * side, cosine * down, shifts[1]], 1)
    grid = functional.affine_grid(
        torch.stack([top, bottom], 1), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


def _blur(images: Tensor, draw: dict[str, Tensor], strength: float) -> Tensor:
    """Blur half of the images by a Gaussian of at most ``strength`` pixels.

    It covers both ways of downscaling: averaging, and picking pixels (noisier, as in public sets).
    """
    # A sigma of 0 would divide by zero; at 0.1 the kernel is a single pixel.
    sigma = torch.where(draw["is_blurred"] < 0.5, draw["blur"] * strength, 0.0).clamp(min=0.1)
    reach = torch.arange(-_TRUNCATE, _TRUNCATE + 1, device=images.device)
    kernel = torch.exp(-(reach**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]
    count = len(images)
    flat = images.transpose(0, 1)  # one group per image
    padded = functional.pad(flat, [_TRUNCATE] * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=count)
    return functional.conv2d(rows, kernel[:, :, :, None], groups=count).transpose(0, 1)


def _remove_background(images: Tensor, draw: dict[str, Tensor], share: float) -> Tensor:
    """Blacken the darkest part of some images, at most half, and stretch the other grey values.

    In an equalized image, a grey value is the share of darker pixels. The result therefore equals
    the equalization of an image with a removed background.
    """
    half = 0.5
    dark = torch.where(draw["is_removed"] < share, draw["background"] * half, 0.0)
    return ((images - wide(dark)) / (1 - wide(dark))).clamp(min=0)


def _signed(draw: Tensor) -> Tensor:
    return draw * 2 - 1


def wide(values: Tensor) -> Tensor:
    """Reshape ``(N,)`` to ``(N, 1, 1, 1)``."""
    return values[:, None, None, None]
