"""``bakit report`` and ``bakit evidence``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.bench_tables import page_options
from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step, safe


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


@click.command("evidence")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
def evidence_command(files: tuple[Path, ...]) -> None:
    """Print what boards measured, as a Markdown table: one line for each engine.

    The files come from a kit (bakit bench --kit) and are written on the board by: python3
    bakit-kit/agent.py evidence

    Exit status: 0 done, 2 a file is not an evidence file.

    \b
    Example:
      bakit evidence evidence-Jetson-Orin-Nano-L4T-36.4.3.json.gz
    """
    from bakit.bench.device.evidence import read_evidence, rows, table

    lines = [line for file in files for line in rows(read_evidence(file))]
    echo("\n".join(map(safe, table(lines).splitlines())))
    next_step("bakit bench BUNDLE --host user@device --data DATA --reference FLOAT")
