"""``bakit evaluate``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import click

from bakit.cli.options import (
    MOST_THREADS,
    PATH,
    SEX,
    engine_options,
    json_option,
    limit_option,
    model_options,
    open_readers,
    plots_option,
)
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bakit.model.intervals import Covered
    from bakit.prediction import Sex
    from bakit.studies.evaluate.agreement import BlandAltman
    from bakit.studies.evaluate.document import Errors, Evaluation, Readings

    _Table = tuple[str, tuple[str, ...], Sequence[list[str]]]
    """Title, columns, and rows; the first cell is the set."""

SHOWN = 5
"""Worst and unreadable images that are printed; --json has more."""


@click.command("evaluate")
@click.argument("folders", nargs=-1, required=True, metavar="DATA...", type=PATH)
@model_options
@click.option(
    "--part",
    type=click.Choice(["auto", "all", "train", "validation", "test"]),
    default="auto",
    help="auto: the test split if DATA is the training folder, else all images.",
)
@click.option(
    "--sex", type=SEX, help="Sex of all images of folders whose labels.csv gives none: F or M."
)
@plots_option(
    "predicted_true.png, bland_altman.png, error_by_age.png, worst_cases.png and, with pairs, "
    "pairs.png"
)
@json_option()
@limit_option()
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), default=1, help="Threads of each process."
)
@engine_options
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
    engine: str,
    address: str | None,
    *,
    as_json: bool,
) -> None:
    """Measure a model's errors on labelled folders (labels.csv, images/), in one table.

    Runs the whole pipeline: localizer, crop, regressor. If DATA has images of the training folder,
    only its test split and images that the model never saw are used. Copies under other ids are not
    recognized: bakit describe --against finds those with equal pixels.

    If labels.csv has a column pair, a name that two images of one child share, the difference of
    their predictions is reported; with side (L, R), also left minus right. A folder that gives no
    ages is used for that only.

    With several folders, --json prints their documents as sets, and --plots gets a folder for each.

    \b
    Example:
      bakit evaluate radiographs/
      bakit evaluate radiographs/ test-set/ hands-of-twins/ --sex F
      bakit evaluate radiographs/ --checkpoint mine.safetensors --plots plots/
      bakit evaluate radiographs/ --bundle bakit-bundles/bakit-rsna299-onnx-int8
    """
    from bakit.cli.progress import progress
    from bakit.studies.evaluate.choose import choose_sets
    from bakit.studies.evaluate.document import SCHEMA_VERSION, Sets
    from bakit.studies.evaluate.plots import draw_plots
    from bakit.studies.evaluate.run import evaluate_sets, open_model

    readers = open_readers(engine, address)
    model = open_model(bundle, checkpoint)
    sets = choose_sets(folders, model, part, limit, sex)
    with progress() as on_progress:
        results = evaluate_sets(
            model,
            sets,
            workers=workers,
            threads=threads,
            on_progress=on_progress,
            open_readers=readers,
        )
    several = len(results) > 1
    if as_json:
        document = Sets(SCHEMA_VERSION, tuple(results)) if several else results[0]
        echo_json(document)
    else:
        print_results(results)
    for result, images in zip(results, sets, strict=True):
        if plots is not None:
            folder = plots / result.data.folder if several else plots
            for path in draw_plots(result, images.samples, folder):
                if not as_json:
                    echo(f"plot: {path}")
    if bundle:
        next_step("bakit bench", bundle, "--data", folders[0], "--json report.json")
    else:
        chosen = () if checkpoint is None else (checkpoint,)
        next_step("bakit export", *chosen, "--target onnx --precision fp32,int8")


def print_results(results: Sequence[Readings]) -> None:
    """Print evaluations on stdout: a summary, then tables."""
    from bakit.studies.evaluate.document import Evaluation

    evaluations = [result for result in results if isinstance(result, Evaluation)]
    several, model = len(results) > 1, results[0].model
    what = f"{model.checkpoint} as {model.target} {model.precision.value}"
    print_line(f"{what} on {', '.join(result.data.folder for result in results)}")
    for result in results:
        lines = [_images(result), *_faults(result)]
        if several:
            lines[0] = f"{result.data.folder}: {lines[0]}"
        for line in lines:
            print_line(line)
    print_line("")
    first = 0 if several else 1
    for title, columns, rows in _tables(results, evaluations, several=several):
        if rows:
            print_table(title, ("set", *columns)[first:], [row[first:] for row in rows])


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


def _tables(
    results: Sequence[Readings], evaluations: Sequence[Evaluation], *, several: bool
) -> Iterator[_Table]:
    covered = any(item.coverage for item in evaluations)
    intervals = ("inside 90 %", "mean width") if covered else ()
    errors = ("images", "MAE", "bias")
    within = ("within 12", "within 24", "correlation")
    columns = ("images", "MAE [95 %]", "median", "RMSE", "bias", *within, *intervals)
    yield "Errors, months", columns, [_errors_of(item) for item in evaluations]
    rows = [
        [
            item.data.folder,
            sex,
            *_group_cells(group),
            *_covered(None if item.coverage is None else item.coverage.by_sex[sex]),
        ]
        for item in evaluations
        for sex, group in item.by_sex.items()
    ]
    yield "By sex, months", ("sex", *errors, *intervals), rows
    rows = [
        [
            item.data.folder,
            f"{group.from_months / 12:g}-{group.to_months / 12:g}",
            *_group_cells(group),
        ]
        for item in evaluations
        for group in item.by_age
    ]
    yield "By true age, months", ("years", *errors), rows
    rows = [[i.data.folder, f"{i.samples}", *_limits(i.bland_altman)] for i in evaluations]
    title = "Bland-Altman, months: predicted minus true age [95 %]"
    yield title, ("images", "bias", "-1.96 SD", "+1.96 SD"), rows
    rows = [
        [
            result.data.folder,
            f"{found.pairs}",
            _with(found.mean_abs_difference_months, found.mean_abs_difference_ci95_months),
            _with(found.median_abs_difference_months, found.median_abs_difference_ci95_months),
            *_limits(found.left_minus_right),
        ]
        for result in results
        if (found := result.agreement) is not None
    ]
    title = "Two images of one child, months: absolute difference, left minus right [95 %]"
    yield title, ("pairs", "mean", "median", "left - right", "-1.96 SD", "+1.96 SD"), rows
    rows = [
        [
            evaluation.data.folder,
            item.id,
            "M" if item.male else "F",
            f"{item.age_months:.1f}",
            f"{item.predicted_months:.1f}",
            _signed(item.error_months),
            f"{item.box.width}x{item.box.height}",
            " ".join((item.quality.status, *item.quality.reasons)),
        ]
        for evaluation in (() if several else evaluations)
        for item in evaluation.worst[:SHOWN]
    ]
    columns = ("id", "sex", "true age", "predicted", "error", "hand", "quality")
    yield "Worst images, months", columns, rows


def _errors_of(item: Evaluation) -> list[str]:
    return [
        item.data.folder,
        f"{item.samples}",
        _with(item.mae_months, item.mae_ci95_months),
        f"{item.median_abs_error_months:.2f}",
        f"{item.rmse_months:.2f}",
        _signed(item.bias_months),
        f"{item.within_12_months:.1%}",
        f"{item.within_24_months:.1%}",
        "-" if item.correlation is None else f"{item.correlation:.3f}",
        *_covered(None if item.coverage is None else item.coverage.overall),
    ]


def _group_cells(group: Errors) -> list[str]:
    return [f"{group.samples}", f"{group.mae_months:.2f}", _signed(group.bias_months)]


def _limits(found: BlandAltman | None) -> list[str]:
    if found is None:
        return ["", "", ""]
    return [_with(*found.lines[name], sign="+") for name in ("bias", "-1.96 SD", "+1.96 SD")]


def _covered(covered: Covered | None) -> list[str]:
    """Return the cells of the prediction intervals; none without intervals."""
    if covered is None or covered.share is None:
        return []
    return [f"{covered.share:.1%}", f"{covered.mean_width_months:.1f}"]


def _with(months: float, interval: tuple[float, float] | None, sign: str = "") -> str:
    """Return a figure with its interval, if there is one."""
    from bakit.bench.bounds import interval_text

    text = "" if interval is None else f" [{interval_text(interval, f'{sign}.1f', ', ')}]"
    return f"{round(months, 2) + 0.0:{sign}.2f}{text}"  # no -0.00


def _signed(months: float) -> str:
    return _with(months, None, sign="+")
