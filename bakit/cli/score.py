"""``bakit score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakit.cli.options import (
    SEX,
    bundle_option,
    engine_options,
    json_option,
    only_bundle,
    open_readers,
    public_key_option,
    workers_option,
)
from bakit.cli.progress import progress
from bakit.cli.tables import echo, echo_json, next_step

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.prediction import Sex
    from bakit.score.table import Summary

WORST_FIRST = ("error", "reject", "review")
"""Statuses that ``--fail-on`` names."""


@click.command("score")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option(
    "--out",
    required=True,
    metavar="TABLE",
    help="Table to write: .csv, .jsonl or .parquet. TABLE.journal beside it keeps the rows; of a "
    "URL, it is in the working folder.",
)
@bundle_option
@public_key_option
@click.option("--sex", type=SEX, help="Sex of films whose list, labels.csv and header give none.")
@click.option("--allow-rejected", is_flag=True, help="Predict the age of rejected films as well.")
@workers_option
@engine_options
@click.option(
    "--fail-on",
    type=click.Choice(["never", *WORST_FIRST]),
    default="never",
    help="Exit with 1 if a film has this status or a worse one.",
)
@json_option("Print the summary as one JSON object.")
@click.pass_context
def command(
    context: click.Context,
    sources: tuple[str, ...],
    out: str,
    bundle: Path | None,
    public_key: Path | None,
    sex: Sex | None,
    workers: int | None,
    engine: str,
    address: str | None,
    fail_on: str,
    *,
    allow_rejected: bool,
    as_json: bool,
) -> None:
    """Predict the bone age from many radiographs: a table with a row for each.

    SOURCE is a folder, a glob, a zip or tar archive, a film, or a list: a CSV file with the columns
    path, id and sex (id and sex may be missing). A URL such as s3://bucket/folder is one of these,
    too. Of a folder, all PNG, JPEG and DICOM files below it are read; the sex comes from its
    labels.csv or from DICOM headers. A rejected or damaged film is a row, too. The same command
    continues a run that was killed.

    \b
    Example:
      bakit score radiographs/ --out ages.csv
      bakit score list.csv archive/2019.zip 'films/*.dcm' --out ages.parquet
      bakit score archive/ --out ages.parquet --engine ray --address 10.0.0.1:6379
    """
    from functools import partial

    from bakit.bundle import Bundle
    from bakit.score.row import Options
    from bakit.score.run import score

    readers = partial(open_readers(engine, address), workers=workers)
    opened = Bundle.read(bundle or only_bundle(), public_key)
    options = Options(sex, allow_rejected)
    with progress(rate="films") as on_progress:
        summary = score(sources, opened, out, options, readers, on_progress)
    if as_json:
        echo_json(summary)
    else:
        for line in _lines(summary, out):
            echo(line)
        next_step(*_next(summary))
    asked = WORST_FIRST[: ("never", *WORST_FIRST).index(fail_on)]
    if any(status in summary.by_status for status in asked):
        context.exit(1)


def _lines(summary: Summary, out: str) -> Iterator[str]:
    """Yield the summary as text."""
    speed = summary.read / max(summary.seconds, 0.01)
    yield (
        f"{out}: {summary.films} films; {summary.read} read now, {summary.seconds:.1f} s, "
        f"{speed:.1f} films/s"
    )
    for title, counts in (
        ("status", summary.by_status),
        ("reasons", summary.by_reason),
        ("ignored files", summary.ignored),
        ("duplicates", {"with the pixels of an earlier film": summary.duplicates}),
    ):
        if any(counts.values()):
            yield f"{title}: {', '.join(f'{n} {name}' for name, n in counts.items() if n)}"
    for sex, ages in sorted(summary.by_sex.items()):
        yield (
            f"{sex}: {ages.films} ages, mean {ages.mean_months:.1f} months, "
            f"{ages.min_months:.1f} to {ages.max_months:.1f}"
        )
    yield f"slowest: {', '.join(f'{name} {took:.2f} s' for took, name in summary.slowest)}"
    for name, error in summary.errors:
        yield f"error: {name}: {error}"


def _next(summary: Summary) -> tuple[str | Path, ...]:
    if summary.errors:
        return ("correct the errors and run the same command; it reads these films again",)
    if (flagged := Path(summary.flagged)).is_file():
        return "bakit localize", flagged, "--overlay pictures/"
    return ("the same command reads films that are added later",)
