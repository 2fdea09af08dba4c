"""Random changes of training images, each a function of seed, epoch and image alone.

The random numbers of an epoch are one table with a row an image. A run that is resumed, or shared
among processes, therefore sees the very images that an uninterrupted one sees.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

if TYPE_CHECKING:
    from bakit.recipes import Recipe

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
"""What a row of random numbers decides, in order."""

_TRUNCATE = 2  # blur kernels reach this many pixels: sigma is at most about 1


def random_rows(count: int, seed: int, epoch: int) -> Tensor:
    """Return an epoch's random numbers.

    Args:
        count: Images.
        seed: Seed of the training.
        epoch: Number of the epoch.

    Returns:
        ``(count, len(DRAWS))`` float32, uniform in 0..1.
    """
    generator = np.random.default_rng([seed, epoch, 1])
    return torch.from_numpy(generator.random((count, len(DRAWS)), np.float32))


def augment(images: Tensor, rows: Tensor, recipe: Recipe) -> Tensor:
    """Move, mirror, blur, cut the background out of, and change the grey values of images.

    Args:
        images: ``(N, 1, S, S)`` float32 in 0..1, histogram-equalized.
        rows: ``(N, len(DRAWS))`` float32 in 0..1, the images' random numbers.
        recipe: Strengths.

    Returns:
        The same shape and dtype; what comes from outside an image is black.
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
    """Rotate, magnify, stretch, shift and mirror."""
    angle = _signed(draw["angle"]) * math.radians(recipe.rotation_degrees)
    low, high = (math.log(bound) for bound in recipe.zoom)
    zoom = torch.exp(low + draw["zoom"] * (high - low))
    stretch = torch.exp(_signed(draw["stretch"]) * math.log1p(recipe.stretch))
    side = torch.where(draw["mirror"] < 0.5, -1.0, 1.0) if recipe.flip else torch.ones_like(angle)
    across, down = 1 / (zoom * stretch), stretch / zoom
    cosine, sine = torch.cos(angle), torch.sin(angle)
    # affine_grid maps output to input, in units of half a side.
    shift_x, shift_y = (2 * _signed(draw[name]) * recipe.shift for name in ("shift_x", "shift_y"))
    top = torch.stack([cosine * across * side, -sine * down, shift_x], 1)
    bottom = torch.stack([sine * across * side, cosine * down, shift_y], 1)
    grid = functional.affine_grid(
        torch.stack([top, bottom], 1), list(images.shape), align_corners=False
    )
    return functional.grid_sample(images, grid, align_corners=False)


def _blur(images: Tensor, draw: dict[str, Tensor], strength: float) -> Tensor:
    """Blur half of the images by a Gaussian of at most ``strength`` pixels.

    Large radiographs are averaged when they shrink; images that were shrunk by picking pixels are
    noisier than any device's. A model that has seen both reads both.
    """
    # A sigma of 0 would divide by zero; at 0.1 the kernel is a single pixel.
    sigma = torch.where(draw["is_blurred"] < 0.5, draw["blur"] * strength, 0.0).clamp(min=0.1)
    reach = torch.arange(-_TRUNCATE, _TRUNCATE + 1, device=images.device)
    kernel = torch.exp(-(reach**2) / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True))[:, None]
    count = len(images)
    flat = images.transpose(0, 1)  # one group an image
    padded = functional.pad(flat, [_TRUNCATE] * 4, mode="replicate")
    rows = functional.conv2d(padded, kernel[:, :, None, :], groups=count)
    return functional.conv2d(rows, kernel[:, :, :, None], groups=count).transpose(0, 1)


def _remove_background(images: Tensor, draw: dict[str, Tensor], share: float) -> Tensor:
    """Blacken the darkest part of some images, and spread the rest over all greys again.

    After equalization a grey value is the share of darker pixels, so this is what equalizing an
    image with a removed background gives. At most half of an image goes.
    """
    half = 0.5
    dark = torch.where(draw["is_removed"] < share, draw["background"] * half, 0.0)
    return ((images - wide(dark)) / (1 - wide(dark))).clamp(min=0)


def _signed(draw: Tensor) -> Tensor:
    """Return -1..1 for 0..1."""
    return draw * 2 - 1


def wide(values: Tensor) -> Tensor:
    """Return ``(N,)``, a value an image, as ``(N, 1, 1, 1)``."""
    return values[:, None, None, None]
