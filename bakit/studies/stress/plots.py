"""The picture of a stress test."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.figures import ALL, FEMALE, MALE, new_figure, save_figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bakit.studies.stress.run import Stress


def draw_stress(result: Stress, out: Path) -> Path:
    """Draw ``stress.png`` into a folder and return the file.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    return save_figures({"stress.png": lambda: stress_figure(result)}, out)[0]


def stress_figure(result: Stress) -> Figure:
    """Draw the MAE under each change with the interval of its rise, and shares far off."""
    conditions = (result.untouched, *result.conditions)
    figure = new_figure(8.4, 1.3 + 0.2 * len(conditions))
    left, right = figure.subplots(1, 2, sharey=True)
    rows, base = list(range(len(conditions))), result.untouched.mae_months
    rises = [(item.mae_months - base, item.mae_rise_ci95_months) for item in conditions]
    around = [[rise - low for rise, (low, _) in rises], [high - rise for rise, (_, high) in rises]]
    left.errorbar(
        [item.mae_months for item in conditions], rows, xerr=around, fmt="o", ms=3, color=MALE
    )
    left.axvline(base, color=ALL, linewidth=0.8)
    left.set_xlabel("MAE [months], 95 % interval of its rise")
    for share, label, colour in (
        ("over_12_months", "more than 12 months off", MALE),
        ("over_24_months", "more than 24 months off", FEMALE),
    ):
        right.plot([100 * getattr(c, share) for c in conditions], rows, "o", ms=3, color=colour,
                   label=label)  # fmt: skip
    right.set_xlabel("images [%]")
    right.legend(frameon=False)
    left.set_yticks(rows, [item.name for item in conditions], fontsize=7)
    left.set_ylim(len(rows) - 0.5, -0.5)
    for axes in (left, right):
        axes.set_xlim(left=0)
    return figure
