"""The picture of an ablation: the paper's errors beside ours, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.figures import ALL, FEMALE, MALE, legend_below, new_figure, save_figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bakit.studies.ablate.table import Ablation, Row

PAPER, OURS = MALE, FEMALE
"""Colours that the colour-blind can tell apart."""

APART = 0.2
"""Between the paper's line and ours in one row, as a share of the distance of rows."""


def draw_plot(ablation: Ablation, path: Path) -> None:
    """Draw an ablation as a PNG file.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    save_figures({path.name: lambda: table_figure(ablation)}, path.parent)


def table_figure(ablation: Ablation) -> Figure:
    """Draw a line of dots for each row; errors rise to the right, rows go down as in the table.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    rows = ablation.rows
    figure = new_figure(7.4, 1.9 + 0.55 * len(rows))
    axes = figure.subplots()
    for place, row in enumerate(rows):
        paper = (row.paper.rsna_mae_months, row.paper.additional_mae_months)
        above, below = place - APART / 2, place + APART / 2
        axes.plot(paper[0], above, "o", color=PAPER, markersize=6)
        axes.plot(paper[1], above, "o", color=PAPER, markersize=6, fillstyle="none")
        if row.measured is None:
            continue
        test = row.measured.test
        if test.ci95_months is not None:
            axes.plot(test.ci95_months, (below, below), color=OURS, linewidth=2, alpha=0.5)
        axes.plot(test.mae_months, below, "D", color=OURS, markersize=6)
    axes.plot([], [], "o", color=PAPER, markersize=6, label="paper, RSNA set")
    axes.plot([], [], "o", color=PAPER, markersize=6, fillstyle="none", label="paper, private set")
    if any(row.measured is not None for row in rows):
        label = f"ours, test (n = {ablation.data.test}), 95 % interval"
        axes.plot([], [], "D-", color=OURS, markersize=6, label=label)
    axes.set_yticks(range(len(rows)), [_label(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlim(left=0)
    axes.set_xlabel("mean absolute error [months]")
    folder = ablation.data.folder
    axes.set_title(
        f"The paper's Table 2, and ours on {folder}", fontsize=9, color=ALL, parse_math=False
    )
    legend_below(figure, axes)
    return figure


def _label(row: Row) -> str:
    """Return a row's name, and what its name does not say of ours."""
    if row.measured is None:
        return f"{row.name}\nours: {row.status}"
    size = row.settings.image_size
    return row.name if size == row.paper.image_size else f"{row.name}\nours: {size} px"
