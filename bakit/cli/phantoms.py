"""``bakit phantoms``."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.cli.options import PATH
from bakit.cli.tables import echo, next_step


@click.command("phantoms")
@click.option("--out", type=PATH, required=True, help="Output folder.")
@click.option("-n", "count", type=click.IntRange(1), required=True, help="Number of radiographs.")
@click.option("--seed", type=int, default=0, help="Random seed.")
@click.option(
    "--height", type=click.IntRange(96, 4000), default=640, help="Image height in pixels."
)
def command(out: Path, count: int, seed: int, height: int) -> None:
    """Generate labelled radiographs: a folder with labels.csv and images/.

    \b
    Example:
      bakit phantoms --out phantoms -n 100
    """
    from bakit.cli.progress import progress
    from bakit.phantoms import write_phantoms

    with progress() as on_progress:
        write_phantoms(out, count, seed=seed, height=height, on_progress=on_progress)
    echo(f"{out}  {count} radiographs")
    next_step(f"bakit bench --data {out} --json report.json")
