"""``bakit bench``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakit.cli.paths import all_bundles
from bakit.cli.tables import new_console, new_table

if TYPE_CHECKING:
    from rich.progress import Progress
    from rich.table import Table

    from bakit.bench import Report
    from bakit.bench.report import DriftReport

STAGES = ("decode", "localize", "preprocess", "regress", "total")
WIDTH = 140
"""Columns when the output is no terminal, so that a log has every number."""


@click.command("bench")
@click.argument("bundles", metavar="[BUNDLE]...", nargs=-1, type=click.Path(path_type=Path))
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Labelled folder (labels.csv, images/) to measure drift on; without it, latency only.",
)
@click.option(
    "--reference",
    metavar="BUNDLE",
    type=click.Path(path_type=Path),
    help="fp32 bundle that stands for the float model; else chosen among the bundles.",
)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    help="Use this many labelled images, spread evenly over labels.csv.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Threads; else the backend's choice.")
@click.option(
    "--queries",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="Least queries of each bundle.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(min=0),
    default=5.0,
    show_default=True,
    help="Least time in each bundle's queries.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Write the report here; - prints it, and nothing else, on stdout.",
)
def command(
    bundles: tuple[Path, ...],
    data: Path | None,
    reference: Path | None,
    limit: int | None,
    threads: int | None,
    queries: int,
    seconds: float,
    json_file: str | None,
) -> None:
    """Measure bundles on this machine: latency, memory, and drift from the float model.

    Without a BUNDLE, measures all of bakit-bundles/. Close other programs first.

    \b
    Example:
      bakit bench bakit-bundles/bakit-rsna100-onnx-fp32 bakit-bundles/bakit-rsna100-onnx-int8 \\
          --data DATA --json report.json
    """
    from bakit.bench import run_bench

    with _progress() as progress:
        tasks = {}

        def on_stage(stage: str, share: float) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(stage, total=1.0)
            progress.update(tasks[stage], completed=share, refresh=True)

        report = run_bench(
            bundles or all_bundles(),
            data,
            reference,
            limit=limit,
            min_queries=queries,
            min_duration_s=seconds,
            threads=threads,
            on_stage=on_stage,
        )
    if json_file == "-":
        click.echo(report.encode(), nl=False)
        return
    print_report(report)
    if json_file is not None:
        report.write(Path(json_file))
        click.echo(f"report: {json_file}")


def _progress() -> Progress:
    """Return a progress bar on stderr, silent unless that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description:9}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        console=Console(file=sys.stderr),
        # A thread that redraws would take part in the queries: drawn between them instead.
        auto_refresh=False,
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def print_report(report: Report) -> None:
    """Print a report as tables on stdout."""
    console = new_console(WIDTH)
    console.print(_bundles_table(report))
    console.print(_times_table(report))
    for line in _notes(report):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bundles_table(report: Report) -> Table:
    from rich.text import Text

    names = ("bundle", "target\nprecision")
    costs = ("size\nMB", "INT8\n%", "load\nms", "peak\nRSS MB")
    errors = ("MAE\nmonths", "drift [95 % interval]\nmonths")
    table = new_table("Bundles", (*names, *costs, *errors), left=range(len(names)))
    for bundle in report.bundles:
        rss = bundle.footprint.peak_rss_mb
        table.add_row(
            Text(bundle.name),
            Text(f"{bundle.target} {bundle.precision.value}"),
            f"{bundle.total_size_mb:.2f}",
            f"{100 * bundle.int8_share:.1f}" if bundle.int8_share else "-",
            f"{bundle.footprint.load_ms:.1f}",
            "?" if rss is None else f"{rss:.0f}",
            f"{bundle.drift.bundle_mae_months:.2f}" if bundle.drift else "-",
            Text(_drift_text(bundle.drift)),
        )
    return table


def _drift_text(drift: DriftReport | None) -> str:
    if drift is None:
        return "not measured"
    if drift.is_reference:
        return "reference"
    numbers = (drift.drift_months, *drift.drift_ci95_months)
    mean, low, high = (f"{round(number, 3) + 0.0:+.3f}" for number in numbers)  # no -0.000
    return f"{mean} [{low}, {high}]"


def _times_table(report: Report) -> Table:
    from rich.text import Text

    columns = (
        "bundle",
        *(f"{stage}\np50 ms" for stage in STAGES),
        "total\np90 ms",
        "total\np99 ms",
    )
    table = new_table("Times of one query", columns)
    for bundle in report.bundles:
        stages = bundle.latency.stages
        times = [stages[stage].p50_ms for stage in STAGES]
        times += [stages["total"].p90_ms, stages["total"].p99_ms]
        table.add_row(Text(bundle.name), *(f"{time:.2f}" for time in times))
    return table


def _notes(report: Report) -> list[str]:
    """Say what the numbers were measured on."""
    host, queries = report.host, min(bundle.latency.queries for bundle in report.bundles)
    notes = [f"{host.cpu}, {host.logical_cores} logical cores; {queries} queries of each bundle"]
    if report.data is None:
        return [*notes, "drift was not measured: give labelled images with --data"]
    which = "images" if report.data.part == "all" else "test images: the rest trained the model"
    notes.append(f"drift on {report.data.samples} of {report.data.available} {which}")
    references = {
        bundle.drift.reference: bundle.drift.reference_target
        for bundle in report.bundles
        if bundle.drift
    }
    return [*notes, *(f"reference: {name} ({target})" for name, target in references.items())]
