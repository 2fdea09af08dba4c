"""``bakit stress``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.options import (
    PATH,
    Names,
    Number,
    json_option,
    limit_option,
    model_options,
    plots_option,
)
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bakit.studies.stress.run import Stress


def _kinds() -> Iterable[str]:
    from bakit.studies.stress.perturb import KINDS

    return KINDS


@click.command("stress")
@click.argument("data", type=PATH)
@model_options
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    type=Names("kind", _kinds),
    metavar="KIND",
    help="rotation, flip, brightness, contrast, inversion, resolution, marker, size, compression "
    "or frame; repeatable. Default: all.",
)
@limit_option(200, "; each runs 38 times")
@click.option(
    "--max-mae-rise-months",
    type=Number(min=0),
    help="Fail if a change raises the MAE by more (upper end of the 95 % interval).",
)
@click.option(
    "--max-over-24-percent",
    type=Number(0, 100),
    help="Fail if a change leaves a larger share of images with an error above 24 months.",
)
@plots_option("stress.png")
@json_option()
@click.pass_context
def command(
    ctx: click.Context,
    data: Path,
    checkpoint: Path | None,
    bundle: Path | None,
    kinds: tuple[str, ...],
    limit: int,
    workers: int | None,
    max_mae_rise_months: float | None,
    max_over_24_percent: float | None,
    plots: Path | None,
    *,
    as_json: bool,
) -> None:
    """Measure a model's error on rotated, shrunk, inverted, compressed and other changed images.

    The mean change is that of the predicted ages; p95 is its 95th percentile.

    Exit status: 0 within the limits, 1 over a limit, 2 wrong input.

    \b
    Example:
      bakit stress radiographs/ --plots plots/
      bakit stress radiographs/ --kind size --kind compression --kind flip
      bakit stress radiographs/ --kind contrast --max-mae-rise-months 3 \\
          --bundle bakit-bundles/bakit-rsna299-onnx-int8
    """
    from bakit.cli.progress import progress
    from bakit.studies.evaluate.choose import choose_images
    from bakit.studies.evaluate.run import open_model
    from bakit.studies.stress.run import draw_stress, stress

    model = open_model(bundle, checkpoint)
    images = choose_images(data, model, limit=limit)
    with progress() as on_progress:
        result = stress(model, images, kinds, workers=workers, on_progress=on_progress)
    share = None if max_over_24_percent is None else max_over_24_percent / 100
    failures = result.failures(max_mae_rise_months, share)
    if as_json:
        echo_json(result)
    else:
        print_stress(result)
    if plots is not None:
        drawn = draw_stress(result, plots)
        if not as_json:
            echo(f"plot: {drawn}")
    for failure in failures:
        echo(f"fail: {failure}", err=True)
    next_step("bakit evaluate", data, "--plots plots")
    ctx.exit(1 if failures else 0)


def print_stress(result: Stress) -> None:
    """Print a stress test on stdout."""
    from bakit.bench.bounds import interval_text

    model = result.model
    what = f"{model.checkpoint} as {model.target} {model.precision.value}"
    print_line(f"{what} on {result.untouched.samples} images of {result.data.folder}")
    if result.unreadable:
        print_line(f"unusable images, not counted: {result.unreadable}")
    months = ("MAE", "rise [95 %]", "mean change", "p95")
    columns = ("change", *months, "> 12", "> 24", "review", "reject")
    rows = []
    for item in (result.untouched, *result.conditions):
        interval = interval_text(item.mae_rise_ci95_months, "+.2f", ", ")
        rise = f"{item.mae_rise_months:+.2f} [{interval}]"
        shares = (item.over_12_months, item.over_24_months, item.reviewed, item.rejected)
        rows.append(
            (
                item.name,
                f"{item.mae_months:.2f}",
                "" if item.kind == "none" else rise,
                f"{item.mean_abs_change_months:.2f}",
                f"{item.p95_abs_change_months:.2f}",
                *(f"{share:.1%}" for share in shares),
            )
        )
    print_table("Months; shares of the images", columns, rows)
