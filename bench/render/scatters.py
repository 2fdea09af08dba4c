"""Scatter plots of the ages: against the ground truth, and against the float model."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bakit.bench.render.figure import Figure, Panel, Scale, Table, around
from bakit.bench.render.words import fixed, interval, is_same, same_words, signed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport, DriftRow

MAX_POINTS = 1500
"""Maximum number of points in a picture; less with many bundles (``_most``)."""
ALL_POINTS = 30_000
EXTREMES = 100
"""Number of points with the largest differences, which are always drawn."""

_WIDTH, _LEFT, _RIGHT, _TOP, _BOTTOM = 340.0, 38.0, 6.0, 6.0, 24.0
_SQUARE = _WIDTH - _LEFT - _RIGHT + _TOP + _BOTTOM
"""Height of a plot whose two axes have the same length."""


def thinned(rows: Sequence[DriftRow], off: Sequence[float], most: int) -> list[int]:
    """Return the sorted indices of the images to draw; the selection is deterministic.

    It contains the images with the largest ``off``, and every n-th other image by true age.
    """
    count = len(rows)
    if count <= most:
        return list(range(count))
    extremes = min(EXTREMES, most)
    by_distance = sorted(range(count), key=lambda i: (-abs(off[i]), i))
    kept = set(by_distance[:extremes])
    rest = sorted(by_distance[extremes:], key=lambda i: (rows[i].true_months, i))
    wanted = most - extremes
    kept.update(rest[(step * len(rest)) // wanted] for step in range(wanted))
    return sorted(kept)


def _most(panels: int) -> int:
    return max(min(MAX_POINTS, ALL_POINTS // max(panels, 1)), EXTREMES)


def _drawable(
    bundles: Sequence[BundleReport], labels: Mapping[str, str]
) -> list[tuple[str, DriftReport, list[DriftRow]]]:
    """Return label, drift and finite ages of the bundles with finite ages."""
    found = []
    for bundle in bundles:
        rows = [row for row in (bundle.drift.rows if bundle.drift else ()) if _is_finite(row)]
        if bundle.drift and rows:
            found.append((labels[bundle.name], bundle.drift, rows))
    return found


def _is_finite(row: DriftRow) -> bool:
    return all(map(math.isfinite, (row.true_months, row.float_months, row.bundle_months)))


class Plot:
    """A plot with a grid of two axes, in pixels.

    Attributes:
        width: Of the whole picture, like ``height``.
        ticks: Number, position and alignment of each tick label.
        paths: CSS class and SVG path of what is drawn, in this order.
    """

    width = _WIDTH

    def __init__(self, x: Scale, y: Scale, height: float) -> None:
        self._x, self._y, self.height = x, y, height
        self.ticks: list[tuple[float, float, float, str]] = []
        self.paths: list[tuple[str, str]] = []
        for tick in _age_ticks(x.low, x.high):
            left, bottom = self._at(tick, y.low)
            self.ticks.append((tick, left, bottom + 15, "middle"))
            self.line((tick, y.low), (tick, y.high), "grid")
        for tick in y.ticks(6):
            _, top = self._at(x.low, tick)
            self.ticks.append((tick, _LEFT - 5, top + 4, "end"))
            self.level(tick, "grid")

    def _at(self, x: float, y: float) -> tuple[float, float]:
        left = _LEFT + self._x(x) * (_WIDTH - _LEFT - _RIGHT)
        return left, self.height - _BOTTOM - self._y(y) * (self.height - _TOP - _BOTTOM)

    def line(self, start: tuple[float, float], end: tuple[float, float], class_: str) -> None:
        """Draw a line between two points."""
        (x1, y1), (x2, y2) = self._at(*start), self._at(*end)
        self.paths.append((class_, f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"))

    def level(self, y: float, class_: str) -> None:
        """Draw a horizontal line across the plot."""
        self.line((self._x.low, y), (self._x.high, y), class_)

    def scatter(self, points: Sequence[tuple[float, float, bool | None]]) -> None:
        """Draw points by sex, each sex as strokes without length: some 12 bytes a point."""
        for male, sex in ((None, "anyone"), (False, "female"), (True, "male")):
            places = [self._at(x, y) for x, y, found in points if found is male]
            if places:
                path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in places)
                self.paths.append((f"points {sex}", path))


def _age_ticks(low: float, high: float) -> list[float]:
    """Return ages at whole years, at most seven."""
    step = next(s for s in (12, 24, 36, 48, 60, 120, 1200) if (high - low) / s <= 7)
    return [float(t) for t in range(math.ceil(low / step) * step, math.floor(high) + 1, step)]


def _sexes(drifts: Iterable[DriftReport]) -> tuple[tuple[str, str], ...]:
    known = any(row.male is not None for drift in drifts for row in drift.rows)
    return (("point female", "girls"), ("point male", "boys")) if known else ()


def _thinned_words(count: int, most: int) -> str:
    if count <= most:
        return f"All {count:,} images are shown."
    return (
        f"{most:,} of {count:,} images are shown: the {min(EXTREMES, most)} with the largest "
        "differences, and every n-th other by age. The statistics use all images."
    )


def truth_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw predicted against true ages, one panel for each bundle; None without drift."""
    drifts = _drawable(bundles, labels)
    if not drifts:
        return None
    most = _most(len(drifts))
    ages = [age for _, _, rows in drifts for r in rows for age in (r.true_months, r.bundle_months)]
    low, high = around(ages, share=0.03)
    scale = Scale(max(low, min(ages) - 6), high)
    panels = []
    for label, drift, rows in drifts:
        plot = Plot(scale, scale, _SQUARE)
        plot.line((scale.low, scale.low), (scale.high, scale.high), "identity")
        chosen = thinned(rows, [r.bundle_months - r.true_months for r in rows], most)
        plot.scatter([(rows[i].true_months, rows[i].bundle_months, rows[i].male) for i in chosen])
        note = f"MAE {fixed(drift.bundle_mae_months)}, bias {signed(drift.bias_months, 2)} months"
        text = f"{label}: predicted against true age. {note}."
        panels.append(Panel(text, plot, label, note))
    head = ("bundle", "images", "MAE, months", "bias, months")
    table = tuple(
        (label, str(d.samples), fixed(d.bundle_mae_months), signed(d.bias_months, 2))
        for label, d, _ in drifts
    )
    return Figure(
        "truth",
        "plot",
        "Predicted against true age",
        "Predictions on the line are correct; above the line, the predicted age is too high. "
        + _thinned_words(max(len(rows) for _, _, rows in drifts), most),
        tuple(panels),
        _sexes(drift for _, drift, _ in drifts),
        (Table(head, table),),
        "x: true age, months · y: predicted age, months",
    )


def agreement_figure(bundles: Sequence[BundleReport], labels: Mapping[str, str]) -> Figure | None:
    """Draw Bland-Altman plots of bundle and float model; None without a bundle to compare."""
    drifts = [item for item in _drawable(bundles, labels) if not item[1].is_reference]
    if not drifts:
        return None
    table = tuple(_agreement_row(*item) for item in drifts)
    same = [label for label, drift, _ in drifts if is_same(drift)]
    drifts = [item for item in drifts if not is_same(item[1])] or drifts[:1]
    most = _most(len(drifts))
    means = [(r.bundle_months + r.float_months) / 2 for _, _, rows in drifts for r in rows]
    changes = [r.bundle_months - r.float_months for _, _, rows in drifts for r in rows]
    x = Scale(*around(means, share=0.03))
    y = Scale(*around(changes, (-0.5, 0.5)))
    panels = []
    for label, drift, rows in drifts:
        plot = Plot(x, y, 260.0)
        plot.level(0, "zero")
        differences = [r.bundle_months - r.float_months for r in rows]
        points = [
            ((rows[i].bundle_months + rows[i].float_months) / 2, differences[i], rows[i].male)
            for i in thinned(rows, differences, most)
        ]
        plot.scatter(points)
        bias, (low, high) = _agreement(drift, differences)
        plot.level(bias, "bias")
        plot.level(low, "limits")
        plot.level(high, "limits")
        note = f"bias {signed(bias, 2)}, limits of agreement {interval(low, high, 2)} months"
        panels.append(Panel(f"{label} against the float model: {note}.", plot, label, note))
    head = ("bundle", "bias, months", "limits of agreement", "p99 change", "largest change")
    return Figure(
        "agreement",
        "plot",
        "Agreement with the float model (Bland-Altman)",
        "The change of each prediction. The MAE can stay the same while predictions change; this "
        "plot shows the changes. "
        + _thinned_words(max(len(rows) for _, _, rows in drifts), most)
        + same_words([label for label in same if label not in {item[0] for item in drifts}]),
        tuple(panels),
        (
            *_sexes(drift for _, drift, _ in drifts),
            ("line bias", "bias"),
            ("line limits", "limits of agreement (mean ± 1.96 SD)"),
        ),
        (Table(head, table),),
        "x: mean of both ages, months · y: bundle minus float model, months",
    )


def _agreement_row(label: str, drift: DriftReport, rows: Sequence[DriftRow]) -> tuple[str, ...]:
    bias, limits = _agreement(drift, [r.bundle_months - r.float_months for r in rows])
    return (
        label,
        signed(bias, 2),
        interval(*limits, 2),
        fixed(drift.p99_abs_change_months),
        fixed(drift.max_abs_change_months),
    )


def _agreement(drift: DriftReport, changes: Sequence[float]) -> tuple[float, tuple[float, float]]:
    """Return bias and limits of agreement; they are computed if an older report lacks them."""
    if drift.mean_change_months is not None and drift.limits_of_agreement_months is not None:
        return drift.mean_change_months, drift.limits_of_agreement_months
    mean = math.fsum(changes) / len(changes)
    squares = math.fsum((change - mean) ** 2 for change in changes)
    spread = 1.96 * math.sqrt(squares / max(len(changes) - 1, 1))
    return mean, (mean - spread, mean + spread)
