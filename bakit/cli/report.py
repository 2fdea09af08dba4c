"""``bakit report``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.bench_tables import page_options
from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step


@click.command("report")
@click.argument("report", type=PATH)
@page_options
def command(report: Path, html_file: Path | None, md_file: Path | None) -> None:
    """Show a REPORT written by bakit bench --json as tables, HTML or Markdown.

    The bundles are not needed, so the report may come from another machine.

    \b
    Example:
      bakit report report.json
      bakit report report.json --html report.html --md report.md
    """
    from bakit.bench import read_report
    from bakit.cli.bench_tables import check_pages, next_command, print_report, write_pages

    check_pages(html_file, md_file)
    content = read_report(report)
    written = write_pages(content, html_file, md_file)
    if not written:
        print_report(content)
    for path in written:
        echo(f"report: {path}")
    next_step(next_command(content, str(report)))
