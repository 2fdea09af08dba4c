"""``bakit calibrate``."""

from __future__ import annotations

from pathlib import Path

import click


@click.command("calibrate")
@click.argument(
    "paths",
    nargs=-1,
    required=True,
    type=click.Path(path_type=Path),
    metavar="[CHECKPOINT] DATA",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default="ranges.json",
    show_default=True,
    help="File to write.",
)
@click.option(
    "--samples", type=click.IntRange(32), default=256, show_default=True, help="Images to use."
)
@click.option(
    "--all-images",
    is_flag=True,
    help="Use any image of DATA, for a folder that shares none with the training data.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice.")
@click.option(
    "--method",
    type=click.Choice(["tails", "percentile-99.99", "percentile-99.9", "mse", "entropy", "minmax"]),
    default="tails",
    show_default=True,
    help="How a range is made of what is seen of an activation.",
)
def command(
    paths: tuple[Path, ...],
    out: Path,
    samples: int,
    seed: int,
    method: str,
    *,
    all_images: bool,
) -> None:
    """Gather INT8 activation ranges on the training part of a labelled folder.

    CHECKPOINT defaults to the one that comes with bakit.

    \b
    Example:
      bakit calibrate run/best.safetensors radiographs/ --out ranges.json
      bakit export run/best.safetensors --target onnx --int8 --calibration ranges.json
    """
    from bakit.cli.progress import progress
    from bakit.export.calibration import calibrate_file

    if len(paths) > 2:
        message = f"unexpected argument {str(paths[2])!r}"
        raise click.UsageError(message)
    checkpoint = paths[0] if len(paths) == 2 else None
    with progress("images", samples) as on_done:
        ranges = calibrate_file(
            checkpoint,
            paths[-1],
            out,
            count=samples,
            seed=seed,
            method=method,
            all_images=all_images,
            on_done=on_done,
        )
    click.echo(f"{out}  {len(ranges.tensors)} tensors, {ranges.samples} images")
