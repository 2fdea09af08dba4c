"""Skeletal maturity by age and sex: ossification tables, growth curves, bone measurements.

Ages are *skeletal* ages in months, relative to the child's own sex as in the Greulich-Pyle atlas:
at the same age, girls are more mature than boys. Lengths are in millimetres of an adult man unless
a function scales them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

AGE_RANGE_MONTHS: Final = (1.0, 228.0)

RAYS: Final = (1, 2, 3, 4, 5)

# Month at which half the children show the centre: (boys, girls). The sequence is the textbook one:
# capitate and hamate in the first half year, the distal radius at one year, the phalanges and
# metacarpals between one and three, triquetrum, lunate, then the three radial carpals around five
# to six, the ulna at seven (five), pisiform and the thumb's sesamoid before the growth spurt ends.
APPEAR_MONTHS: Final[dict[str, tuple[float, float]]] = {
    "capitate": (3, 2),
    "hamate": (4, 2.5),
    "radius": (13, 10),
    "pp2": (16, 10),
    "pp3": (16, 10),
    "pp4": (17, 10.5),
    "dp1": (18, 12),
    "mc2": (18, 13),
    "mc3": (20, 13.5),
    "pp5": (21, 14),
    "mc4": (23, 15),
    "mp3": (24, 15.5),
    "mp4": (24.5, 15.5),
    "mc5": (26, 16),
    "mp2": (26, 16.5),
    "triquetrum": (28, 20),
    "dp3": (28, 18),
    "dp4": (29, 18.5),
    "mc1": (31, 19),
    "pp1": (32, 20),
    "dp5": (37, 23),
    "dp2": (37, 23.5),
    "mp5": (39, 22),
    "lunate": (47, 32),
    "scaphoid": (66, 51),
    "trapezium": (68, 48),
    "trapezoid": (71, 50),
    "ulna": (84, 64),
    "pisiform": (129, 106),
    "sesamoid": (152, 129),
}

CARPALS: Final = (
    "capitate",
    "hamate",
    "triquetrum",
    "lunate",
    "scaphoid",
    "trapezium",
    "trapezoid",
    "pisiform",
)

# Months (boys, girls) at which a row's epiphysis is as wide as its metaphysis, caps it, starts to
# fuse and is fused: distal phalanges first, then the thumb's metacarpal, the proximal and middle
# phalanges, the metacarpals, the ulna, and the radius last of all.
_STAGES_MONTHS: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "dp": ((104, 84), (152, 124), (176, 148), (190, 164)),
    "mc1": ((108, 88), (156, 128), (180, 152), (193, 167)),
    "pp": ((112, 90), (160, 130), (183, 156), (197, 172)),
    "mp": ((114, 92), (162, 132), (185, 158), (199, 174)),
    "mc": ((116, 94), (164, 134), (187, 160), (202, 177)),
    "ulna": ((140, 112), (176, 144), (192, 168), (213, 195)),
    "radius": ((112, 92), (166, 136), (198, 176), (222, 208)),
}

# (boys, girls): the carpals have reached their adult outline and touch each other.
_CARPAL_ADULT_MONTHS: Final = (176.0, 152.0)

# Months by which a girl's growth is ahead of a boy's of the same skeletal-age label.
_LEAD_AGE: Final = (0.0, 12.0, 36.0, 72.0, 120.0, 160.0, 228.0)
_LEAD_MONTHS: Final = (0.5, 3.0, 8.0, 14.0, 22.0, 25.0, 24.0)

# Growth of a boy's bones as a fraction of the man's: length, thickness, and the carpal block.
_GROWTH_AGE: Final = (0.0, 6.0, 12.0, 24.0, 48.0, 84.0, 120.0, 144.0, 168.0, 192.0, 210.0)
_LENGTH: Final = (0.33, 0.39, 0.44, 0.51, 0.61, 0.72, 0.82, 0.89, 0.955, 0.99, 1.0)
_WIDTH: Final = (0.48, 0.54, 0.57, 0.60, 0.64, 0.70, 0.785, 0.855, 0.93, 0.98, 1.0)
_WRIST: Final = (0.48, 0.54, 0.58, 0.65, 0.73, 0.82, 0.90, 0.95, 0.98, 1.0, 1.0)
_FLESH: Final = (0.66, 0.74, 0.78, 0.82, 0.85, 0.88, 0.92, 0.95, 0.98, 1.0, 1.0)
# Thickness of the mid-shaft cortex as a fraction of the shaft's half width (thin in a baby).
_CORTEX: Final = (0.24, 0.25, 0.26, 0.28, 0.31, 0.34, 0.37, 0.40, 0.44, 0.48, 0.50)

# Adult lengths in mm, thumb to little finger, growth cartilage included.
LENGTHS_MM: Final[dict[str, tuple[float, ...]]] = {
    "mc": (46.0, 67.0, 65.0, 58.0, 54.0),
    "pp": (31.0, 40.5, 45.0, 42.0, 33.5),
    "mp": (0.0, 23.5, 28.0, 26.5, 19.0),
    "dp": (22.0, 16.5, 17.5, 17.5, 15.5),
}
# Girth of each ray's bones relative to the middle finger's.
GIRTH: Final = (1.08, 0.98, 1.0, 0.91, 0.80)

WRIST_HEIGHT_MM: Final = 30.5
RADIUS_LENGTH_MM: Final = 240.0
ULNA_LENGTH_MM: Final = 235.0


@dataclass(frozen=True)
class Individual:
    """Individual deviations of one child from the tables.

    Attributes:
        timing: Factor on the appearance and fusion ages of each centre, by name (around 1).
        slender: Factor on bone girth (around 1).
        flesh: Factor on soft tissue (around 1).
        proportion: Factor on the length of each ray, thumb to little finger (around 1).
    """

    timing: dict[str, float]
    slender: float
    flesh: float
    proportion: tuple[float, ...]


@dataclass(frozen=True)
class Maturity:
    """The maturity of one epiphysis.

    Attributes:
        visible: Whether the centre is ossified.
        breadth: Width of the epiphysis relative to its metaphysis, 0 to about 1.05.
        height: Ossified share of the cartilage between growth plate and joint, 0 to 1.
        capping: How far the rim wraps over the metaphysis, 0 to 1.
        fusion: 0 for an open growth plate, 1 for a fused bone.
        scar: Strength of the line a fused plate leaves, 0 to 1.
    """

    visible: bool
    breadth: float
    height: float
    capping: float
    fusion: float
    scar: float


@dataclass(frozen=True)
class Growth:
    """Size of a child's bones relative to a man's, all factors.

    Attributes:
        length: Tubular bone length.
        width: Tubular bone girth.
        wrist: Height and width of the carpal block.
        flesh: Finger and palm thickness.
        cortex: Cortex thickness as a share of the shaft's half width (not relative to a man).
    """

    length: float
    width: float
    wrist: float
    flesh: float
    cortex: float


def draw_individual(rng: np.random.Generator) -> Individual:
    """Draw one child's deviations; the number of draws is constant."""
    timing = 1.0 + 0.035 * np.clip(rng.standard_normal(len(APPEAR_MONTHS)), -2.0, 2.0)
    slender, flesh = np.clip(rng.standard_normal(2), -2.0, 2.0)
    proportion = 1.0 + 0.018 * np.clip(rng.standard_normal(len(RAYS)), -2.0, 2.0)
    return Individual(
        timing=dict(zip(APPEAR_MONTHS, timing.tolist(), strict=True)),
        slender=1.0 + 0.05 * float(slender),
        flesh=1.0 + 0.06 * float(flesh),
        proportion=tuple(proportion.tolist()),
    )


def boy_equivalent_months(age_months: float, male: bool) -> float:
    """Age of a boy with the same bone growth as this child."""
    if male:
        return age_months
    return age_months + float(np.interp(age_months, _LEAD_AGE, _LEAD_MONTHS))


def growth(age_months: float, male: bool) -> Growth:
    """Size factors at a skeletal age; a grown woman's hand ends smaller and slimmer."""
    age = boy_equivalent_months(age_months, male)
    small, slim = (1.0, 1.0) if male else (0.925, 0.95)

    def at(curve: tuple[float, ...]) -> float:
        return float(np.interp(age, _GROWTH_AGE, curve))

    return Growth(
        length=small * at(_LENGTH),
        width=small * slim * at(_WIDTH),
        wrist=small * at(_WRIST),
        flesh=small * slim * at(_FLESH),
        cortex=at(_CORTEX),
    )


def wrist_units_mm(size: Growth) -> tuple[float, float]:
    """Units of the carpals' positions: across the wrist (wide in the young) and along it."""
    wide = 34.0 * size.wrist * (1.0 + 0.3 * (1.0 - size.wrist))
    return wide, WRIST_HEIGHT_MM * size.wrist


def appear_months(name: str, male: bool, individual: Individual | None = None) -> float:
    """Skeletal age in months at which a centre becomes visible in this child."""
    age = APPEAR_MONTHS[name][0 if male else 1]
    return age * (individual.timing[name] if individual else 1.0)


def maturity(
    name: str, age_months: float, male: bool, individual: Individual | None = None
) -> Maturity:
    """State of one epiphysis (`radius`, `mc3`, `pp1` and so on) at a skeletal age."""
    row = name if name in _STAGES_MONTHS else name.rstrip("12345")
    sex = 0 if male else 1
    factor = individual.timing[name] if individual else 1.0
    start = appear_months(name, male, individual)
    full, cap, fuse, fused = (stage[sex] * factor for stage in _STAGES_MONTHS[row])
    # The atlas ends at 19 years with every plate closed, whatever the individual timing.
    fused = min(fused, AGE_RANGE_MONTHS[1] - 2.0)
    grown = _fraction(age_months, start, full)
    return Maturity(
        visible=age_months >= start,
        breadth=0.38 + 0.64 * grown**0.45 + 0.05 * _fraction(age_months, full, cap),
        height=0.38 + 0.47 * grown**0.5 + 0.15 * _fraction(age_months, full, cap),
        capping=_fraction(age_months, full, cap),
        fusion=_fraction(age_months, fuse, fused),
        scar=1.0 - 0.75 * _fraction(age_months, fused, fused + 26.0),
    )


def carpal_size(
    name: str, age_months: float, male: bool, individual: Individual | None = None
) -> tuple[float, float]:
    """Size of a carpal centre relative to the adult bone, and how adult its outline is (0 to 1)."""
    start = appear_months(name, male, individual)
    adult = _CARPAL_ADULT_MONTHS[0 if male else 1]
    if age_months < start:
        return 0.0, 0.0
    grown = _fraction(age_months, start, adult)
    return 0.20 + 0.80 * grown**0.52, grown**0.8


def _fraction(value: float, low: float, high: float) -> float:
    return float(np.clip((value - low) / (high - low), 0.0, 1.0))
