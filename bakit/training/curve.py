"""Plot of the learning curve."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.figures import FEMALE, MALE, new_figure, save_figures

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from matplotlib.figure import Figure

    from bakit.training.callbacks import Epoch

CURVE = "curve.png"


def draw_curve(history: Sequence[Epoch], best: Epoch, out: Path) -> None:
    """Write ``curve.png`` into ``out``: training and validation error by epoch.

    Raises:
        MissingBackendError: If matplotlib is not installed.
    """
    save_figures({CURVE: lambda: _curve(history, best)}, out)


def _curve(history: Sequence[Epoch], best: Epoch) -> Figure:
    figure = new_figure()
    axes = figure.subplots()
    epochs = [epoch.epoch for epoch in history]
    training = [epoch.train_mae_months for epoch in history]
    validation = [epoch.val_mae_months for epoch in history]
    axes.plot(epochs, training, color=FEMALE, label="training images, augmented")
    axes.plot(epochs, validation, color=MALE, label="validation images")
    axes.plot(best.epoch, best.val_mae_months, "o", color=MALE)
    axes.set_xlabel("epoch")
    axes.set_ylabel("mean absolute error [months]")
    axes.set_title(f"best: {best.val_mae_months:.2f} months, epoch {best.epoch}")
    axes.legend()
    return figure
