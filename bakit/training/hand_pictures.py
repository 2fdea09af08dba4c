"""Training images of the student localizer, with masks and random augmentation.

Radiographs have the mask of the unrolled localizer, phantoms the ground-truth mask; some images
have no hand.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from bakit.hand.prepare import from_bytes
from bakit.image.read import decode
from bakit.image.resize import resize
from bakit.phantoms import decoys
from bakit.phantoms.phantom import make_phantom
from bakit.training import augment
from bakit.training.augment import wide

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    Draw = Callable[..., Tensor]
    Pixels = npt.NDArray[np.uint8]

SIDE = 128
"""Side of a stored image, in pixels: twice the working image's, so that it can be averaged."""

PICTURE_SEEDS = 2_000_000
"""First seed of the student's training phantoms."""

_PHANTOM_HEIGHTS = (100, 300)

INVERTED, UPRIGHT, FRAMED, TWO, MARKED = 0.15, 0.65, 0.25, 0.04, 0.3
"""Shares of images that are inverted, nearly upright, framed, with a second hand, and marked."""


def square(pixels: npt.NDArray[np.float32]) -> Pixels:
    """Resize values in 0..1 to a square uint8 image."""
    picture: Pixels = np.rint(resize(pixels, SIDE) * 255).astype(np.uint8)
    return picture


def phantom_picture(seed: int) -> tuple[Pixels, Pixels]:
    """Return the image and the mask of one phantom."""
    generator = np.random.default_rng([seed, 30])
    phantom = make_phantom(seed, height=int(generator.integers(*_PHANTOM_HEIGHTS)))
    return square(decode(phantom.image)), square(phantom.mask.astype(np.float32))


def empty_picture(seed: int) -> tuple[Pixels, Pixels]:
    """Return an image without a hand (``bakit.phantoms.decoys``) and its mask."""
    kinds = list(decoys.LEARNED)
    picture = square(from_bytes(decoys.draw(kinds[seed % len(kinds)], seed)))
    return picture, np.zeros_like(picture)


def changed(pictures: Tensor, masks: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Augment images (position, frame, inversion, markers, noise) and make working images.

    Args:
        pictures: ``(N, 1, 128, 128)`` float32 in 0..1.
        masks: The same shape: the hand's share of each pixel.
        generator: Random generator.

    Returns:
        Working images and masks, each ``(N, 1, 64, 64)`` in 0..1, with grey values stretched as in
        ``bakit.hand.working.working_image``.
    """
    count = len(pictures)

    def draw(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    stack = torch.cat([pictures, masks, torch.ones_like(masks)], 1)
    stack = _moved(stack, draw)
    moved, drawn, inside = stack[:, :1], stack[:, 1:2], stack[:, 2:]
    # Pixels outside the image are black, white or grey.
    surround = wide(torch.where(draw() < 0.6, 0.0, draw()))
    moved = moved + surround * (1 - inside)
    moved, drawn = _second_hand(moved, drawn, draw() < TWO)
    moved, drawn = _frame(moved, drawn, draw)
    moved = _mark(moved, drawn, draw)
    # Contrast from 0.1 up, then noise: some hands are only ten grey levels above the background.
    low = wide(torch.where(draw() < 0.3, draw(0.1, 0.4), draw(0.4, 1.0)))
    moved = moved.clamp(0, 1) ** wide(torch.exp(draw(-0.7, 0.7))) * low
    noise = torch.randn(moved.shape, generator=generator)
    grain = wide(draw() ** 3 * 0.1) * low
    moved = moved + noise * grain
    moved = torch.where(wide(draw() < INVERTED), 1 - moved, moved)
    small = functional.avg_pool2d(moved, 2)
    flat = small.flatten(1).sort(1).values
    bottom, top = (flat[:, int(q * (flat.shape[1] - 1))] for q in (0.01, 0.99))
    small = (small - wide(bottom)) / wide((top - bottom).clamp(min=1e-4))
    return small.clamp(0, 1), functional.avg_pool2d(drawn, 2).clamp(0, 1)


def _moved(stack: Tensor, draw: Draw) -> Tensor:
    angle = torch.where(draw() < UPRIGHT, draw(-0.4, 0.4), draw(-math.pi, math.pi))
    zoom = torch.exp(draw(math.log(0.55), math.log(1.25)))
    stretch = torch.exp(draw(-0.25, 0.25))
    mirror = torch.where(draw() < 0.5, -1.0, 1.0)
    reach = (1 - zoom).abs() + 0.12
    shifts = [draw(-1, 1) * reach / zoom for _ in range(2)]
    return augment.moved(stack, angle, zoom, stretch, mirror, shifts)


def _second_hand(moved: Tensor, drawn: Tensor, which: Tensor) -> tuple[Tensor, Tensor]:
    """Add the next image of the batch as a second hand to some images, at half width."""
    half = functional.interpolate(moved, size=(SIDE, SIDE // 2), mode="area")
    half_drawn = functional.interpolate(drawn, size=(SIDE, SIDE // 2), mode="area")
    two = torch.cat([half, half.roll(1, 0)], 3)
    two_drawn = torch.cat([half_drawn, half_drawn.roll(1, 0)], 3)
    chosen = wide(which)
    return torch.where(chosen, two, moved), torch.where(chosen, two_drawn, drawn)


def _frame(moved: Tensor, drawn: Tensor, draw: Draw) -> tuple[Tensor, Tensor]:
    """Cover the outside of a tilted rectangle, like a collimator or a bright frame."""
    axis = torch.linspace(-1, 1, SIDE)
    y, x = axis[:, None], axis[None, :]
    angle = torch.where(draw() < 0.6, 0.0, draw(-0.25, 0.25))[:, None, None]
    across = x * torch.cos(angle) + y * torch.sin(angle)
    down = y * torch.cos(angle) - x * torch.sin(angle)
    inside = torch.ones_like(across, dtype=torch.bool)
    for values in (across, -across, down, -down):
        inside &= values < draw(0.6, 1.05)[:, None, None]
    covered = (~inside & (draw() < FRAMED)[:, None, None])[:, None]
    grey = wide(torch.where(draw() < 0.4, 0.0, draw()))
    return torch.where(covered, grey, moved), torch.where(covered, 0.0, drawn)


def _mark(moved: Tensor, drawn: Tensor, draw: Draw) -> Tensor:
    """Draw bright strips and boxes outside the hand, like lead letters."""
    axis = torch.linspace(-1, 1, SIDE)
    for _ in range(2):
        x, y, w, h = (
            draw(*span)[:, None, None] for span in ((-1, 1), (-1, 1), (0.02, 0.2), (0.02, 0.2))
        )
        box = ((axis[None, None, :] - x).abs() < w) & ((axis[None, :, None] - y).abs() < h)
        stripes = torch.sin(axis[None, None, :] * draw(20, 90)[:, None, None]) > -0.3
        wanted = (box & stripes & (draw() < MARKED)[:, None, None])[:, None] & (drawn < 0.5)
        moved = torch.where(wanted, wide(draw(0.6, 1.0)), moved)
    return moved
