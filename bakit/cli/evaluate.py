"""``bakit evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from bakit.cli.study_options import PATH, limit_option, model_options, output_options
from bakit.cli.tables import new_console, new_table, print_line, safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from bakit.model.intervals import Covered
    from bakit.prediction import Sex
    from bakit.studies.evaluate.agreement import BlandAltman
    from bakit.studies.evaluate.document import Evaluation, Readings

SHOWN = 5
"""Worst and unreadable images that are printed; --json has more."""


@click.command("evaluate")
@click.argument("folders", nargs=-1, required=True, metavar="DATA...", type=PATH)
@model_options
@click.option(
    "--part",
    type=click.Choice(["auto", "all", "train", "validation", "test"]),
    default="auto",
    show_default=True,
    help="auto: the test split if DATA is the training folder, else all images.",
)
@click.option(
    "--sex",
    type=click.Choice(["F", "M"]),
    help="Sex of all images of folders whose labels.csv gives none.",
)
@output_options(
    "predicted_true.png, bland_altman.png, error_by_age.png, worst_cases.png and, with pairs, "
    "pairs.png"
)
@limit_option()
@click.option(
    "--threads",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Threads of each process.",
)
def command(
    folders: tuple[Path, ...],
    checkpoint: Path | None,
    bundle: Path | None,
    part: Literal["auto", "all", "train", "validation", "test"],
    sex: Sex | None,
    plots: Path | None,
    limit: int | None,
    workers: int | None,
    threads: int,
    *,
    as_json: bool,
) -> None:
    """Measure a model's errors on labelled folders (labels.csv, images/), in one table.

    Runs the whole pipeline: localizer, crop, regressor. If DATA is the training folder, only its
    held-out test split is used. A subset of the training folder cannot be recognized.

    If labels.csv has a column pair, a name that two images of one child share, the difference of
    their predictions is reported; with side (L, R), also left minus right. A folder that gives no
    ages is used for that only.

    With several folders, --json prints their documents as sets, and --plots gets a folder for each.

    \b
    Example:
      bakit evaluate radiographs/
      bakit evaluate radiographs/ test-set/ hands-of-twins/ --sex F
      bakit evaluate radiographs/ --checkpoint mine.safetensors --plots plots/
      bakit evaluate radiographs/ --bundle bakit-bundles/bakit-rsna100-onnx-int8 --json
    """
    import msgspec

    from bakit.cli.progress import progress
    from bakit.figures import check_plots
    from bakit.studies.evaluate.choose import choose_sets
    from bakit.studies.evaluate.document import SCHEMA_VERSION, Sets
    from bakit.studies.evaluate.plots import draw_plots
    from bakit.studies.evaluate.run import evaluate_sets, open_model

    if plots is not None:
        check_plots(plots)
    model = open_model(bundle, checkpoint)
    sets = choose_sets(folders, model, part, limit, sex)
    with progress() as on_progress:
        results = evaluate_sets(
            model, sets, workers=workers, threads=threads, on_progress=on_progress
        )
    several = len(results) > 1
    if as_json:
        document = Sets(SCHEMA_VERSION, tuple(results)) if several else results[0]
        click.echo(msgspec.json.encode(document))
    else:
        print_results(results)
    for result, images in zip(results, sets, strict=True) if plots is not None else ():
        assert plots is not None
        drawn = draw_plots(result, images.samples, plots / result.data.folder if several else plots)
        for path in () if as_json else drawn:
            click.echo(f"plot: {path}")


def print_results(results: Sequence[Readings]) -> None:
    """Print evaluations on stdout: a summary, then tables."""
    from bakit.studies.evaluate.document import Evaluation

    console = new_console()
    evaluations = [result for result in results if isinstance(result, Evaluation)]
    several, model = len(results) > 1, results[0].model
    what = f"{model.checkpoint} as {model.target} {model.precision.value}"
    print_line(console, f"{what} on {', '.join(result.data.folder for result in results)}")
    for result in results:
        lines = [_images(result), *_faults(result)]
        if several:
            lines[0] = f"{result.data.folder}: {lines[0]}"
        elif isinstance(result, Evaluation):
            lines[1:1] = _errors(result)
        for line in lines:
            print_line(console, line)
    print_line(console, "")
    if evaluations:
        if several:
            console.print(_sets_table(evaluations))
        console.print(_sex_table(evaluations))
        console.print(_age_table(evaluations))
        console.print(_limits_table(evaluations))
    if any(result.agreement for result in results):
        console.print(_pairs_table(results))
    if not several and evaluations:
        console.print(_worst_table(evaluations[0]))


def _errors(evaluation: Evaluation) -> list[str]:
    low, high = evaluation.mae_ci95_months
    correlation, covered = evaluation.correlation, evaluation.coverage
    lines = [
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
    return lines


def _images(result: Readings) -> str:
    """Return which images were used, and whether the model was trained or selected on them."""
    data, used = result.data, result.samples + len(result.unscored)
    text = f"{data.part} split: {data.available} of {data.images} images"
    if data.part == "all":
        text = f"all {data.images} images"
        if data.available < data.images:
            text = f"{data.available} of {data.images} images, those of pairs"
    note = {
        "all": "; includes the model's training and validation images" if data.trained_on else "",
        "train": "; the model was trained on them",
        "validation": "; the model was selected on them",
        "test": "; the others were used for training or validation",
    }[data.part]
    assumed = f"; read as {data.assumed_sex}, their sex is unknown" if data.assumed_sex else ""
    return text + note + assumed + (f"; limited to {used}" if used < data.available else "")


def _faults(result: Readings) -> list[str]:
    lines = []
    if result.no_hand_found:
        lines.append(f"no hand found, whole image used: {result.no_hand_found}")
    bad = [status for status in ("review", "reject") if status in result.quality]
    lines += [f"quality {status}: {result.quality[status]}" for status in bad]
    if result.unscored:
        lines.append(f"unusable images, not counted: {len(result.unscored)}")
        lines += [f"  {item.id}: {item.reason}" for item in result.unscored[:SHOWN]]
    return lines


def _sets_table(evaluations: Sequence[Evaluation]) -> Table:
    columns = ("images", "MAE [95 %]", "median", "RMSE", "bias", *_intervals(evaluations))
    table = _grouped(evaluations, "Errors, months", columns)
    for item in evaluations:
        covered = None if item.coverage is None else item.coverage.overall
        _add(
            table,
            evaluations,
            item,
            f"{item.samples}",
            f"{item.mae_months:.2f} {_between(item.mae_ci95_months)}",
            f"{item.median_abs_error_months:.2f}",
            f"{item.rmse_months:.2f}",
            _signed(item.bias_months),
            *_covered(covered),
        )
    return table


def _sex_table(evaluations: Sequence[Evaluation]) -> Table:
    columns = ("sex", "images", "MAE", "bias", *_intervals(evaluations))
    table = _grouped(evaluations, "By sex, months", columns)
    for item in evaluations:
        for sex, errors in item.by_sex.items():
            row = [sex, f"{errors.samples}", f"{errors.mae_months:.2f}"]
            covered = None if item.coverage is None else item.coverage.by_sex[sex]
            _add(table, evaluations, item, *row, _signed(errors.bias_months), *_covered(covered))
    return table


def _age_table(evaluations: Sequence[Evaluation]) -> Table:
    columns = ("years", "images", "MAE", "bias")
    table = _grouped(evaluations, "By true age, months", columns)
    for item in evaluations:
        for group in item.by_age:
            years = f"{group.from_months / 12:g}-{group.to_months / 12:g}"
            errors = f"{group.mae_months:.2f}", _signed(group.bias_months)
            _add(table, evaluations, item, years, f"{group.samples}", *errors)
    return table


def _limits_table(evaluations: Sequence[Evaluation]) -> Table:
    title = "Bland-Altman, months: predicted minus true age [95 %]"
    table = _grouped(evaluations, title, ("images", "bias", "-1.96 SD", "+1.96 SD"))
    for item in evaluations:
        _add(table, evaluations, item, f"{item.samples}", *_limits(item.bland_altman))
    return table


def _pairs_table(results: Sequence[Readings]) -> Table:
    columns = ("pairs", "mean", "median", "left - right", "-1.96 SD", "+1.96 SD")
    title = "Two images of one child, months: absolute difference, left minus right [95 %]"
    table = _grouped(results, title, columns)
    for result in results:
        if (found := result.agreement) is not None:
            _add(
                table,
                results,
                result,
                f"{found.pairs}",
                f"{found.mean_abs_difference_months:.2f} "
                f"{_between(found.mean_abs_difference_ci95_months)}",
                f"{found.median_abs_difference_months:.2f} "
                f"{_between(found.median_abs_difference_ci95_months)}",
                *_limits(found.left_minus_right),
            )
    return table


def _grouped(results: Sequence[Readings], title: str, columns: tuple[str, ...]) -> Table:
    """Return a table whose first column is the set, if there are several."""
    return new_table(title, ("set", *columns) if len(results) > 1 else columns)


def _add(table: Table, results: Sequence[Readings], result: Readings, *cells: str) -> None:
    """Add a row to a table of ``_grouped``."""
    name = [safe(result.data.folder, short=True)] if len(results) > 1 else []
    table.add_row(*name, *cells)


def _limits(found: BlandAltman | None) -> list[str]:
    if found is None:
        return ["", "", ""]
    lines = [found.lines[name] for name in ("bias", "-1.96 SD", "+1.96 SD")]
    return [f"{_signed(months)} {_between(ci95, '+')}" for months, ci95 in lines]


def _intervals(evaluations: Sequence[Evaluation]) -> tuple[str, ...]:
    """Return the columns of the prediction intervals, if the model has any."""
    return () if evaluations[0].coverage is None else ("inside interval", "mean width")


def _covered(covered: Covered | None) -> list[str]:
    """Return the cells of ``_intervals``."""
    if covered is None or covered.share is None:
        return []
    return [f"{covered.share:.1%}", f"{covered.mean_width_months:.1f}"]


def _between(interval: tuple[float, float] | None, sign: str = "") -> str:
    return "" if interval is None else "[{:{s}.1f}, {:{s}.1f}]".format(*interval, s=sign)


def _worst_table(evaluation: Evaluation) -> Table:
    from rich.text import Text

    columns = ("id", "sex", "true age", "predicted", "error", "hand", "quality")
    table = new_table("Worst images, months", columns)
    for item in evaluation.worst[:SHOWN]:
        numbers = f"{item.age_months:.1f}", f"{item.predicted_months:.1f}"
        table.add_row(
            Text(item.id),
            "M" if item.male else "F",
            *numbers,
            _signed(item.error_months),
            f"{item.box.width}x{item.box.height}",
            " ".join((item.quality.status, *item.quality.reasons)),
        )
    return table


def _signed(months: float) -> str:
    return f"{round(months, 2) + 0.0:+.2f}"  # no -0.00
