"""Pose of a hand: finger spread, bends, and the soft tissue."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from bakit.phantoms import anatomy
from bakit.phantoms.shapes import Flesh, Point

if TYPE_CHECKING:
    from bakit.phantoms.anatomy import Growth, Individual

# Metacarpal bases in units of the wrist's height (x to the thumb, y to the fingers).
_BASES: Final = ((0.80, 0.70), (0.38, 0.95), (0.04, 1.01), (-0.30, 0.98), (-0.58, 0.89))

# Direction of metacarpals and fingers in degrees from straight up, positive to the thumb:
# (fingers together, fully spread).
_METACARPAL_DEG: Final = ((26.0, 42.0), (8.0, 13.0), (1.0, 3.0), (-5.0, -7.0), (-11.0, -17.0))
_FINGER_DEG: Final = ((18.0, 42.0), (4.0, 17.0), (0.0, 1.0), (-4.0, -16.0), (-7.0, -32.0))

# Half thickness of a finger's flesh, thumb to little finger, mm of a man.
_FINGER_MM: Final = (9.4, 8.9, 9.1, 8.5, 7.4)


@dataclass(frozen=True)
class PosedBone:
    """Position and direction of a metacarpal or phalanx.

    Attributes:
        ray: 1 for the thumb to 5 for the little finger.
        row: `mc`, `pp`, `mp` or `dp`.
        start: Growth end, mm.
        axis: Unit vector to the other end.
        length: Length as projected, mm.
    """

    ray: int
    row: str
    start: Point
    axis: Point
    length: float


@dataclass(frozen=True)
class Pose:
    """The pose of a hand in its own frame.

    Attributes:
        bones: Metacarpals and phalanges.
        wobble: Small offset of each carpal, in units of the wrist's height.
        sesamoid: Centre of the thumb's sesamoid, mm.
        radius_axis: Unit vector down the radius.
        ulna_axis: Unit vector down the ulna.
        ulna: Joint end of the ulna, mm.
        bow: Sideways bow of a man's radius, mm.
        flesh: Soft tissue.
    """

    bones: tuple[PosedBone, ...]
    wobble: dict[str, Point]
    sesamoid: Point
    radius_axis: Point
    ulna_axis: Point
    ulna: Point
    bow: float
    flesh: Flesh


def heading(degrees: float) -> Point:
    """Unit vector at an angle from straight up, positive to the thumb (y points down)."""
    return math.sin(math.radians(degrees)), -math.cos(math.radians(degrees))


def along(start: Point, axis: Point, distance: float, side: float = 0.0) -> Point:
    """Point at a distance along an axis, and a sideways one to its right."""
    return (
        start[0] + axis[0] * distance - axis[1] * side,
        start[1] + axis[1] * distance + axis[0] * side,
    )


def draw_pose(rng: np.random.Generator, size: Growth, child: Individual, baby: float) -> Pose:
    """Draw a pose for a hand of this size.

    The number of draws is constant; ``baby`` is 1 for a plump infant, 0 from about four years on.
    """
    spread = float(rng.beta(2.1, 1.3))
    bend = np.clip(rng.standard_normal((5, 4)), -2.0, 2.0)
    shorten = 1.0 - 0.05 * rng.random((5, 4)) ** 2
    deviation = float(np.clip(rng.normal(0.0, 7.0), -16.0, 16.0))
    shifts = 0.02 * np.clip(rng.standard_normal((len(anatomy.CARPALS), 2)), -2.0, 2.0)
    ulna_minus, bow, plump = rng.random(3)
    wide, unit = anatomy.wrist_units_mm(size)

    bones: list[PosedBone] = []
    chains = []
    knuckles: list[Point] = []
    web_points: list[Point] = []
    sesamoid = (0.0, 0.0)
    for ray in anatomy.RAYS:
        i = ray - 1
        together, apart = _METACARPAL_DEG[i]
        angle = together + (apart - together) * spread + 1.2 * bend[i, 0]
        angle *= 1.0 + 0.2 * baby if ray > 1 else 1.0
        at: Point = (_BASES[i][0] * wide, -_BASES[i][1] * unit)
        radius = _FINGER_MM[i] * size.flesh * child.flesh * (1.0 + 0.10 * baby * plump)
        chain = []
        for j, row in enumerate(("mc", "pp", "mp", "dp")):
            length = anatomy.LENGTHS_MM[row][i] * size.length * child.proportion[i]
            if length == 0.0:
                continue
            if row != "mc":
                together, apart = _FINGER_DEG[i]
                lean = 3.0 if ray == 5 and row == "dp" else 0.0
                angle = together + (apart - together) * spread + 2.2 * bend[i, 1]
                angle += lean + (1.6 * bend[i, j] if row != "pp" else 0.0)
                length *= float(shorten[i, j])
            axis = heading(angle)
            end = along(at, axis, length)
            if row == "mc" and ray > 1:
                bones.append(PosedBone(ray, row, end, (-axis[0], -axis[1]), length))
            else:
                bones.append(PosedBone(ray, row, at, axis, length))
            chain += _discs(row, ray, at, axis, length, radius)
            if row == "mc":
                knuckles.append(end)
                if ray == 1:
                    sesamoid = along(end, axis, -0.02 * length, -7.4 * size.width)
            if row == "pp" and ray > 1:
                web_points.append(along(at, axis, 0.30 * length))
            # Cartilage on both joint surfaces keeps the bones apart, more of it in a child.
            at = along(end, axis, 0.8 + 0.75 * size.length)
        chains.append(tuple(chain))

    forearm = heading(180.0 + deviation)
    skew = heading(180.0 + deviation - 0.3)
    # The two bones nearly touch in a man; a child's are apart by their unossified rims.
    beside = 23.8 * size.width * child.slender + 1.0 + 5.0 * (1.0 - size.width)
    ulna_at = along((0.0, 0.0), forearm, (0.03 + 0.14 * float(ulna_minus)) * unit, beside)
    return Pose(
        bones=tuple(bones),
        wobble={
            name: (float(x), float(y)) for name, (x, y) in zip(anatomy.CARPALS, shifts, strict=True)
        },
        sesamoid=sesamoid,
        radius_axis=skew,
        ulna_axis=heading(180.0 + deviation + 1.0),
        ulna=ulna_at,
        bow=2.0 - 5.0 * float(bow),
        flesh=_flesh(
            chains, knuckles, web_points, forearm, beside, size, child, baby * (0.4 + plump)
        ),
    )


def _discs(
    row: str, ray: int, at: Point, axis: Point, length: float, radius: float
) -> list[tuple[float, float, float]]:
    """Soft-tissue discs along one bone: (share of the bone, share of the finger's radius)."""
    if row == "mc":
        girth = ((0.0, 1.25), (0.5, 1.45), (0.95, 1.18)) if ray == 1 else ((0.55, 1.1), (1.0, 1.14))
    elif row == "pp":
        girth = ((0.18, 1.12), (0.5, 1.02), (1.0, 1.0))
    elif row == "mp":
        girth = ((0.45, 0.97), (1.0, 0.90))
    else:
        girth = ((0.4, 0.89), (0.72, 0.84), (1.0, 0.70))
    discs = [(*along(at, axis, share * length), size * radius) for share, size in girth]
    if row == "dp":
        x, y = along(at, axis, length + 0.42 * radius - discs[-1][2] + 0.12 * radius)
        discs[-1] = (x, y, discs[-1][2])
    return discs


def _flesh(
    chains: list[tuple[tuple[float, float, float], ...]],
    knuckles: list[Point],
    web_points: list[Point],
    forearm: Point,
    beside: float,
    size: Growth,
    child: Individual,
    baby: float,
) -> Flesh:
    wide, unit = anatomy.wrist_units_mm(size)
    flesh = size.flesh * child.flesh
    # The forearm keeps a few millimetres of flesh outside of both its bones.
    outer = beside + 8.6 * size.width + (5.5 + 3.0 * baby) * flesh
    inner = 14.6 * size.width + (8.0 + 2.5 * baby) * flesh
    middle, half = (inner - outer) / 2.0, (inner + outer) / 2.0
    palm = [
        (*along(knuckles[1], (0.0, 1.0), 3.0 * flesh), 10.2 * flesh),
        (*along(knuckles[2], (0.0, 1.0), 4.0 * flesh), 9.5 * flesh),
        (*along(knuckles[4], (0.0, 1.0), 3.0 * flesh), 9.0 * flesh),
        (-0.60 * wide, -0.75 * unit, (11.5 + 2.0 * baby) * flesh),
        (0.55 * wide, -0.62 * unit, (11.5 + 1.5 * baby) * flesh),
        (middle - half + 13.0 * flesh, -0.10 * unit, 13.0 * flesh),
        (middle + half - 13.0 * flesh, -0.10 * unit, 13.0 * flesh),
    ]
    webs = [(web_points[i], web_points[i + 1], knuckles[i + 2], knuckles[i + 1]) for i in range(3)]
    thumb, index = knuckles[0], knuckles[1]
    hollow = (0.48 * thumb[0] + 0.52 * index[0], 0.62 * thumb[1] + 0.38 * index[1])
    webs.append((index, hollow, thumb, (0.3 * unit, -0.9 * unit)))
    arm = []
    for side in (-1.0, 1.0):
        edge = [
            along((0.0, 0.0), forearm, at * size.length, -middle - side * share * half)
            for at, share in (
                (4.0, 0.97), (16.0, 1.0), (35.0, 0.98), (80.0, 1.05), (150.0, 1.25), (320.0, 1.4)
            )
        ]  # fmt: skip
        arm += edge if side < 0 else edge[::-1]
    thumb_mid = chains[0][1][:2]
    return Flesh(
        chains=tuple(chains),
        palm=tuple(palm),
        webs=tuple(webs),
        forearm=tuple(arm),
        arm_axis=forearm,
        pads=(
            (thumb_mid[0] - 6.0 * flesh, thumb_mid[1] + 2.0, 15.0 * flesh, 3.4 * flesh),
            (-0.62 * unit, -1.1 * unit, 15.0 * flesh, 2.4 * flesh),
            (0.0, -1.6 * unit, 22.0 * flesh, -1.6 * flesh),
            (-0.1 * unit, -0.2 * unit, 20.0 * flesh, 2.0 * flesh),
            (*along((0.0, 0.0), forearm, 75.0 * size.length), 45.0 * flesh, 6.0 * flesh),
        ),
        finger_mm=7.9 * flesh,
        palm_mm=15.2 * flesh,
        folds=(
            (
                (*thumb_mid, 13.0 * flesh),
                (0.30 * wide, -1.75 * unit, 9.0 * flesh),
                (0.25 * wide, -0.55 * unit, 9.0 * flesh),
            ),
            tuple(
                (*along(knuckle, (0.0, -1.0), 3.5 * flesh), 7.0 * flesh) for knuckle in knuckles[1:]
            ),
        ),
        fillet_mm=2.3 * flesh,
        crease_mm=2.2 * max(baby - 0.5, 0.0),
    )
