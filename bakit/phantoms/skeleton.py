"""Shapes of all bones of the left hand and wrist at one age, in one pose."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from bakit.phantoms import anatomy
from bakit.phantoms.shapes import End, FloatArray, Knots, Point, Tube, profile

if TYPE_CHECKING:
    from bakit.phantoms.anatomy import Growth, Individual, Maturity
    from bakit.phantoms.pose import Pose, PosedBone

# Half widths in mm of a man's middle finger: (base, waist, head).
_GIRTH_MM: Final = {"mc": (7.2, 3.6, 6.5), "pp": (7.1, 4.15, 5.7), "mp": (6.1, 3.6, 4.8)}
_THUMB_MC_MM: Final = (7.2, 4.8, 7.2)
_DISTAL_MM: Final = {1: (6.2, 3.0, 4.3), 0: (4.7, 2.2, 3.4)}  # thumb, others: base, waist, tuft

# Metacarpals 2 to 5: breadth of the base, its slant (thumb's side -), and the groove in it.
_MC_BASE: Final = (1.12, 1.05, 0.92, 1.0)
_MC_SLANT: Final = (0.05, -0.16, 0.0, 0.24)
_MC_GROOVE: Final = (-0.24, -0.05, -0.10, -0.08)

# Height of the cartilage that becomes the epiphysis, as a share of the bone's length.
_CARTILAGE: Final = {"mc": 0.19, "pp": 0.105, "mp": 0.110, "dp": 0.125, "mc1": 0.135}


def tubular_bones(
    age_months: float, male: bool, child: Individual, pose: Pose, size: Growth
) -> list[Tube]:
    """All tubular bones with their epiphyses, as far as they are ossified."""
    tubes: list[Tube] = []
    for bone in pose.bones:
        ray, row = bone.ray, bone.row
        name = f"{row}{ray}"
        state = anatomy.maturity(name, age_months, male, child)
        girth = anatomy.GIRTH[ray - 1] * size.width * child.slender
        if row == "dp":
            base, waist, head = _DISTAL_MM[1 if ray == 1 else 0]
            girth = girth if ray > 1 else size.width * child.slender
        elif name == "mc1":
            base, waist, head = _THUMB_MC_MM
            girth = size.width * child.slender
        else:
            base, waist, head = _GIRTH_MM[row]
        # A child's shafts are thick near their ends.
        stout = 1.0 + 0.30 * (1.0 - size.length)
        widths = (base * girth, waist * stout * girth, head * girth)
        if row == "mc" and ray > 1:
            widths = (widths[0] * _MC_BASE[ray - 2], *widths[1:])
        share = _CARTILAGE.get(name, _CARTILAGE[row])
        row = "mc1" if name == "mc1" else row
        tubes += _finger_bone(bone, row, widths, share, state, size)
    return tubes + _forearm_bones(age_months, male, child, pose, size)


def _finger_bone(
    bone: PosedBone,
    row: str,
    widths: tuple[float, float, float],
    share: float,
    state: Maturity,
    size: Growth,
) -> list[Tube]:
    """Shaft, epiphysis and (once it fuses) whole bone; the growth end is at distance 0."""
    base, waist, head = widths
    knots: Knots
    length = bone.length
    young = 1.0 - size.length  # a child's unossified ends are round and plain
    if row == "mc":  # grows at the head
        knots = (
            (0.0, 0.90 * head), (0.06, head), (0.15, 0.97 * head), (0.25, 0.76 * head),
            (0.38, 1.06 * waist), (0.58, waist), (0.74, 1.15 * waist), (0.87, 0.84 * base),
            (0.95, base), (1.0, (0.96 - 0.35 * young) * base),
        )  # fmt: skip
    elif row == "dp":
        knots = (
            (0.0, 0.96 * base), (0.06, base), (0.14, 0.97 * base), (0.27, 0.68 * base),
            (0.50, waist), (0.68, 1.05 * waist), (0.80, 0.96 * head), (0.90, head),
            (1.0, 0.90 * head),
        )  # fmt: skip
    else:
        knots = (
            (0.0, 0.95 * base), (0.05, base), (0.13, 0.98 * base), (0.26, 0.76 * base),
            (0.45, 1.12 * waist), (0.64, waist), (0.78, 1.06 * waist), (0.88, 0.93 * head),
            (0.95, (1.0 - 0.1 * young) * head), (1.0, (0.95 - 0.2 * young) * head),
        )  # fmt: skip
    joint_square = 0.55 * head if row == "mc" else -0.09 * base
    if row == "mc":
        far = End(
            length, linear=_MC_SLANT[bone.ray - 2] * base, square=-(0.16 + 0.45 * young) * base,
            rim=-0.12 * base, notch=_MC_GROOVE[bone.ray - 2] * base * size.length,
            round_mm=(0.20 + 0.4 * young) * base,
        )  # fmt: skip
    elif row == "mc1":
        far = End(length, square=-0.42 * head, rim=-0.2 * head, round_mm=0.5 * head)
    elif row == "dp":
        far = End(length, square=-0.75 * head, round_mm=0.35 * head, plate_mm=0.2)
    else:
        far = End(
            length,
            square=-(0.28 + 0.4 * young) * head,
            rim=-0.2 * head,
            notch=(0.3 * young - 0.16) * head,
            round_mm=(0.45 + 0.3 * young) * head,
        )
    ridge = -0.13 * base if row in {"mp", "dp"} else 0.0  # fits the groove of the joint's head
    joint = End(0.0, square=joint_square, rim=0.04 * base, notch=ridge, round_mm=1.0, plate_mm=0.45)
    return _grow(
        bone.start, bone.axis, knots, joint, far, share * length, base if row != "mc" else head,
        state, size, stretch=2.4, depth=0.78 if row != "mc" else 0.9,
    )  # fmt: skip


def _grow(
    start: Point,
    axis: Point,
    knots: Knots,
    joint: End,
    far: End,
    cartilage: float,
    unit: float,
    state: Maturity,
    size: Growth,
    *,
    stretch: float,
    depth: float,
    plate_mm: float = 0.35,
    tube_from: float = 0.18,
    bow_mm: float = 0.0,
) -> list[Tube]:
    """Split a mature bone at its growth plate if the plate is open."""
    length = far.at_mm
    span = (0.0, length)
    scaled = tuple((at * length, value) for at, value in knots)
    half = profile(scaled, span)
    middle = float(half.min())
    wall = size.cortex * middle
    thin = 0.12 + 0.22 * size.width
    cortex = profile(
        ((0.0, thin), (tube_from * length, thin), (2.3 * tube_from * length, wall),
         (0.68 * length, wall), (0.88 * length, thin), (length, thin)),
        span,
    )  # fmt: skip
    density = profile(
        ((0.0, 0.26), (cartilage, 0.36), (cartilage + 1.2, 0.36), (cartilage + 4.0, 0.24),
         (max(0.9 * tube_from * length, cartilage + 4.1), 0.23), (2.3 * tube_from * length, 0.11),
         (0.66 * length, 0.11),
         (0.86 * length, 0.25), (length, 0.27)),
        span,
    )  # fmt: skip
    dome = 0.07 * unit
    gap = 0.38 + 0.55 * (1.0 - state.capping) * min(size.width, 1.0)
    gap *= 1.0 - 0.6 * state.fusion
    rim = (0.10 + 0.06 * state.capping) * unit
    plate = End(cartilage, square=-dome, rim=rim, round_mm=0.6, plate_mm=plate_mm)
    # A grown plate is wavy: bone from either side already shades most rays through it.
    bridged = 0.55 * state.capping * (1.0 - state.fusion)
    whole = Tube(
        start, axis, joint, far, span, half, cortex, density, unit, bow_mm, depth, stretch,
        fade=(1.6 * state.fusion + bridged, -0.6 * min(2.0 * state.fusion, 1.0)),
        scar=(plate, 0.22 * state.scar),
    )  # fmt: skip
    if state.fusion >= 1.0:
        return [whole]
    fade = (1.0 - whole.fade[0], -whole.fade[1])
    shaft = Tube(
        start, axis, plate, far, span, half, cortex, density, unit, bow_mm, depth, stretch, fade
    )
    parts = [shaft] + ([whole] if whole.fade[0] > 0.0 else [])
    if state.visible:
        parts.append(_epiphysis(shaft, joint, state, cartilage - gap, half, depth))
    return parts


def _epiphysis(
    shaft: Tube, joint: End, state: Maturity, room: float, half: FloatArray, depth: float
) -> Tube:
    """The ossified part of the cartilage between the plate and the joint."""
    plate = shaft.near
    length = shaft.far.at_mm
    metaphysis = float(half[min(int(plate.at_mm / length * len(half)), len(half) - 1)])
    width = metaphysis * state.breadth
    tall = room * state.height
    young = 1.0 - state.capping
    # A young centre is a lens; a grown one takes over the joint's surface and caps the shaft.
    near = End(
        room - tall,
        linear=joint.linear * (1.0 - 0.30 * young) * state.breadth,
        square=(1.0 - young) * joint.square + young * max(0.20 * tall, 0.5 * joint.square),
        rim=joint.rim * (1.0 - young) + young * 0.12 * tall,
        notch=joint.notch * (1.0 - young),
        notch_at=joint.notch_at,
        round_mm=min(0.5 * tall, 1.6),
        plate_mm=0.4,
    )
    far = End(
        room,
        square=plate.square - young * 0.06 * tall,
        rim=plate.rim + 0.06 * width * state.capping - 0.10 * tall * young,
        round_mm=min(0.45 * tall, 0.9),
        plate_mm=0.5,
    )
    low, high = room - tall - 0.5 * width, room + 0.3 * width
    barrel = ((room - tall, 0.90 * width), (room - 0.6 * tall, width), (room, 0.98 * width))
    flat = np.ones_like(half)
    return Tube(
        shaft.origin, shaft.axis, near, far, (low, high), profile(barrel, (low, high)),
        flat * np.float32(0.40), flat * np.float32(0.25), width, 0.0, depth, 1.4, shaft.fade,
        (End(room - 0.45 * tall, linear=0.5 * near.linear, square=-0.3 * tall), 0.12),
    )  # fmt: skip


def _forearm_bones(
    age_months: float, male: bool, child: Individual, pose: Pose, size: Growth
) -> list[Tube]:
    girth = size.width * child.slender
    wrist = size.wrist
    tubes: list[Tube] = []
    for name in ("radius", "ulna"):
        state = anatomy.maturity(name, age_months, male, child)
        if name == "radius":
            adult = anatomy.RADIUS_LENGTH_MM
            knots_mm: Knots = (
                (0.0, 13.0), (4.0, 14.2), (9.0, 14.8), (14.0, 13.4), (24.0, 10.4), (40.0, 8.3),
                (62.0, 7.3), (110.0, 7.0), (adult, 8.0),
            )  # fmt: skip
            # The styloid stands out on the thumb's side, which is -v when the axis points down.
            joint = End(0.0, linear=3.0 * girth, square=-1.8 * girth, rim=1.2 * girth,
                        notch=-1.8 * girth, notch_at=-0.70, round_mm=2.2, plate_mm=0.7)  # fmt: skip
            room, unit, axis, start = 10.5 * wrist, 14.6 * girth, pose.radius_axis, (0.0, 0.0)
            bow = pose.bow
        else:
            adult = anatomy.ULNA_LENGTH_MM
            knots_mm = (
                (0.0, 7.4), (3.0, 8.6), (7.0, 8.6), (12.0, 7.4), (22.0, 6.0), (40.0, 5.4),
                (100.0, 6.0), (adult, 9.0),
            )  # fmt: skip
            joint = End(0.0, square=0.9 * girth, rim=1.0 * girth, notch=-3.4 * girth, notch_at=0.7,
                        round_mm=1.8, plate_mm=0.6)  # fmt: skip
            room, unit, axis, start = 7.0 * wrist, 8.6 * girth, pose.ulna_axis, pose.ulna
            bow = -0.5 * pose.bow
        length = adult * size.length
        knots = tuple((at * wrist / length, value * girth) for at, value in knots_mm[:-1])
        tubes += _grow(
            start, axis, (*knots, (1.0, knots_mm[-1][1] * girth)), joint,
            End(length, round_mm=4.0), room, unit, state, size,
            stretch=3.0, depth=0.72, plate_mm=0.45, tube_from=0.07, bow_mm=bow * size.length,
        )  # fmt: skip
    return tubes
