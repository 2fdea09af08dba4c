"""What ``bakit calibrate`` does: ranges of a checkpoint into a file, by default or by search."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

from bakit.calib.calibrate import DEFAULT_METHOD, SAMPLES, calibrate
from bakit.calib.plots import draw_sensitivity
from bakit.calib.ranges import read_ranges, write_ranges
from bakit.calib.trials import VALIDATION, search_ranges
from bakit.figures import check_plots
from bakit.files import write_file
from bakit.model.checkpoint import SHIPPED, Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bakit.calib.search import Limits, Outcome
    from bakit.settings import Ranges

SENSITIVITY = "sensitivity.csv"


def calibrate_file(
    checkpoint: Path | None,
    data: Path,
    out: Path,
    *,
    count: int = SAMPLES,
    seed: int = 0,
    method: str = DEFAULT_METHOD,
    all_images: bool = False,
    on_done: Callable[[int], None] = lambda _: None,
) -> Ranges:
    """Gather the ranges of a checkpoint, the shipped one when None, and write them.

    The arguments are those of ``bakit.calib.calibrate.calibrate``.
    """
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    ranges = calibrate(
        loaded, data, count=count, seed=seed, method=method, all_images=all_images, on_done=on_done
    )
    write_ranges(out, ranges)
    return ranges


def ranges_of(
    checkpoint: Checkpoint, source: Path, on_done: Callable[[int], None] = lambda _: None
) -> Ranges:
    """Return a checkpoint's INT8 ranges: from a file, or gathered on a labelled folder.

    Args:
        checkpoint: The float checkpoint.
        source: A file of ``bakit calibrate``, or the folder that the checkpoint was trained on.
        on_done: Called with the number of images done since the last call.

    Raises:
        BakitError: If the source cannot be used.
    """
    if source.is_dir():
        return calibrate(checkpoint, source, on_done=on_done)
    return read_ranges(source)


def search_file(
    checkpoint: Path | None,
    data: Path,
    out: Path,
    work: Path,
    limits: Limits,
    *,
    count: int = SAMPLES,
    validation: int = VALIDATION,
    seed: int = 0,
    plots: Path | None = None,
    on_step: Callable[[str, int], None] = lambda _what, _count: None,
) -> Outcome:
    """Search for a recipe; write its ranges if it keeps the limits, and nothing over them if not.

    The sensitivity of the layers is written in any case, as ``sensitivity.csv`` in ``work``.

    Args:
        checkpoint: The float checkpoint's file; the shipped one when None.
        data: The labelled folder that it was trained on.
        out: File of ranges.
        work: Folder that keeps statistics and trials: a search that is cut off goes on from there.
        limits: What INT8 may cost.
        count: Calibration images.
        validation: Validation images at most.
        seed: Seed of the choice of calibration images.
        plots: Folder for ``sensitivity.png``; none is drawn when None.
        on_step: Called with what is being done and how many of it were done since the last call.

    Raises:
        BakitError: If something asked for cannot be had.
    """
    if plots is not None:
        check_plots(plots)
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    outcome, ranges = search_ranges(
        loaded, data, work, limits, count=count, validation=validation, seed=seed, on_step=on_step
    )
    write_file(work / SENSITIVITY, _table(outcome).encode())
    if plots is not None:
        draw_sensitivity(outcome, plots)
    if outcome.met:
        write_ranges(out, ranges)
    return outcome


def _table(outcome: Outcome) -> str:
    """Return the layers and what each costs, the most sensitive first, as CSV."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["layer", "mean_change_months", "precision"])
    kept = outcome.best.choice.recipe.float_layers
    for layer in sorted(outcome.sensitivity, key=lambda name: -outcome.sensitivity[name]):
        precision = "fp32" if layer in kept else "int8"
        writer.writerow([layer, f"{outcome.sensitivity[layer]:.4f}", precision])
    return buffer.getvalue()
