"""``bakit evidence``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.options import PATH


@click.command("evidence")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
def command(files: tuple[Path, ...]) -> None:
    """Print what boards measured, as a Markdown table: one line for each engine.

    The files come from a kit (bakit bench --kit) and are written on the board by: python3
    bakit-kit/agent.py evidence

    Exit status: 0 done, 2 a file is not an evidence file.

    \b
    Example:
      bakit evidence evidence-Jetson-Orin-Nano-L4T-36.4.3.json.gz
    """
    from bakit.bench.device.evidence import read_evidence, rows, table
    from bakit.cli.tables import echo, next_step, safe

    lines = [line for file in files for line in rows(read_evidence(file))]
    echo("\n".join(map(safe, table(lines).splitlines())))
    next_step("bakit bench BUNDLE --host user@device --data DATA --reference FLOAT")
