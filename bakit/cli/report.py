"""``bakit report``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.bench_tables import page_options
from bakit.cli.tables import echo
from bakit.errors import InputError


@click.command("report")
@click.argument("report", type=click.Path(path_type=Path))
@page_options
def command(report: Path, html_file: Path | None, md_file: Path | None) -> None:
    """Show a REPORT written by bakit bench --json as tables, HTML or Markdown.

    The report of a fleet has a table and Markdown only.

    The bundles are not needed, so the report may come from another machine.

    \b
    Example:
      bakit report report.json
      bakit report report.json --html report.html --md report.md
    """
    from bakit.bench.report.fleet import Fleet, read_report_or_fleet
    from bakit.cli.bench_fleet import show_fleet
    from bakit.cli.bench_tables import check_pages, next_command, print_report, write_pages

    check_pages(html_file, md_file)
    content = read_report_or_fleet(report)
    if isinstance(content, Fleet):
        if html_file is not None:
            message = f"{report}: the report of a fleet has no HTML page; use --md"
            raise InputError(message)
        show_fleet(content, md_file)
        return
    written = write_pages(content, html_file, md_file)
    if not written:
        print_report(content)
        echo(f"next: {next_command(content, str(report))}")
    for path in written:
        echo(f"report: {path}")
