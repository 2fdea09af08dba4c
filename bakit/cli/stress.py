"""``bakit stress``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakit.cli.tables import new_console, new_table, print_line

if TYPE_CHECKING:
    from bakit.studies.stress.document import Stress


@click.command("stress")
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--checkpoint",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="The float checkpoint to judge. Default: the shipped one.",
)
@click.option(
    "--bundle", metavar="DIR", type=click.Path(path_type=Path), help="The bundle to judge instead."
)
@click.option(
    "--kind",
    "kinds",
    multiple=True,
    metavar="KIND",
    help="rotation, flip, brightness, contrast, inversion, resolution or marker; may be given "
    "several times. Default: all.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    default=200,
    show_default=True,
    help="Use this many images, spread evenly over labels.csv; each is read 32 times.",
)
@click.option("--workers", type=click.IntRange(min=1), help="Processes. Default: one a core.")
@click.option(
    "--max-mae-rise-months",
    type=click.FloatRange(min=0),
    help="Fail if a change may raise the MAE by more: upper end of the 95 % interval.",
)
@click.option(
    "--max-over-24-percent",
    type=click.FloatRange(0, 100),
    help="Fail if a change leaves more images than this more than 24 months off.",
)
@click.option(
    "--plots", metavar="DIR", type=click.Path(path_type=Path), help="Draw stress.png here."
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
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
    """Turn, mirror, light, invert, blur and mark radiographs, and see what their ages do.

    Exit status: 0 measured and within the limits, 1 over a limit, 2 bad input.

    \b
    Example:
      bakit stress radiographs/ --plots plots/
      bakit stress radiographs/ --bundle bakit-bundles/bakit-rsna100-onnx-int8 --kind contrast \\
          --max-mae-rise-months 3
    """
    import msgspec

    from bakit.cli.progress import progress
    from bakit.figures import check_plots
    from bakit.studies.evaluate.run import choose_images, open_model
    from bakit.studies.stress.plots import draw_stress
    from bakit.studies.stress.run import stress

    if plots is not None:
        check_plots(plots)
    model = open_model(bundle, checkpoint)
    images = choose_images(data, model, limit=limit)
    with progress("images", len(images.samples)) as on_image:
        result = stress(model, images, kinds, workers=workers, on_image=on_image)
    share = None if max_over_24_percent is None else max_over_24_percent / 100
    failures = result.failures(max_mae_rise_months, share)
    if as_json:
        click.echo(msgspec.json.encode(result))
    else:
        print_stress(result)
    if plots is not None:
        drawn = draw_stress(result, plots)
        if not as_json:
            click.echo(f"plot: {drawn}")
    for failure in failures:
        click.echo(f"fail: {failure}", err=True)
    ctx.exit(1 if failures else 0)


def print_stress(result: Stress) -> None:
    """Print a stress test on stdout."""
    from rich.text import Text

    console = new_console()
    model = result.model
    what = f"{model.checkpoint} as {model.target} {model.precision.value}"
    print_line(console, f"{what} on {result.untouched.samples} images of {result.data.folder}")
    if result.unreadable:
        print_line(console, f"images that cannot be used, not counted: {result.unreadable}")
    columns = ("change", "MAE", "rise [95 %]", "ages moved", "> 12", "> 24", "review", "reject")
    table = new_table("Months; shares of the images", columns)
    for item in (result.untouched, *result.conditions):
        low, high = item.mae_rise_ci95_months
        rise = f"{item.mae_rise_months:+.2f} [{low:+.2f}, {high:+.2f}]"
        shares = (item.over_12_months, item.over_24_months, item.reviewed, item.rejected)
        table.add_row(
            item.name,
            f"{item.mae_months:.2f}",
            Text("" if item.kind == "none" else rise),
            f"{item.mean_abs_change_months:.2f}",
            *(f"{share:.1%}" for share in shares),
        )
    console.print(table)
