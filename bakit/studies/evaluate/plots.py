"""Plots of a model's errors on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.figures import (
    ALL,
    FEMALE,
    MALE,
    legend_below,
    new_axes,
    picture_grid,
    save_figures,
    short_text,
)
from bakit.studies.evaluate.agreement import pairs_of
from bakit.studies.evaluate.document import Evaluation, age_bin, worst_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from bakit.data.labels import Sample
    from bakit.studies.evaluate.agreement import BlandAltman
    from bakit.studies.evaluate.document import Compared, Readings

WORST_COLUMNS, WORST_ROWS = 4, 3
BOX = "#ecc94b"
"""Colour of the hand's box, visible on black and on white."""

LEAST_FOR_BOX = 5
"""Minimum images in a bin to draw quartiles."""

ERROR = "predicted - true age [months]"


def draw_plots(readings: Readings, samples: Sequence[Sample], out: Path) -> list[Path]:
    """Draw the plots of one set, some of its ``samples``, and return the files.

    Raises:
        MissingBackendError: If matplotlib is not installed.
        ImageError: If one of the worst images has changed since the evaluation.
    """
    pictures: dict[str, Callable[[], Figure]] = {}
    if isinstance(readings, Evaluation):
        pictures = {
            "predicted_true.png": lambda: _predicted_true(readings),
            "bland_altman.png": lambda: _bland_altman(readings),
            "error_by_age.png": lambda: _error_by_age(readings),
            "worst_cases.png": lambda: _worst_cases(readings, samples),
        }
    if readings.agreement is not None:
        pictures["pairs.png"] = lambda: _pairs(readings)
    return save_figures(pictures, out)


def _predicted_true(evaluation: Evaluation) -> Figure:
    figure, axes = _axes_of_sexes(evaluation, 5.4, 5.6)
    everyone = evaluation.predictions
    for _, colour, mine in _by_sex(everyone):
        mine.sort(key=lambda item: item.predicted_months)
        ages = [item.age_months for item in mine]
        predicted = [item.predicted_months for item in mine]
        _scatter(axes, ages, predicted, len(everyone), colour)
        bounds = [item.interval_months for item in mine if item.interval_months is not None]
        if len(bounds) == len(mine):  # intervals of the true age, which is the x axis
            lower, upper = np.array(bounds).T
            axes.fill_betweenx(predicted, lower, upper, color=colour, alpha=0.1, linewidth=0)
    if evaluation.coverage is not None:
        label = f"{100 * evaluation.coverage.level:g} % intervals"
        axes.fill_between([], [], color=ALL, alpha=0.2, linewidth=0, label=label)
    axes.axline((0, 0), slope=1, color="black", linewidth=0.8, linestyle=":", zorder=0)
    values = [value for item in everyone for value in (item.age_months, item.predicted_months)]
    pad = max(0.04 * (max(values) - min(values)), 6)
    axes.set_xlim(min(values) - pad, max(values) + pad)
    axes.set_ylim(min(values) - pad, max(values) + pad)
    axes.set_aspect("equal")
    _tick_years(axes, "xy")
    axes.set_xlabel("true age [months]")
    axes.set_ylabel("predicted age [months]")
    return _finished(figure, axes, "Predicted and true age", evaluation)


def _bland_altman(evaluation: Evaluation) -> Figure:
    figure, axes = _axes_of_sexes(evaluation, 6.8, 4.2)
    everyone = evaluation.predictions
    for _, colour, mine in _by_sex(everyone):
        means = [(item.age_months + item.predicted_months) / 2 for item in mine]
        _scatter(axes, means, [item.error_months for item in mine], len(everyone), colour)
    _limits(axes, evaluation.bland_altman)
    axes.set_xlabel("mean of true and predicted age [months]")
    axes.set_ylabel(ERROR)
    return _finished(figure, axes, "Bland-Altman", evaluation)


def _pairs(readings: Readings) -> Figure:
    """Draw left minus right by the mean of both; the absolute difference if sides are unknown."""
    assert readings.agreement is not None
    figure, axes = new_axes(6.8, 4.2)
    pairs = [sorted(pair, key=lambda item: item.side) for pair in pairs_of(readings.predictions)]
    limits = readings.agreement.left_minus_right
    if limits is not None:
        pairs = [pair for pair in pairs if [item.side for item in pair] == ["L", "R"]]
    ages = np.array([[item.predicted_months for item in pair] for pair in pairs])
    differences = ages[:, 0] - ages[:, 1]
    _scatter(
        axes, ages.mean(axis=1), np.abs(differences) if limits is None else differences, len(ages),
        ALL,
    )  # fmt: skip
    _limits(axes, limits)
    axes.set_xlabel("mean of both predicted ages [months]")
    what = "absolute difference" if limits is None else "left - right"
    axes.set_ylabel(f"{what} [months]")
    numbers = (
        f"n = {readings.agreement.pairs}, mean absolute difference = "
        f"{readings.agreement.mean_abs_difference_months:.1f} months"
    )
    title = f"Two images of one child: {numbers}\n{_subject(readings)}"
    axes.set_title(title, fontsize=9, parse_math=False)
    return figure


def _limits(axes: Axes, found: BlandAltman | None) -> None:
    """Draw bias and limits of agreement with their intervals as bands, and tick years."""
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", zorder=0)
    for name, (months, ci95) in found.lines.items() if found else ():
        axes.axhline(months, color=ALL, linewidth=1.2, linestyle="-" if name == "bias" else "--")
        if ci95 is not None:
            axes.axhspan(*ci95, color=ALL, alpha=0.12, linewidth=0, zorder=0)
        place, text = axes.get_yaxis_transform(), f"{name}: {months:+.1f}"
        axes.text(1.01, months, text, transform=place, verticalalignment="center", fontsize=8)
    _tick_years(axes, "x")


def _error_by_age(evaluation: Evaluation) -> Figure:
    bins = evaluation.by_age
    figure, axes = _axes_of_sexes(evaluation, max(5.6, 1.6 + 0.75 * len(bins)), 4.2)
    everyone = evaluation.predictions
    generator = np.random.default_rng(0)  # the same picture every time
    for place, group in enumerate(bins):
        mine = [item for item in everyone if age_bin(item.age_months) == group.from_months]
        for _, colour, part in _by_sex(mine):
            jitter = place + generator.uniform(-0.22, 0.22, len(part))
            _scatter(axes, jitter, [item.error_months for item in part], len(everyone), colour)
        if len(mine) >= LEAST_FOR_BOX:
            look: dict[str, Any] = {"medianprops": {"color": "black"}, "zorder": 3, "widths": 0.62}
            look |= {"whis": (5, 95), "showfliers": False, "manage_ticks": False}
            axes.boxplot([[item.error_months for item in mine]], positions=[place], **look)
    if any(group.samples >= LEAST_FOR_BOX for group in bins):
        axes.plot([], [], "s-", color="black", fillstyle="none", label="quartiles, 5 % to 95 %")
    axes.axhline(0, color="black", linewidth=0.8, linestyle=":", zorder=1)
    labels = [
        f"{group.from_months / 12:g}-{group.to_months / 12:g}\nn = {group.samples}"
        for group in bins
    ]
    axes.set_xticks(range(len(bins)), labels)
    axes.set_xlim(-0.6, len(bins) - 0.4)
    axes.grid(visible=False, axis="x")
    axes.set_xlabel("true age [years]")
    axes.set_ylabel(ERROR)
    return _finished(figure, axes, "Error by true age", evaluation)


def _worst_cases(evaluation: Evaluation, samples: Sequence[Sample]) -> Figure:
    worst = worst_of(evaluation.predictions, WORST_COLUMNS * WORST_ROWS)
    paths = {sample.id: sample.path for sample in samples}
    captions = [
        f"{short_text(item.id)}, {'M' if item.male else 'F'}\n"
        f"true {item.age_months:.0f}, predicted {item.predicted_months:.0f} "
        f"({item.error_months:+.0f})"
        for item in worst
    ]
    pictures = [(paths[item.id], text) for item, text in zip(worst, captions, strict=True)]
    figure, grid = picture_grid(pictures, WORST_COLUMNS, row_height=2.5, head=0.6)
    for axes, item in zip(grid, worst, strict=True):
        box = item.box
        corners = (
            (box.x0, box.x1, box.x1, box.x0, box.x0),
            (box.y0, box.y0, box.y1, box.y1, box.y0),
        )
        axes.plot(*corners, color=BOX, linewidth=1, scalex=False, scaley=False)
    title = f"{_subject(evaluation)}: largest errors, in months"
    figure.suptitle(title, fontsize=9, parse_math=False)
    return figure


def _axes_of_sexes(evaluation: Evaluation, width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty plot whose legend has the sexes."""
    figure, axes = new_axes(width, height)
    for name, colour, mine in _by_sex(evaluation.predictions):
        axes.scatter([], [], color=colour, label=f"{name} (n = {len(mine)})")
    return figure, axes


def _by_sex(predictions: Sequence[Compared]) -> list[tuple[str, str, list[Compared]]]:
    sexes = (("female", FEMALE, False), ("male", MALE, True))
    groups = [
        (name, colour, [item for item in predictions if item.male == male])
        for name, colour, male in sexes
    ]
    return [group for group in groups if group[2]]


def _scatter(axes: Axes, x: npt.ArrayLike, y: npt.ArrayLike, images: int, colour: str) -> None:
    """Draw points, smaller and fainter for more images."""
    many = min(images / 1000, 1.0)
    size, alpha = 26 - 18 * many, 0.85 - 0.45 * many
    axes.scatter(x, y, size, color=colour, alpha=alpha, linewidths=0)


def _tick_years(axes: Axes, which: str) -> None:
    from matplotlib.ticker import MultipleLocator  # noqa: PLC0415  # an extra

    for axis in (axes.xaxis, axes.yaxis)[: len(which)]:
        low, high = axis.get_view_interval()
        axis.set_major_locator(MultipleLocator(24 if high - low > 60 else 12))


def _finished(figure: Figure, axes: Axes, what: str, evaluation: Evaluation) -> Figure:
    numbers = f"n = {evaluation.samples}, MAE = {evaluation.mae_months:.1f} months"
    axes.set_title(f"{what}: {numbers}\n{_subject(evaluation)}", fontsize=9, parse_math=False)
    legend_below(figure, axes)
    return figure


def _subject(readings: Readings) -> str:
    model, data = readings.model, readings.data
    name = f"{short_text(model.checkpoint, 24)} {model.precision.value}"
    return f"{name} on {short_text(data.folder, 24)} ({data.part})"
