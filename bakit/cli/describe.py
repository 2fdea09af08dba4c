"""``bakit describe``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.options import PATH
from bakit.cli.study_options import output_options
from bakit.cli.tables import echo, new_console, new_table, next_step, print_line, safe

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from rich.table import Table

    from bakit.studies.describe.document import Description
    from bakit.studies.describe.findings import Finding

SHOWN = 10
"""Findings of each kind that are printed; --json has all of them."""
BAR = 40
"""Length of the longest bar, in characters."""


@click.command("describe")
@click.argument("data", type=PATH)
@click.option(
    "--against",
    multiple=True,
    metavar="OTHER",
    type=PATH,
    help="Folder that should share no image with DATA, such as a test set; repeatable.",
)
@output_options("ages.png, sexes.png, sizes.png (if they vary) and contact_sheet.png")
@click.pass_context
def command(
    ctx: click.Context, data: Path, against: tuple[Path, ...], plots: Path | None, *, as_json: bool
) -> None:
    """Summarize a labelled dataset (labels.csv, images/) and list its errors.

    Every image is decoded. Images with equal grey values are duplicates, whatever their names.

    Exit status: 0 bakit train accepts the folder, 1 it has errors, 2 wrong input.

    \b
    Example:
      bakit describe radiographs/
      bakit describe radiographs/ --against test-set/ --plots plots/
    """
    import msgspec

    from bakit.cli.progress import progress
    from bakit.figures import check_plots
    from bakit.studies.describe.findings import find
    from bakit.studies.describe.plots import draw_plots
    from bakit.studies.describe.run import describe

    if plots is not None:
        check_plots(plots)
    with progress() as on_progress:
        description = describe(data, against, on_progress)
    drawn = [] if plots is None else draw_plots(description, data, plots)
    if as_json:
        echo(msgspec.json.encode(description))
    else:
        print_description(description, drawn)
    failed = any(finding.stops for finding in find(description))
    next_step(
        "correct the errors, then run this command again"
        if failed
        else f"bakit train {data} --out run --pretrained imagenet"
    )
    ctx.exit(1 if failed else 0)


def print_description(description: Description, plots: Sequence[Path] = ()) -> None:
    """Print a description on stdout: tables, plot files, findings."""
    from bakit.studies.describe.findings import find, verdict

    console = new_console()
    print_line(console, description.folder)
    console.print()
    for table in (
        _counts_table(description),
        _ages_table(description),
        _years_table(description),
        _sizes_table(description),
    ):
        if table.row_count:
            console.print(table)
    findings = find(description)
    lines = [f"plot: {path}" for path in plots]
    lines += [line for finding in findings for line in _finding_lines(finding)]
    for line in [*lines, verdict(findings)]:
        print_line(console, line)


def _table(title: str, *columns: str, bars: bool = False) -> Table:
    """Return a table: names, numbers, and optionally bars."""
    left = (0, len(columns) - 1) if bars else (0,)
    return new_table(title, columns, left=left)


def _counts_table(description: Description) -> Table:
    from rich.text import Text

    table = _table("Images", "", "")
    bad = len(description.unreadable) + len(description.blank)
    table.add_row("rows of labels.csv", str(description.rows))
    table.add_row("images named by a row", str(description.images))
    table.add_row("of these unreadable or blank", str(bad))
    table.add_row("usable", str(description.usable))
    for other in description.against:
        table.add_row(Text(safe(f"compared with {other.folder}")), str(other.images))
    return table


def _ages_table(description: Description) -> Table:
    columns = ("images", "share", "mean", "SD", "median", "min", "max")
    table = _table("Bone age by sex, months", "sex", *columns)
    for sex, ages in description.ages.items():
        if ages is not None:
            numbers = (ages.mean, ages.sd, ages.median, ages.min, ages.max)
            share = f"{ages.images / description.usable:.1%}"
            table.add_row(sex, str(ages.images), share, *(f"{number:.1f}" for number in numbers))
    return table


def _years_table(description: Description) -> Table:
    table = _table("Bone age by sex, images per year", "years", "female", "male", "", bars=True)
    most = max((count.female + count.male for count in description.ages_by_year), default=1)
    for count in description.ages_by_year:
        bar = "#" * round(BAR * (count.female + count.male) / max(most, 1))
        table.add_row(f"{count.year}-{count.year + 1}", str(count.female), str(count.male), bar)
    return table


def _sizes_table(description: Description) -> Table:
    table = _table("Pixels", "size", "width", "height", "images")
    widths, heights = description.widths, description.heights
    if widths is None or heights is None:
        return table
    for name in ("min", "median", "max"):
        table.add_row(name, f"{getattr(widths, name):g}", f"{getattr(heights, name):g}", "")
    for index, size in enumerate(description.sizes[:5]):
        name = "" if index else f"most common of {len(description.sizes)}"
        table.add_row(name, str(size.width), str(size.height), str(size.images))
    for kind in description.storage:
        depth = f", {kind.bits} bits, {kind.channels} channel" + "s" * (kind.channels != 1)
        table.add_row(kind.format + depth * bool(kind.bits), "", "", str(kind.images))
    return table


def _finding_lines(finding: Finding) -> list[str]:
    lines = [f"{finding.what} ({len(finding.lines)}): {finding.advice}"]
    lines += [f"  {line}" for line in finding.lines[:SHOWN]]
    if len(finding.lines) > SHOWN:
        lines.append(f"  ... and {len(finding.lines) - SHOWN} more; --json lists all")
    return lines
