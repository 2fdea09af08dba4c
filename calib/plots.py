"""Plot of a search: the sensitivity of each layer to INT8."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.figures import ALL, FEMALE, MALE, new_figure, save_figures

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bakit.calib.search import Outcome

INT8, FLOAT = MALE, FEMALE


def draw_sensitivity(outcome: Outcome, out: Path) -> Path:
    """Draw ``sensitivity.png`` into a folder and return the file.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    return save_figures({"sensitivity.png": lambda: sensitivity_figure(outcome)}, out)[0]


def sensitivity_figure(outcome: Outcome) -> Figure:
    """Draw one bar per layer, from input to output."""
    kept = outcome.best.choice.recipe.float_layers
    layers = list(outcome.sensitivity)
    figure = new_figure(6.4, 1.6 + 0.15 * len(layers))
    axes = figure.subplots()
    for colour, label, among in ((INT8, "INT8 in the recipe found", False), (FLOAT, "float", True)):
        rows = [row for row, layer in enumerate(layers) if (layer in kept) is among]
        months = [outcome.sensitivity[layers[row]] for row in rows]
        axes.barh(rows, months, color=colour, height=0.8, label=label)
    axes.set_yticks(range(len(layers)), layers, fontsize=6, parse_math=False)
    axes.set_ylim(len(layers) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("mean change of the age when this layer alone is INT8 [months]")
    axes.legend(loc="lower right", frameon=False)
    total = outcome.best.mean_change_months
    axes.set_title(f"Sensitivity to INT8; the whole recipe: {total:.2f} months", color=ALL)
    return figure
