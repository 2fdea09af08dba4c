"""Intervals around predicted ages: split conformal prediction, by sex and predicted age."""

from __future__ import annotations

import math
from bisect import bisect_right
from fractions import Fraction
from itertools import pairwise
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.types import Floats, Mask


SEXES = ("F", "M")

LEVEL = 0.9

EDGES_MONTHS = (72.0, 108.0, 132.0, 156.0)
"""Whole years, further apart where ages are rare: of the 2,312 validation images of the RSNA split,
each bin has more than 100 for either sex."""

LEAST = 100
"""Images that a bin must have of its own. Over all draws of these images, the share that the
intervals cover is beta-distributed: at 90 %, 100 images leave it an SD of 3 points."""


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far the true age may be from a predicted one.

    Bins are of the predicted age, since the true one is unknown where they are used. Bin ``i``
    starts at edge ``i - 1``, inclusive, and ends before edge ``i``; the outer bins are open.

    Attributes:
        level: Share of images whose true age is to lie inside, between 0 and 1.
        age_edges_months: Inner edges of the bins, rising.
        offsets_months: By sex, ``F`` and ``M``, for each bin what is added to the predicted age
            for the lower (never above 0) and the upper bound (never below 0). A model without
            sex input has the same for both.
        samples: By sex, for each bin the number of images that its offsets rest on.
    """

    level: float
    age_edges_months: tuple[float, ...]
    offsets_months: dict[str, tuple[tuple[float, float], ...]]
    samples: dict[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        """Refuse what is no set of intervals."""
        if not 0 < self.level < 1:
            message = f"level {self.level} is not between 0 and 1"
            raise ValueError(message)
        edges = self.age_edges_months
        if not all(map(math.isfinite, edges)) or any(a >= b for a, b in pairwise(edges)):
            message = f"age edges {edges} do not rise"
            raise ValueError(message)
        for by_sex in (self.offsets_months, self.samples):
            sizes = {sex: len(values) for sex, values in by_sex.items()}
            if sizes != dict.fromkeys(SEXES, len(edges) + 1):
                message = f"{len(edges)} age edges need {len(edges) + 1} bins of F and of M"
                raise ValueError(message)
        for lower, upper in (pair for sex in SEXES for pair in self.offsets_months[sex]):
            if not -math.inf < lower <= 0 <= upper < math.inf:  # NaN fails too
                message = f"offsets {lower} and {upper} are not on both sides of 0"
                raise ValueError(message)
        if min(count for sex in SEXES for count in self.samples[sex]) < 1:
            message = "each bin needs samples"
            raise ValueError(message)

    def around(self, age_months: float, *, male: bool) -> tuple[float, float]:
        """Return the lower and upper bound of the true age, in months.

        No bound is below 0, and the predicted age is inside unless it is itself below 0.

        Args:
            age_months: Predicted age.
            male: Whether the child is male.
        """
        index = bisect_right(self.age_edges_months, age_months)
        lower, upper = self.offsets_months["M" if male else "F"][index]
        return max(age_months + lower, 0.0), max(age_months + upper, 0.0)


class Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How intervals did on a group of images.

    Attributes:
        samples: Images.
        share: Share of them whose true age was inside, 0..1; None without images.
        mean_width_months: Mean width of their intervals; None without images.
    """

    samples: int
    share: float | None
    mean_width_months: float | None


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How intervals did on labelled images.

    Attributes:
        level: The share that was aimed at.
        overall: All images.
        by_sex: By ``F`` and ``M``.
        by_age: By bin of the predicted age.
    """

    level: float
    overall: Covered
    by_sex: dict[str, Covered]
    by_age: tuple[Covered, ...]


def fewest(level: float = LEVEL) -> int:
    """Return the fewest images that intervals of this level can be fitted on: 19 at 90 %.

    Raises:
        InputError: If the level is not between 0 and 1.
    """
    if not 0 < level < 1:
        message = f"level {level} is not possible; use one between 0 and 1, such as {LEVEL}"
        raise InputError(message)
    return math.ceil(1 / _tail(level)) - 1


def fit_intervals(
    predicted_months: npt.ArrayLike,
    age_months: npt.ArrayLike,
    male: npt.ArrayLike | None,
    *,
    level: float = LEVEL,
    edges: Sequence[float] = EDGES_MONTHS,
    least: int = LEAST,
) -> Intervals:
    """Find intervals that hold the true age of a new image with probability ``level``, or more.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random
    world"; Angelopoulos and Bates 2021, "A gentle introduction to conformal prediction", section
    1), for each group by itself (their section 4.1; Vovk's Mondrian predictors): the groups are
    the bins of the predicted age within each sex. The scores are signed, true minus predicted
    age, and half of what is missed is cut from each end: of ``n`` sorted scores those at the ranks
    ``floor((n + 1) (1 - level) / 2)`` and ``ceil((n + 1) (1 + level) / 2)``. So an interval
    also corrects the bias of its group. It is then widened to hold the predicted age, which people
    expect of it and which can only raise the coverage.

    A bin with fewer than ``least`` images takes the scores of its sex over all bins, and where
    these are too few as well, those of all images. The promise then holds for that larger group,
    not for the bin. It assumes images that were not used to train, and new images like them;
    where the epoch was chosen on the same images, the intervals are a little too narrow.
    ``coverage`` on a third set tells.

    Args:
        predicted_months: ``(N,)`` predicted ages.
        age_months: ``(N,)`` true ages.
        male: ``(N,)``, whether each child is male; None for a model without sex input, whose
            intervals are then the same for both sexes.
        level: Share of images that is to be inside.
        edges: Inner edges of the bins of the predicted age, in months, rising.
        least: Images that a group needs; never fewer than the level itself does.

    Raises:
        InputError: If the level is not between 0 and 1, there are fewer images than it needs
            (``fewest``), or the arrays do not fit together or hold NaN.
    """
    needed = fewest(level)
    predicted, ages, boys = _columns(predicted_months, age_months, male)
    if len(ages) < needed:
        message = (
            f"{len(ages)} images are too few for {100 * level:g} % intervals; "
            f"at least {needed} are needed"
        )
        raise InputError(message)
    scores = ages - predicted
    bins = np.searchsorted(np.asarray(edges, np.float64), predicted, side="right")
    of_sex = {"F": np.full(len(ages), True), "M": np.full(len(ages), True)}
    if boys is not None:
        of_sex = {"F": ~boys, "M": boys}
    offsets: dict[str, tuple[tuple[float, float], ...]] = {}
    samples: dict[str, tuple[int, ...]] = {}
    for sex, mine in of_sex.items():
        own = [scores[mine & (bins == index)] for index in range(len(edges) + 1)]
        pools = [_first_of(max(least, needed), group, scores[mine], scores) for group in own]
        offsets[sex] = tuple(_offsets(pool, level) for pool in pools)
        samples[sex] = tuple(len(pool) for pool in pools)
    return Intervals(float(level), tuple(map(float, edges)), offsets, samples)


def coverage(
    intervals: Intervals,
    predicted_months: npt.ArrayLike,
    age_months: npt.ArrayLike,
    male: npt.ArrayLike,
) -> Coverage:
    """Count how often the true age was inside, on images that the intervals do not rest on.

    Args:
        intervals: What to check.
        predicted_months: ``(N,)`` predicted ages.
        age_months: ``(N,)`` true ages.
        male: ``(N,)``, whether each child is male.

    Raises:
        InputError: If the arrays do not fit together or hold NaN.
    """
    predicted, ages, boys = _columns(predicted_months, age_months, male)
    assert boys is not None
    rows = zip(predicted.tolist(), boys.tolist(), strict=True)
    bounds = [intervals.around(age, male=boy) for age, boy in rows]
    lower, upper = np.array(bounds).reshape(-1, 2).T
    inside, widths = (lower <= ages) & (ages <= upper), upper - lower
    bins = np.searchsorted(intervals.age_edges_months, predicted, side="right")

    def of(group: Mask) -> Covered:
        if not group.any():
            return Covered(0, None, None)
        share, width = float(inside[group].mean()), float(widths[group].mean())
        return Covered(int(group.sum()), share, width)

    return Coverage(
        intervals.level,
        of(np.full(len(ages), True)),
        {"F": of(~boys), "M": of(boys)},
        tuple(of(bins == index) for index in range(len(intervals.age_edges_months) + 1)),
    )


def _columns(
    predicted_months: npt.ArrayLike, age_months: npt.ArrayLike, male: npt.ArrayLike | None
) -> tuple[Floats, Floats, Mask | None]:
    """Return ``(N,)`` arrays of one length, or refuse them."""
    predicted = np.asarray(predicted_months, np.float64)
    ages = np.asarray(age_months, np.float64)
    boys = None if male is None else np.asarray(male, np.bool_)
    shapes = [column.shape for column in (predicted, ages, boys) if column is not None]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        message = f"ages and sexes of shapes {shapes} do not fit; expected (N,) for each"
        raise InputError(message)
    if not (np.isfinite(predicted).all() and np.isfinite(ages).all()):
        message = "ages hold NaN or infinite values; only numbers can be used"
        raise InputError(message)
    return predicted, ages, boys


def _tail(level: float) -> Fraction:
    """Return the share cut from each end, exactly: in floats, 1 - 0.9 is less than 0.1."""
    return (1 - Fraction(str(level))) / 2


def _first_of(least: int, group: Floats, wider: Floats, widest: Floats) -> Floats:
    """Return the narrowest group with ``least`` scores, or the widest."""
    return next((pool for pool in (group, wider) if len(pool) >= least), widest)


def _offsets(scores: Floats, level: float) -> tuple[float, float]:
    """Return the scores at the two ranks, widened to hold 0."""
    rank = math.floor((len(scores) + 1) * _tail(level))
    ordered = np.sort(scores)
    return min(float(ordered[rank - 1]), 0.0), max(float(ordered[-rank]), 0.0)
