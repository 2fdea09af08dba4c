"""Figures: drift of each bundle, and by sex and age."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bakit.bench.gate.recommend import MAX_DRIFT_MONTHS
from bakit.bench.render.figure import Figure, Panel, Row, Rows, Scale, Table, around
from bakit.bench.render.words import (
    NONE,
    change_words,
    drift_words,
    fixed,
    interval,
    is_same,
    same_words,
    signed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport, GroupDrift

_SEXES = {"F": ("girls", "female", 23), "M": ("boys", "male square", 34), None: ("all", "good", 28)}
"""Name of a group, CSS class and height of its whisker."""


def drift_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the drift of each bundle with its interval and the limit; None without drift."""
    drifts = [
        (labels[bundle.name], bundle.drift)
        for bundle in bundles
        if bundle.drift and not bundle.drift.is_reference and _is_finite(bundle.drift)
    ]
    if not drifts:
        return None
    ends = [end for _, drift in drifts for end in (*drift.drift_ci95_months, drift.drift_months)]
    scale = Scale(*around(ends, (0.0, -MAX_DRIFT_MONTHS / 2, MAX_DRIFT_MONTHS * 1.15)))
    rows = []
    for label, drift in drifts:
        kind = "good" if drift.drift_ci95_months[1] <= MAX_DRIFT_MONTHS else "bad square"
        rows.append(Row(label, drift_words(drift), [_whisker(kind, 28, drift)]))
    label = "Drift of each bundle in months with its 95 % interval: " + "; ".join(
        f"{row.name} {row.number}" for row in rows
    )
    head = ("bundle", "MAE", "drift [95 % interval]", "mean / p99 change", "largest change", "bias")
    return Figure(
        "drift",
        "whiskers",
        "Drift from the float model",
        "MAE of the bundle minus MAE of the float model on the same images. Right of zero is "
        f"worse. A bundle passes if its whole interval is below {MAX_DRIFT_MONTHS:g} months.",
        (Panel(label, Rows(scale, "months", rows, scale(MAX_DRIFT_MONTHS))),),
        (("dot good", "within the limit"), ("dot bad square", "may be over the limit")),
        (Table(head, tuple(_drift_row(bundle, labels[bundle.name]) for bundle in bundles)),),
    )


def _whisker(
    kind: str, offset: int, drift: DriftReport | GroupDrift
) -> tuple[str, int, float, float, float]:
    low, high = drift.drift_ci95_months
    return kind, offset, low, drift.drift_months, high


def _drift_row(bundle: BundleReport, label: str) -> tuple[str, ...]:
    drift = bundle.drift
    if drift is None:
        return (label, *[NONE] * 5)
    return (
        label,
        fixed(drift.bundle_mae_months),
        drift_words(drift),
        change_words(drift),
        NONE if drift.is_reference else fixed(drift.max_abs_change_months),
        signed(drift.bias_months, 2),
    )


def _is_finite(drift: DriftReport | GroupDrift) -> bool:
    """Return whether all values of a drift are finite."""
    return all(map(math.isfinite, (drift.drift_months, *drift.drift_ci95_months)))


def groups_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the drift by age and sex, one panel for each bundle; None without groups."""
    found = [
        (labels[bundle.name], bundle.drift, list(filter(_is_finite, bundle.drift.groups)))
        for bundle in bundles
        if bundle.drift and not bundle.drift.is_reference
    ]
    found = [item for item in found if item[2]]
    if not found:
        return None
    head = ("bundle", "sex", "age, months", "images", "drift", "95 % interval", "mean change")
    table = tuple(_group_row(label, group) for label, drift, _ in found for group in drift.groups)
    drawn = [item for item in found if not is_same(item[1])] or found[:1]
    ends = [end for *_, groups in drawn for g in groups for end in g.drift_ci95_months]
    scale = Scale(*around(ends, (0.0,)))
    return Figure(
        "groups",
        "whiskers",
        "Drift by age and sex",
        "Drift of each age group. The 95 % intervals are simultaneous: if an interval is "
        "completely right of zero, the group got worse."
        + same_words([item[0] for item in found if item not in drawn]),
        tuple(_groups_panel(*item, scale) for item in drawn),
        (("dot female", "girls"), ("dot male square", "boys")),
        (Table(head, table, words=(1,)),),
    )


def _groups_panel(
    label: str, drift: DriftReport, groups: Sequence[GroupDrift], scale: Scale
) -> Panel:
    rows = []
    for start, end in sorted({(group.from_months, group.to_months) for group in groups}):
        found = [g for g in groups if (g.from_months, g.to_months) == (start, end)]
        rows.append(
            Row(
                f"{start / 12:.3g} to {end / 12:.3g} years",
                f"{sum(group.samples for group in found)} images",
                [_whisker(*_SEXES[group.sex][1:], group) for group in found],
            )
        )
    worst = drift.worst_group
    note = ""
    if worst is not None:
        note = (
            f"Highest upper end: {worst.name}, {signed(worst.drift_months, 2)} "
            f"{interval(*worst.drift_ci95_months, 2)}"
        )
    text = f"{label}: drift by age and sex. {note}"
    return Panel(text, Rows(scale, "months of drift", rows), label, note)


def _group_row(label: str, group: GroupDrift) -> tuple[str, ...]:
    return (
        label,
        _SEXES[group.sex][0],
        f"{group.from_months:g} to {group.to_months:g}",
        str(group.samples),
        signed(group.drift_months),
        interval(*group.drift_ci95_months),
        signed(group.mean_change_months),
    )
