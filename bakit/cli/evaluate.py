"""``bakit evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from bakit.cli.study_options import limit_option, model_options, open_study, output_options
from bakit.cli.tables import echo, new_console, new_table, print_line, safe

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from bakit.studies.evaluate.document import Evaluation

SHOWN = 5
"""Worst and unreadable images that are printed; --json has more."""


@click.command("evaluate")
@model_options
@click.option(
    "--part",
    type=click.Choice(["auto", "all", "train", "validation", "test"]),
    default="auto",
    show_default=True,
    help="auto: the test split if DATA is the training folder, else all images.",
)
@output_options("predicted_true.png, bland_altman.png, error_by_age.png and worst_cases.png")
@limit_option()
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of each process.",
)
def command(
    data: Path,
    checkpoint: Path | None,
    bundle: Path | None,
    part: Literal["auto", "all", "train", "validation", "test"],
    plots: Path | None,
    limit: int | None,
    workers: int | None,
    threads: int,
    *,
    as_json: bool,
) -> None:
    """Measure a model's errors on a labelled folder (labels.csv, images/).

    Runs the whole pipeline: localizer, crop, regressor. If DATA is the training folder, only its
    held-out test split is used. A subset of the training folder cannot be recognized.

    \b
    Example:
      bakit evaluate radiographs/
      bakit evaluate radiographs/ --checkpoint mine.safetensors --plots plots/
      bakit evaluate radiographs/ --bundle bakit-bundles/bakit-rsna100-onnx-int8 --json
    """
    import msgspec

    from bakit.cli.progress import progress
    from bakit.studies.evaluate.plots import draw_plots
    from bakit.studies.evaluate.run import evaluate

    model, images = open_study(data, checkpoint, bundle, plots, limit, part)
    with progress() as on_progress:
        evaluation = evaluate(
            model, images, workers=workers, threads=threads, on_progress=on_progress
        )
    if as_json:
        echo(msgspec.json.encode(evaluation))
    else:
        print_evaluation(evaluation)
    if plots is not None:
        drawn = draw_plots(evaluation, images.samples, plots)
        for path in () if as_json else drawn:
            echo(f"plot: {path}")


def print_evaluation(evaluation: Evaluation) -> None:
    """Print an evaluation on stdout: a summary, then tables."""
    console = new_console()
    for line in _summary(evaluation):
        print_line(console, line)
    console.print()
    for table in (_sex_table(evaluation), _age_table(evaluation), _worst_table(evaluation)):
        console.print(table)


def _summary(evaluation: Evaluation) -> list[str]:
    model, (low, high) = evaluation.model, evaluation.mae_ci95_months
    correlation, covered = evaluation.correlation, evaluation.coverage
    lines = [
        f"{model.checkpoint} as {model.target} {model.precision.value} on {evaluation.data.folder}",
        _images(evaluation),
        (
            f"MAE {evaluation.mae_months:.2f} months (95 % interval {low:.2f} to {high:.2f}), "
            f"bias {_signed(evaluation.bias_months)}, RMSE {evaluation.rmse_months:.2f}, "
            f"median absolute error {evaluation.median_abs_error_months:.2f}"
        ),
        (
            f"within 12 months: {evaluation.within_12_months:.1%}, "
            f"within 24 months: {evaluation.within_24_months:.1%}, "
            f"correlation {'not defined' if correlation is None else f'{correlation:.3f}'}"
        ),
    ]
    if covered is not None:
        lines.append(
            f"{100 * covered.level:g} % intervals cover {covered.overall.share:.1%} of the true "
            f"ages, mean width {covered.overall.mean_width_months:.1f} months"
        )
    if evaluation.no_hand_found:
        lines.append(f"no hand found, whole image used: {evaluation.no_hand_found}")
    bad = [status for status in ("review", "reject") if status in evaluation.quality]
    lines += [f"quality {status}: {evaluation.quality[status]}" for status in bad]
    if evaluation.unscored:
        lines.append(f"unusable images, not counted: {len(evaluation.unscored)}")
        lines += [f"  {item.id}: {item.reason}" for item in evaluation.unscored[:SHOWN]]
    return lines


def _images(evaluation: Evaluation) -> str:
    """Return which images were used, and whether the model was trained or selected on them."""
    data, used = evaluation.data, evaluation.samples + len(evaluation.unscored)
    text = f"{data.part} split: {data.available} of {data.images} images"
    if data.part == "all":
        text = f"all {data.images} images"
    note = {
        "all": "; includes the model's training and validation images" if data.trained_on else "",
        "train": "; the model was trained on them",
        "validation": "; the model was selected on them",
        "test": "; the others were used for training or validation",
    }[data.part]
    return text + note + (f"; limited to {used}" if used < data.available else "")


def _sex_table(evaluation: Evaluation) -> Table:
    covered = evaluation.coverage
    intervals = () if covered is None else ("inside interval", "mean width")
    table = new_table("By sex, months", ("sex", "images", "MAE", "bias", *intervals))
    for sex, errors in evaluation.by_sex.items():
        row = [sex, str(errors.samples), f"{errors.mae_months:.2f}", _signed(errors.bias_months)]
        if covered is not None:
            mine = covered.by_sex[sex]
            row += [f"{mine.share:.1%}", f"{mine.mean_width_months:.1f}"]
        table.add_row(*row)
    return table


def _age_table(evaluation: Evaluation) -> Table:
    table = new_table("By true age, months", ("years", "images", "MAE", "bias"))
    for item in evaluation.by_age:
        years = f"{item.from_months / 12:g}-{item.to_months / 12:g}"
        errors = f"{item.mae_months:.2f}", _signed(item.bias_months)
        table.add_row(years, str(item.samples), *errors)
    return table


def _worst_table(evaluation: Evaluation) -> Table:
    from rich.text import Text

    columns = ("id", "sex", "true age", "predicted", "error", "hand", "quality")
    table = new_table("Worst images, months", columns)
    for item in evaluation.worst[:SHOWN]:
        numbers = f"{item.age_months:.1f}", f"{item.predicted_months:.1f}"
        table.add_row(
            Text(safe(item.id)),
            "M" if item.male else "F",
            *numbers,
            _signed(item.error_months),
            f"{item.box.width}x{item.box.height}",
            " ".join((item.quality.status, *item.quality.reasons)),
        )
    return table


def _signed(months: float) -> str:
    return f"{round(months, 2) + 0.0:+.2f}"  # no -0.00
