"""``bakit calibrate`` and ``bakit quality``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import (
    MOST_THREADS,
    OUT_FILE,
    PATH,
    Names,
    Number,
    checkpoint_option,
    json_option,
    plots_option,
    several,
)
from bakit.cli.tables import echo, echo_json, hint, next_step, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bakit.calib.search import Limits, Outcome, Trial
    from bakit.quality.limits import QualityLimits


def _methods() -> Iterable[str]:
    from bakit.calib.methods import METHODS

    return METHODS


_limits = several(
    *[
        click.option(f"--{name}", type=Number(0, most), default=limit, help=text)
        for name, limit, most, text in (
            ("max-drift-months", 0.25, None, "Search: maximum rise of the MAE."),
            ("max-mean-change-months", 0.75, None, "Search: maximum mean absolute change."),
            ("max-p99-change-months", 5.0, None, "Search: maximum 99th percentile of the change."),
            ("min-int8-share", 0.9, 1, "Search: minimum share of the multiply-adds in INT8."),
        )
    ]
)


@click.command("calibrate")
@click.argument("data", type=PATH)
@checkpoint_option
@click.option("--out", type=OUT_FILE, default="ranges.json", help="File to write.")
@click.option("--samples", type=click.IntRange(32), default=256, help="Calibration images.")
@click.option(
    "--all-images",
    is_flag=True,
    help="Use all images of DATA, if it shares no image with the training data.",
)
@click.option("--seed", type=click.IntRange(0), default=0, help="Seed of the image selection.")
@click.option(
    "--method",
    type=Names("range method", _methods),
    help="Range method. [default: percentile-99.99]",
)
@click.option(
    "--search",
    "searching",
    is_flag=True,
    help="Search methods and recipes on validation images; keep the best within the limits.",
)
@_limits
@click.option(
    "--validation",
    type=click.IntRange(368),
    default=600,
    help="Search: number of validation images.",
)
@click.option(
    "--work",
    type=PATH,
    default="bakit-calibration",
    help="Search: folder for the trials; an interrupted search continues from it.",
)
@plots_option("sensitivity.png of the search")
@click.pass_context
def command(
    context: click.Context,
    /,
    data: Path,
    checkpoint: Path | None,
    out: Path,
    samples: int,
    seed: int,
    method: str | None,
    validation: int,
    work: Path,
    plots: Path | None,
    *,
    all_images: bool,
    searching: bool,
    **numbers: Any,  # noqa: ANN401  # the numbers of Limits, by name
) -> None:
    """Compute INT8 activation ranges from the training split of a labelled folder.

    --search compares recipes on the validation split. The upper ends of the 95 % intervals have to
    be within the limits; if those of no recipe are, nothing is written and the exit status is 1.
    Confirm the recipe on the test split: bakit gate.

    \b
    Example:
      bakit calibrate DATA --checkpoint mine.safetensors --out ranges.json
      bakit calibrate radiographs/ --search --plots plots/
      bakit export mine.safetensors --target onnx --int8 --calibration ranges.json
    """
    from bakit.calib.command import calibrate, search_file
    from bakit.calib.methods import DEFAULT_METHOD
    from bakit.calib.ranges import write_ranges
    from bakit.calib.search import Limits
    from bakit.cli.progress import progress
    from bakit.model.checkpoint import SHIPPED, Checkpoint

    if plots is not None and not searching:
        message = "--plots needs --search"
        raise click.UsageError(message)
    if searching and (all_images or method is not None):
        option = "--all-images" if all_images else "--method"
        message = f"{option} cannot be used with --search, which tries all methods on DATA's split"
        raise click.UsageError(message)
    model = Checkpoint.read(checkpoint or SHIPPED)
    chosen = () if checkpoint is None else (checkpoint,)
    then = ("bakit export", *chosen, "--target onnx --precision fp32,int8 --calibration", out)
    if not searching:
        with progress() as on_progress:
            ranges = calibrate(
                model,
                data,
                count=samples,
                seed=seed,
                method=method or DEFAULT_METHOD,
                all_images=all_images,
                on_progress=on_progress,
            )
        write_ranges(out, ranges)
        which = "images" if all_images else "images of the training split"
        echo(f"{out}  {len(ranges.tensors)} tensors, {ranges.samples} {which}")
        next_step(*then)
        return
    limits = Limits(**numbers)
    with progress() as on_progress:
        outcome = search_file(
            model,
            data,
            out,
            work,
            limits,
            count=samples,
            validation=validation,
            seed=seed,
            plots=plots,
            on_progress=on_progress,
        )
    _print_search(outcome, limits)
    if not outcome.met:
        broken = "; ".join(outcome.best.broken(limits))
        echo(f"bakit: no recipe is within the limits; the best: {broken}", err=True)
        echo(f"{out} was not written; raise the limits, or train longer", err=True)
        context.exit(1)
    echo(f"{out}  {_named(outcome.best)}")
    next_step(*then)


def _print_search(outcome: Outcome, limits: Limits) -> None:
    columns = ("recipe", "MAE\nmonths", "mean change\nmonths", "p99\nmonths", "INT8\n%", "limits")
    title = f"Trials on {outcome.best.samples} validation images (upper ends of 95 % intervals)"
    rows = []
    for trial in outcome.trials:
        values = (trial.drift_months, trial.mean_change_months, trial.p99_change_months)
        rows.append(
            (
                _named(trial),
                *(
                    f"{value:.2f} ({'-' if upper is None else f'{upper:.2f}'})"
                    for value, upper in zip(values, trial.uppers_months, strict=True)
                ),
                f"{100 * trial.int8_share:.1f}",
                ("kept" if not trial.broken(limits) else "broken")
                + (", best" if trial == outcome.best else ""),
            )
        )
    print_table(title, columns, rows)
    worst = sorted(outcome.sensitivity.items(), key=lambda item: -item[1])[:8]
    print_table(
        "Most sensitive layers",
        ("layer", "mean change alone\nmonths"),
        [(layer, f"{change:.3f}") for layer, change in worst],
    )


def _named(trial: Trial) -> str:
    layers = ", ".join(trial.choice.float_layers)
    return f"{trial.choice.method}; float: {layers or 'nothing'}"


@click.command("quality")
@click.argument("data", type=PATH)
@checkpoint_option
@click.option(
    "--out",
    type=OUT_FILE,
    required=True,
    help="Checkpoint to write, with the limits; may be --checkpoint itself.",
)
@click.option(
    "--threads", type=click.IntRange(1, MOST_THREADS), default=1, help="Threads of the model."
)
@json_option("Print limits and rates as JSON.")
def quality_command(
    data: Path, checkpoint: Path | None, out: Path, threads: int, *, as_json: bool
) -> None:
    """Fit the image-quality limits (accept, review, reject) and write them into a checkpoint.

    DATA is the training folder of the checkpoint. The limits are fitted on its training and
    validation splits and on images without a hand. They are tested on its test split and on
    held-out kinds of images.

    \b
    Example:
      bakit quality DATA --checkpoint mine.safetensors --out mine.safetensors
    """
    from bakit.cli.progress import progress
    from bakit.studies.quality.learn import qualify_file

    with progress() as on_progress:
        written = qualify_file(checkpoint, data, out, threads=threads, on_progress=on_progress)
    limits = written.header.quality
    assert limits is not None
    if as_json:
        echo_json(limits)
        return
    print_limits(limits)
    echo(f"{out}  {written.sha256}")
    next_step("bakit export", out, "--target onnx --precision fp32,int8")


def print_limits(limits: QualityLimits) -> None:
    """Print the rates of each limit and of all limits together."""
    columns = ("reason", "measure", "review", "reject", "test split\nreviewed", "rejected")
    rows = []
    for item in limits.limits:
        sign = ">" if item.worse == "above" else "<"
        rows.append(
            (
                item.code,
                item.measure,
                "" if item.review is None else f"{sign} {item.review:g}",
                "" if item.reject is None else f"{sign} {item.reject:g}",
                f"{item.good.reviewed} of {item.good.samples}",
                f"{item.good.rejected} of {item.good.samples}",
            )
        )
    print_table("Limits", columns, rows)
    rates = {"test split": limits.good, **limits.caught}
    together = [
        (kind, f"{r.rejected}", f"{r.reviewed}", f"{r.samples}") for kind, r in rates.items()
    ]
    print_table("All limits together", ("images", "rejected", "reviewed", "of"), together)
    if 2 * limits.good.rejected > limits.good.samples:
        hint("note: most good radiographs are rejected: the model's ages hardly differ; train more")
