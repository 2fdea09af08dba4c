"""Make a film from thickness maps: attenuation, scatter, noise, tone curve, nuisances."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np
import numpy.typing as npt

from bakit.phantoms.shapes import coarse_blur

if TYPE_CHECKING:
    from collections.abc import Collection

    from bakit.phantoms.shapes import FloatArray

# Attenuation per mm at the tube voltages used for hands (about 55 kV).
FLESH_PER_MM: Final = 0.027
BONE_PER_MM: Final = 0.088

_TONE_TOP: Final = 1.6  # the tone curve ends at this multiple of the densest bone
_TONE_STEPS: Final = 1 << 15


@dataclass(frozen=True)
class Exposure:
    """One film's exposure and processing.

    Attributes:
        scatter: Scattered share of the light, 0 to 0.3.
        noise: Quantum noise of an unattenuated millimetre, in attenuation.
        enhance: Strength of the edge enhancement.
        flatten: Share of the coarse shading that the processing removes, 0 to 1.
        gamma: Exponent of the tone curve.
        black: Grey of bare film, 0 to 1.
        white: Grey of the densest bone, 0 to 1.
    """

    scatter: float
    noise: float
    enhance: float
    flatten: float
    gamma: float
    black: float
    white: float


def draw_exposure(rng: np.random.Generator) -> Exposure:
    """Draw an exposure; the number of draws is constant."""
    values = [float(value) for value in rng.random(8)]
    bright = values[5] < 0.3
    return Exposure(
        scatter=0.04 + 0.14 * values[0],
        noise=0.006 + 0.012 * values[1] ** 2,
        enhance=0.05 + 0.50 * values[2] ** 1.5,
        flatten=0.30 * values[3] ** 2,
        gamma=0.95 + 0.50 * values[4],
        black=0.05 + 0.15 * values[6] if bright else 0.025 * values[6],
        white=0.68 + 0.30 * values[7],
    )


def attenuate(
    flesh_mm: FloatArray, bone_mm: FloatArray, extra: FloatArray, exposure: Exposure, scale: float
) -> FloatArray:
    """Attenuation at the detector, including focal blur and scatter.

    Args:
        flesh_mm: Soft tissue, mm, (H, W).
        bone_mm: Compact bone, mm, (H, W).
        extra: Attenuation of markers and the plate, (H, W).
        exposure: Exposure and processing.
        scale: Pixels per millimetre.

    Returns:
        (H, W) attenuation, 0 for bare film.
    """
    total = FLESH_PER_MM * flesh_mm + BONE_PER_MM * bone_mm + extra
    light = np.exp(-total)
    sigma = 0.11 * scale
    if sigma > 0.25:
        light = cv2.GaussianBlur(light, (0, 0), sigma)
    haze = coarse_blur(light, 14.0 * scale)
    light = (1.0 - exposure.scatter) * light + exposure.scatter * haze
    return np.asarray(-np.log(np.maximum(light, 0.004)), dtype=np.float32)


def add_noise(
    image: FloatArray, exposure: Exposure, scale: float, grainy: bool, rng: np.random.Generator
) -> None:
    """Add quantum noise in place; it is stronger in dark areas and in smaller pixels."""
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    strength = exposure.noise * (min(scale, 9.0) / 3.0) ** 0.5
    if grainy:
        grain = cv2.GaussianBlur(noise, (0, 0), max(0.16 * scale, 0.5))
        noise = 0.6 * noise + grain * (0.9 / max(float(grain.std()), 1e-6))
        strength *= 2.6
    growth = np.minimum(image, 3.0)
    growth *= 0.45
    noise *= np.exp(growth, out=growth)
    noise *= strength
    image += noise


def develop(
    image: FloatArray, hand: npt.NDArray[np.bool_], exposure: Exposure, scale: float
) -> FloatArray:
    """Tone curve: attenuation to grey, 0 to 1, bone bright."""
    out = image
    if exposure.flatten > 0.02:
        out = out - exposure.flatten * coarse_blur(out, 22.0 * scale)
    sigma = max(0.55 * scale, 0.6)
    soft = cv2.GaussianBlur(out, (0, 0), sigma)
    out = out + np.float32(exposure.enhance) * (out - soft)
    inside = out[hand] if hand.any() else out.ravel()
    top = float(np.percentile(inside[:: max(inside.size // 40000, 1)], 99.3))
    # The tone curve as a table, with a soft shoulder above the densest bone.
    steps = np.linspace(0.0, _TONE_TOP, _TONE_STEPS) ** exposure.gamma
    steps = np.where(steps > 1.0, 1.0 + 0.5 * np.tanh(steps - 1.0), steps)
    table = (exposure.black + (exposure.white - exposure.black) * steps).astype(np.float32)
    index = np.asarray(out, dtype=np.float32)
    index = index * np.float32((_TONE_STEPS - 1) / _TONE_TOP / max(top, 1e-3))
    np.clip(index, 0, _TONE_STEPS - 1, out=index)
    return np.asarray(table[index.astype(np.int32)])


def vignette(shape: tuple[int, int], rng: np.random.Generator) -> FloatArray:
    """Attenuation of an uneven beam: it rises to the corners and along the anode heel."""
    rows, columns = shape
    cx, cy, round_off, heel, angle = (float(value) for value in rng.random(5))
    xs = (np.arange(columns, dtype=np.float32) + 0.5) / columns - 0.35 - 0.3 * cx
    ys = (np.arange(rows, dtype=np.float32) + 0.5) / rows - 0.35 - 0.3 * cy
    bowl = (0.15 + 0.35 * round_off) * 2.0 * (xs[None, :] ** 2 + ys[:, None] ** 2)
    direction = 2.0 * math.pi * angle
    slope = xs[None, :] * math.cos(direction) + ys[:, None] * math.sin(direction)
    return np.asarray(bowl + 0.35 * heel * (slope + 0.5), dtype=np.float32)


def frame(
    grey: FloatArray, field: FloatArray, tilted: bool, scale: float, rng: np.random.Generator
) -> FloatArray:
    """Fill the area outside the exposed field."""
    style, level, line, strength = (float(value) for value in rng.random(4))
    if tilted:  # a scanned film on a black or white bed
        outside = 1.0 if style < 0.35 else 0.03 * level
        line = 0.0
    elif style < 0.2:  # unexposed plate, developed like bone
        outside = 0.80 + 0.2 * level
    elif style < 0.55:
        outside = 0.02 + 0.10 * level
    else:
        outside = 0.02 * level
    out = outside + (grey - outside) * field
    if line > 0.7:  # the processing rings at the shutter's edge
        inner = cv2.GaussianBlur(field, (0, 0), max(0.9 * scale, 0.6))
        ridge = 4.0 * inner * (1.0 - inner)
        out += (0.15 + 0.3 * strength) * ridge * ridge * (1.0 - 0.5 * field)
    return np.asarray(out, dtype=np.float32)


def finish(
    grey: FloatArray, active: Collection[str], rng: np.random.Generator
) -> npt.NDArray[np.uint8] | npt.NDArray[np.uint16]:
    """Convert grey levels to the pixels of a file."""
    contrast, base, depth = (float(value) for value in rng.random(3))
    if "low_contrast" in active:
        share = 0.22 + 0.22 * contrast
        grey = grey * share + (0.05 + 0.35 * base)
    grey = np.clip(grey, 0.0, 1.0)
    if "inverted" in active:
        grey = 1.0 - grey
    if "sixteen_bit" in active:
        # Detectors deliver 12 bits in 16-bit words; some files use all 16 bits.
        full = 4095.0 if depth < 0.5 else 65535.0
        return np.round(grey * full).astype(np.uint16)
    return np.round(grey * 255.0).astype(np.uint8)
