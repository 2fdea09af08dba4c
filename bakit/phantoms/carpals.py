"""The carpals and the thumb's sesamoid: bones without a shaft."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from bakit.phantoms import anatomy
from bakit.phantoms.shapes import Pebble, Point, outline

if TYPE_CHECKING:
    from bakit.phantoms.anatomy import Growth, Individual
    from bakit.phantoms.pose import Pose

# fmt: off
# Carpals in units of the wrist's height: centre (x to the thumb, y to the fingers), half depth,
# and the corners of the adult outline around the centre.
_CARPALS: Final[dict[str, tuple[Point, float, tuple[Point, ...]]]] = {
    "capitate": (
        (-0.02, 0.62),
        0.24,
        (
            (-0.18, 0.36), (0.0, 0.38), (0.18, 0.34), (0.21, 0.18), (0.16, 0.0), (0.18, -0.14),
            (0.14, -0.29), (0.03, -0.38), (-0.09, -0.37), (-0.18, -0.26), (-0.20, -0.05),
            (-0.21, 0.18),
        ),
    ),
    "hamate": (
        (-0.41, 0.70),
        0.22,
        (
            (-0.27, 0.11), (-0.13, 0.26), (0.08, 0.28), (0.21, 0.23), (0.23, 0.04), (0.20, -0.20),
            (0.12, -0.35), (0.02, -0.31), (-0.10, -0.12), (-0.23, -0.03),
        ),
    ),
    "trapezoid": (
        (0.28, 0.79),
        0.17,
        (
            (-0.15, 0.15), (0.05, 0.21), (0.18, 0.13), (0.17, -0.10), (0.06, -0.20),
            (-0.12, -0.18), (-0.17, 0.00),
        ),
    ),
    "trapezium": (
        (0.53, 0.67),
        0.18,
        (
            (-0.16, 0.25), (0.05, 0.23), (0.23, 0.09), (0.23, -0.12), (0.06, -0.27),
            (-0.12, -0.23), (-0.19, -0.05),
        ),
    ),
    "scaphoid": (
        (0.22, 0.32),
        0.20,
        (
            (-0.25, -0.22), (-0.05, -0.28), (0.12, -0.19), (0.24, -0.02), (0.29, 0.18),
            (0.21, 0.30), (0.05, 0.25), (-0.08, 0.11), (-0.23, 0.02), (-0.29, -0.10),
        ),
    ),
    "lunate": (
        (-0.23, 0.21),
        0.22,
        (
            (-0.25, -0.03), (-0.22, -0.19), (0.00, -0.25), (0.20, -0.18), (0.24, 0.06),
            (0.15, 0.22), (0.00, 0.15), (-0.15, 0.22),
        ),
    ),
    "triquetrum": (
        (-0.60, 0.40),
        0.18,
        (
            (-0.22, 0.02), (-0.13, 0.24), (0.08, 0.25), (0.21, 0.08), (0.19, -0.15),
            (0.02, -0.26), (-0.17, -0.17),
        ),
    ),
    "pisiform": (
        (-0.62, 0.34),
        0.15,
        ((-0.12, 0.0), (-0.09, 0.09), (0.0, 0.13), (0.09, 0.09), (0.12, 0.0), (0.0, -0.13)),
    ),
}
# fmt: on

_ROUND: Final = tuple(2.0 * math.pi * i / 12 for i in range(12))


def carpal_bones(
    age_months: float, male: bool, child: Individual, pose: Pose, size: Growth
) -> list[Pebble]:
    """The ossified carpals and the thumb's sesamoid."""
    wide, tall = anatomy.wrist_units_mm(size)
    bones = []
    for name, ((x, y), depth, corners) in _CARPALS.items():
        scale, shaped = anatomy.carpal_size(name, age_months, male, child)
        if scale == 0.0:
            continue
        ring = tuple((a * wide * scale, -b * tall * scale) for a, b in corners)
        radii = outline(ring, 1.0 - shaped) * np.float32(1.0 + 0.06 * shaped)
        dx, dy = pose.wobble[name]
        bones.append(
            Pebble(
                centre=((x + dx) * wide, -(y + dy) * tall),
                radii=radii,
                depth_mm=depth * wide * scale,
                shell_mm=0.22 + 0.20 * shaped,
                density=0.20,
            )
        )
    hook = anatomy.carpal_size("hamate", age_months, male, child)[1]
    if hook > 0.6:  # the hook of the hamate, seen end on once it has ossified
        ring = tuple((0.07 * wide * math.cos(a), 0.10 * tall * math.sin(a)) for a in _ROUND)
        grown = (hook - 0.6) / 0.4
        bones.append(
            Pebble((-0.42 * wide, -0.68 * tall), outline(ring, 0.5), 2.6 * grown, 0.9, 0.12)
        )
    start = anatomy.appear_months("sesamoid", male, child)
    if age_months >= start:
        grown = 1.0 + 1.6 * min((age_months - start) / 30.0, 1.0)
        round_ring = tuple((math.cos(a), 0.85 * math.sin(a)) for a in _ROUND)
        bones.append(
            Pebble(
                pose.sesamoid, outline(round_ring, 0.5) * np.float32(grown), 0.9 * grown, 0.4, 0.35
            )
        )
    return bones
