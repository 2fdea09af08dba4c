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
    "--samples", type=click.IntRange(1), default=256, show_default=True, help="Images to use."
)
@click.option(
    "--all-images",
    is_flag=True,
    help="Use any image of DATA, for a folder that shares none with the training data.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the choice.")
def command(
    paths: tuple[Path, ...], out: Path, samples: int, seed: int, *, all_images: bool
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
            all_images=all_images,
            on_done=on_done,
        )
    click.echo(f"{out}  {len(ranges.tensors)} tensors, {ranges.samples} images")
