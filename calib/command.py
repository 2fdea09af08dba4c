"""``bakit calibrate``: INT8 ranges of a checkpoint, with one method or by search."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.statistics import images_for_quantile
from bakit.calib.dataset import load_images
from bakit.calib.methods import DEFAULT_METHOD
from bakit.calib.ranges import ranges_on, read_ranges, write_ranges
from bakit.calib.search import Workbench, search
from bakit.calib.select import SAMPLES, calibration_samples
from bakit.data.splits import thin
from bakit.errors import InputError
from bakit.figures import ALL, FEMALE, MALE, new_axes, save_figures
from bakit.files import write_file
from bakit.types import silent

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from bakit.calib.search import Limits, Outcome
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.types import OnProgress

VALIDATION = 600
"""Default number of validation images for a search."""

MIN_VALIDATION = images_for_quantile(0.99)

SENSITIVITY = "sensitivity.csv"


def calibrate(
    checkpoint: Checkpoint,
    data: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
    method: str = DEFAULT_METHOD,
    all_images: bool = False,
    on_progress: OnProgress = silent,
) -> Ranges:
    """Choose calibration images of a labelled folder and compute activation ranges.

    Raises:
        InputError, LabelsError: As ``calibration_samples``.
        ImageError: If an image cannot be used.
    """
    chosen, _ = calibration_samples(checkpoint, data, count, seed, all_images=all_images)
    return ranges_on(checkpoint, load_images(checkpoint, chosen, on_progress), method)


def ranges_of(checkpoint: Checkpoint, source: Path, on_progress: OnProgress = silent) -> Ranges:
    """Read INT8 ranges from a file of ``bakit calibrate``, or compute them on a labelled folder.

    Raises:
        BakitError: If the source cannot be used.
    """
    if source.is_dir():
        return calibrate(checkpoint, source, on_progress=on_progress)
    return read_ranges(source)


def search_file(
    checkpoint: Checkpoint,
    data: Path,
    out: Path,
    work: Path,
    limits: Limits,
    *,
    count: int = SAMPLES,
    validation: int = VALIDATION,
    seed: int = 0,
    plots: Path | None = None,
    on_progress: OnProgress = silent,
) -> Outcome:
    """Search for a recipe; write its ranges if it is within the limits.

    Ranges come from the training split of the labelled folder, and recipes are compared on its
    validation split. ``sensitivity.csv`` is always written into ``work``.

    At least 368 validation images are needed, spread evenly. The epoch and the intervals of the
    model were chosen on this split too: confirm the exported bundle with bakit bench and bakit
    gate, which use the test split.

    Raises:
        BakitError: If the data cannot be used.
    """
    chosen, held_out = calibration_samples(checkpoint, data, count, seed)
    judges = thin(sorted(held_out, key=lambda sample: sample.id), validation)
    if len(judges) < MIN_VALIDATION:
        message = (
            f"{data}: {len(judges)} validation images (--validation {validation}); a search needs "
            f"{MIN_VALIDATION} or more: with fewer, the 99th percentile of the change has no upper "
            "end. Use bakit calibrate without --search"
        )
        raise InputError(message)
    bench = Workbench(
        checkpoint,
        load_images(checkpoint, chosen, on_progress),
        load_images(checkpoint, judges, on_progress, "validation images"),
        work,
        on_progress,
    )
    outcome = search(bench, limits)
    ranges = bench.ranges(outcome.best.choice)
    write_file(work / SENSITIVITY, _table(outcome).encode())
    if plots is not None:
        save_figures({"sensitivity.png": lambda: sensitivity_figure(outcome)}, plots)
    if outcome.met:
        write_ranges(out, ranges)
    return outcome


def _table(outcome: Outcome) -> str:
    kept = outcome.best.choice.float_layers
    lines = ["layer,mean_change_months,precision"]  # the layers' names need no quotes
    for layer, months in sorted(outcome.sensitivity.items(), key=lambda item: -item[1]):
        lines.append(f"{layer},{months:.4f},{'fp32' if layer in kept else 'int8'}")
    return "\n".join([*lines, ""])


def sensitivity_figure(outcome: Outcome) -> Figure:
    """Draw the sensitivity of each layer to INT8, from input to output."""
    kept = outcome.best.choice.float_layers
    layers = list(outcome.sensitivity)
    figure, axes = new_axes(6.4, 1.6 + 0.15 * len(layers))
    for colour, label, among in (
        (MALE, "INT8 in the recipe found", False),
        (FEMALE, "float", True),
    ):
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
