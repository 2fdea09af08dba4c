"""Prediction intervals by split conformal prediction, by sex and predicted age."""

from __future__ import annotations

import math
from bisect import bisect_right
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
_OUTSIDE = 20
"""One true age of so many lies below an interval, and one above: exactly ``2 / (1 - LEVEL)``."""

FEWEST = _OUTSIDE - 1
"""Fewest images that intervals can be fitted on."""

EDGES_MONTHS = (72.0, 108.0, 132.0, 156.0)
"""Whole years, further apart where ages are rare: each bin has more than 100 validation images of
the RSNA split for either sex."""

LEAST = 100
"""Fewest images of a bin. Over all draws of these images, the coverage is beta-distributed: at 90 %
and 100 images, its SD is 3 points."""


class Intervals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Intervals around predicted ages.

    Bins are of the predicted age, since the true one is unknown. Bin ``i`` starts at edge
    ``i - 1``, inclusive, and ends before edge ``i``; the outer bins are open.

    Attributes:
        level: Wanted share of true ages inside, between 0 and 1.
        age_edges_months: Inner edges of the bins, rising.
        offsets_months: By sex, ``F`` and ``M``, for each bin the offsets of the lower bound (at
            most 0) and the upper bound (at least 0) from the predicted age. A model without sex
            input has the same for both.
        samples: By sex, for each bin the number of images that its offsets were fitted on.
    """

    level: float
    age_edges_months: tuple[float, ...]
    offsets_months: dict[str, tuple[tuple[float, float], ...]]
    samples: dict[str, tuple[int, ...]]

    def __post_init__(self) -> None:
        """Reject inconsistent values."""
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
        """Return the lower and upper bound of the true age for a predicted age, in months.

        No bound is below 0, and the predicted age is inside unless it is itself below 0.
        """
        index = bisect_right(self.age_edges_months, age_months)
        lower, upper = self.offsets_months["M" if male else "F"][index]
        return max(age_months + lower, 0.0), max(age_months + upper, 0.0)


class Covered(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Coverage of a group of images.

    Attributes:
        samples: Number of images.
        share: Share of true ages inside their intervals, 0..1; None without images.
        mean_width_months: Mean width of the intervals; None without images.
    """

    samples: int
    share: float | None
    mean_width_months: float | None


class Coverage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Coverage of intervals on labelled images.

    Attributes:
        level: The wanted share.
        overall: All images.
        by_sex: By ``F`` and ``M``.
        by_age: By bin of the predicted age.
    """

    level: float
    overall: Covered
    by_sex: dict[str, Covered]
    by_age: tuple[Covered, ...]


def fit_intervals(
    predicted_months: npt.ArrayLike,
    age_months: npt.ArrayLike,
    male: npt.ArrayLike | None,
    *,
    edges: Sequence[float] = EDGES_MONTHS,
    least: int = LEAST,
) -> Intervals:
    """Fit intervals that contain the true age of a new image with probability ``LEVEL`` or more.

    Split conformal prediction (Vovk, Gammerman and Shafer 2005, "Algorithmic learning in a random
    world"; Angelopoulos and Bates 2021, "A gentle introduction to conformal prediction", section
    1), for each group separately (their section 4.1; Vovk's Mondrian predictors): the groups are
    the bins of the predicted age within each sex. Scores are signed, true minus predicted age, and
    the bounds are at the ranks ``floor((n + 1) / 20)`` from both ends of ``n`` sorted scores. So an
    interval also corrects the bias of its group. It is then widened to contain the predicted age,
    as users expect; this can only raise the coverage.

    A bin with fewer than ``least`` images uses the scores of its sex over all bins, or those of all
    images if these are too few as well; the guarantee then holds for that larger group. It requires
    images that were not used for training, and new images like them. If the epoch was chosen on the
    same images, the intervals are a little too narrow; check with ``coverage`` on a third set.

    Args:
        predicted_months: ``(N,)`` predicted ages.
        age_months: ``(N,)`` true ages.
        male: ``(N,)``, whether each child is male; None for a model without sex input, whose
            intervals are the same for both sexes.
        edges: Inner edges of the bins of the predicted age, in months, rising.
        least: Fewest images of a group; never less than ``FEWEST``.

    Raises:
        InputError: If there are fewer images than ``FEWEST``, or the arrays differ in length or
            contain NaN.
    """
    predicted, ages, boys = _columns(predicted_months, age_months, male)
    if len(ages) < FEWEST:
        message = (
            f"{len(ages)} images are too few for {100 * LEVEL:g} % intervals; "
            f"at least {FEWEST} are needed"
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
        pools = [
            next((p for p in (group, scores[mine]) if len(p) >= max(least, FEWEST)), scores)
            for group in own
        ]
        offsets[sex] = tuple(map(_offsets, pools))
        samples[sex] = tuple(len(pool) for pool in pools)
    return Intervals(LEVEL, tuple(map(float, edges)), offsets, samples)


def coverage(
    intervals: Intervals,
    predicted_months: npt.ArrayLike,
    age_months: npt.ArrayLike,
    male: npt.ArrayLike,
) -> Coverage:
    """Measure the coverage on images that were not used to fit the intervals.

    Arrays are those of ``fit_intervals``.

    Raises:
        InputError: If the arrays differ in length or contain NaN.
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
    """Return ``(N,)`` arrays of one length, or raise an InputError."""
    predicted = np.asarray(predicted_months, np.float64)
    ages = np.asarray(age_months, np.float64)
    boys = None if male is None else np.asarray(male, np.bool_)
    shapes = [column.shape for column in (predicted, ages, boys) if column is not None]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        message = f"ages and sexes of shapes {shapes} do not fit; expected (N,) for each"
        raise InputError(message)
    if not (np.isfinite(predicted).all() and np.isfinite(ages).all()):
        message = "ages contain NaN or infinite values"
        raise InputError(message)
    return predicted, ages, boys


def _offsets(scores: Floats) -> tuple[float, float]:
    """Return the scores at the two ranks, widened to contain 0."""
    rank = (len(scores) + 1) // _OUTSIDE
    ordered = np.sort(scores)
    return min(float(ordered[rank - 1]), 0.0), max(float(ordered[-rank]), 0.0)
