"""Figures: drift of each bundle, and by sex and age."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bakit.bench.gate.recommend import MAX_DRIFT_MONTHS
from bakit.bench.render.svg import (
    AXIS,
    Figure,
    Panel,
    Scale,
    Table,
    around,
    axis,
    element,
    mark,
    names,
    picture,
    x_percent,
)
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

    from markupsafe import Markup

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport, GroupDrift

ROW = 46


def drift_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the drift of each bundle with its interval and the limit; None without drift."""
    drifts = [
        (bundle, bundle.drift)
        for bundle in bundles
        if bundle.drift and not bundle.drift.is_reference and _is_finite(bundle.drift)
    ]
    if not drifts:
        return None
    ends = [end for _, drift in drifts for end in (*drift.drift_ci95_months, drift.drift_months)]
    scale = Scale(*around(ends, (0.0, -MAX_DRIFT_MONTHS / 2, MAX_DRIFT_MONTHS * 1.15)))
    bottom = 8.0 + ROW * len(drifts)
    limit = scale(MAX_DRIFT_MONTHS)
    beyond = {"x": x_percent(limit), "width": x_percent(1 - limit)}
    parts = [
        *(
            element("rect", **beyond, y=26 + ROW * index, height=20, class_="beyond")
            for index in range(len(drifts))
        ),
        *axis(scale, 0, bottom, "months", 8),
    ]
    for index, (bundle, drift) in enumerate(drifts):
        y = 8 + ROW * index
        low, high = drift.drift_ci95_months
        kind = "good" if high <= MAX_DRIFT_MONTHS else "bad square"
        parts += [  # beside the whisker only, so that no line crosses a label
            element("line", x1=x_percent(at), x2=x_percent(at), y1=y + 18, y2=y + 38, class_=class_)
            for at, class_ in ((scale(0), "zero"), (limit, "limit"))
        ]
        parts += names(labels[bundle.name], drift_words(drift), y + 13)
        parts.append(whisker(scale, low, drift.drift_months, high, y + 28, kind))
    label = "Drift of each bundle in months with its 95 % interval: " + "; ".join(
        f"{labels[bundle.name]} {drift_words(drift)}" for bundle, drift in drifts
    )
    head = ("bundle", "MAE", "drift [95 % interval]", "mean / p99 change", "largest change", "bias")
    return Figure(
        "drift",
        "Drift from the float model",
        "MAE of the bundle minus MAE of the float model on the same images. Right of zero is "
        f"worse. A bundle passes if its whole interval is below {MAX_DRIFT_MONTHS:g} months.",
        (Panel(picture(parts, label, bottom + AXIS)),),
        (("dot good", "within the limit"), ("dot bad square", "may be over the limit")),
        (Table(head, tuple(_drift_row(bundle, labels[bundle.name]) for bundle in bundles)),),
    )


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


def _finite_groups(drift: DriftReport) -> list[GroupDrift]:
    return [group for group in drift.groups if _is_finite(group)]


def groups_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw the drift by age and sex, one panel for each bundle; None without groups."""
    drifts = [
        (labels[bundle.name], bundle.drift)
        for bundle in bundles
        if bundle.drift and not bundle.drift.is_reference and _finite_groups(bundle.drift)
    ]
    if not drifts:
        return None
    head = ("bundle", "sex", "age, months", "images", "drift", "95 % interval", "mean change")
    rows = tuple(_group_row(label, group) for label, drift in drifts for group in drift.groups)
    drawn = [item for item in drifts if not is_same(item[1])] or drifts[:1]
    same = [label for label, drift in drifts if all(drift is not other for _, other in drawn)]
    drifts = drawn
    ends = [
        end for _, drift in drifts for g in _finite_groups(drift) for end in g.drift_ci95_months
    ]
    scale = Scale(*around(ends, (0.0,)))
    panels = tuple(_groups_panel(label, drift, scale) for label, drift in drifts)
    return Figure(
        "groups",
        "Drift by age and sex",
        "Drift of each age group. The 95 % intervals are simultaneous: if an interval is "
        "completely right of zero, the group got worse." + same_words(same),
        panels,
        (("dot female", "girls"), ("dot male square", "boys")),
        (Table(head, rows, words=(1,)),),
    )


def _groups_panel(label: str, drift: DriftReport, scale: Scale) -> Panel:
    bins = sorted({(group.from_months, group.to_months) for group in _finite_groups(drift)})
    bottom = 6.0 + ROW * len(bins)
    zero = x_percent(scale(0))
    parts = [
        *axis(scale, 0, bottom, "months of drift", 7),
        element("line", x1=zero, x2=zero, y1=0, y2=bottom, class_="zero"),
    ]
    for index, (start, end) in enumerate(bins):
        y = 6 + ROW * index
        found = [g for g in _finite_groups(drift) if (g.from_months, g.to_months) == (start, end)]
        counts = sum(group.samples for group in found)
        parts += names(f"{_years(start)} to {_years(end)} years", f"{counts} images", y + 13)
        for group in found:
            kind, offset = {"F": ("female", 23), "M": ("male square", 34), None: ("good", 28)}[
                group.sex
            ]
            low, high = group.drift_ci95_months
            parts.append(whisker(scale, low, group.drift_months, high, y + offset, kind))
    worst = drift.worst_group
    note = ""
    if worst is not None:
        note = (
            f"Highest upper end: {worst.name}, {signed(worst.drift_months, 2)} "
            f"{interval(*worst.drift_ci95_months, 2)}"
        )
    text = f"{label}: drift by age and sex. {note}"
    return Panel(picture(parts, text, bottom + AXIS), label, note)


def _years(months: float) -> str:
    return f"{months / 12:.3g}"


def _group_row(label: str, group: GroupDrift) -> tuple[str, ...]:
    return (
        label,
        {"F": "girls", "M": "boys", None: "all"}[group.sex],
        f"{group.from_months:g} to {group.to_months:g}",
        str(group.samples),
        signed(group.drift_months),
        interval(*group.drift_ci95_months),
        signed(group.mean_change_months),
    )


def whisker(scale: Scale, low: float, middle: float, high: float, y: float, kind: str) -> Markup:
    """Draw an interval with its mean; ``kind`` is the CSS class of colour and shape."""
    ends = {"x1": x_percent(scale(low)), "x2": x_percent(scale(high))}
    line = element("line", **ends, y1=y, y2=y, class_=f"whisker {kind}")
    return element("g", line, mark(x_percent(scale(middle)), y, 5.5, f"dot {kind}"))
