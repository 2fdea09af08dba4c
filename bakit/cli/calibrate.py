"""``bakit calibrate``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("calibrate")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.argument("data", type=click.Path(path_type=Path))
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="ranges.json",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--samples", type=click.IntRange(1), default=256, show_default=True, help="Images to use."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice.")
def command(checkpoint: Path, data: Path, out: Path, samples: int, seed: int) -> None:
    """Gather INT8 activation ranges on the training part of a labelled folder.

    \b
    Example:
      bakit calibrate run/best.safetensors radiographs/ --out ranges.json
      bakit export run/best.safetensors --target onnx --int8 --calibration ranges.json
    """
    from bakit.cli.progress import progress
    from bakit.export.calibration import calibrate_file

    with progress("images", samples) as on_done:
        ranges = calibrate_file(checkpoint, data, out, count=samples, seed=seed, on_done=on_done)
    click.echo(f"{out}  {len(ranges.tensors)} tensors, {ranges.samples} images")
