"""Drift among the children of one sex and age."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from bakit.bench.report.document import GroupDrift
from bakit.bench.statistics import simultaneous_intervals
from bakit.data.labels import MAX_AGE_MONTHS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.data.labels import Sample
    from bakit.types import Floats


BIN_MONTHS = 36
"""Groups hold three years of the true age, or more where those are too few images."""

LEAST_IMAGES = 20
"""Images below which a group is joined to its neighbour: Student's interval needs some."""


class Group(NamedTuple):
    """Images of children of one sex and age; the last group of a sex holds the oldest age."""

    sex: Literal["F", "M"]
    from_months: float
    to_months: float
    rows: npt.NDArray[np.int64]


def group_images(samples: Sequence[Sample]) -> list[Group]:
    """Group images by sex and three years of age, first girls, then boys, each rising.

    A bin of fewer than 20 images is joined to its smaller neighbour, the smallest first. A sex
    with fewer than that in all has no group.
    """
    ages = np.array([sample.age_months for sample in samples])
    males = np.array([sample.male for sample in samples], bool)
    groups = []
    for sex in ("F", "M"):
        of_sex = males == (sex == "M")
        if np.count_nonzero(of_sex) < LEAST_IMAGES:
            continue
        edges = _edges(ages[of_sex])
        for start, stop in pairwise(edges):
            # Ages above the last edge, which the labels refuse but other sources may hold, count.
            inside = (ages >= start) & ((ages < stop) | (stop == edges[-1]))
            groups.append(Group(sex, start, stop, np.flatnonzero(of_sex & inside)))
    return groups


def _edges(ages: Floats) -> list[float]:
    """Return the edges of the bins of one sex, after small ones were joined to others."""
    edges = [float(edge) for edge in range(0, int(MAX_AGE_MONTHS), BIN_MONTHS)]
    places = np.clip(np.searchsorted(edges, ages, side="right") - 1, 0, None)
    counts = [int(count) for count in np.bincount(places, minlength=len(edges))]
    while len(counts) > 1 and min(counts) < LEAST_IMAGES:
        small = counts.index(min(counts))
        neighbours = [place for place in (small - 1, small + 1) if 0 <= place < len(counts)]
        other = min(neighbours, key=counts.__getitem__)
        first = min(small, other)
        counts[first : first + 2] = [sum(counts[first : first + 2])]
        del edges[first + 1]
    return [*edges, MAX_AGE_MONTHS]


def group_drifts(
    samples: Sequence[Sample], true_months: Floats, float_months: Floats, bundle_months: Floats
) -> tuple[GroupDrift, ...]:
    """Compute the drift of every group, with intervals that hold for all of them at once.

    Ages are ``(N,)`` float64 months.
    """
    groups = group_images(samples)
    drifts = np.abs(bundle_months - true_months) - np.abs(float_months - true_months)
    signed = bundle_months - float_months
    drift_ci95 = simultaneous_intervals([drifts[group.rows] for group in groups])
    signed_ci95 = simultaneous_intervals([signed[group.rows] for group in groups])
    return tuple(
        GroupDrift(
            sex=group.sex,
            from_months=group.from_months,
            to_months=group.to_months,
            samples=len(group.rows),
            drift_months=float(drifts[group.rows].mean()),
            drift_ci95_months=drift_ci95[index],
            mean_change_months=float(signed[group.rows].mean()),
            mean_change_ci95_months=signed_ci95[index],
            mean_abs_change_months=float(np.abs(signed[group.rows]).mean()),
            max_abs_change_months=float(np.abs(signed[group.rows]).max()),
        )
        for index, group in enumerate(groups)
    )
