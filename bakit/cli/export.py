"""``bakit export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakit.cli.paths import BUNDLES

if TYPE_CHECKING:
    from bakit.settings import LocalizerForm


@click.command("export")
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option(
    "--target", "targets", multiple=True, required=True, help="A target; may be given again."
)
@click.option("--fp32", "precision", flag_value="fp32", default=True, help="float32 (default).")
@click.option("--fp16", "precision", flag_value="fp16", help="float16.")
@click.option("--int8", "precision", flag_value="int8", help="INT8 backbone, float head.")
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="Labelled folder whose training part gives the INT8 ranges, or a ranges.json of "
    "bakit calibrate. Default: the ranges that the checkpoint carries.",
)
@click.option(
    "--localizer-form",
    type=click.Choice(["loop", "unrolled", "winograd"]),
    default="loop",
    show_default=True,
    help="The localizer's SGD steps as one Loop, each spelled out, or as a Loop of fewer "
    "products, faster the more channels there are.",
)
@click.option("--steps", type=click.IntRange(1, 1000), help="SGD steps of the localizer.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=BUNDLES,
    show_default=True,
    help="Folder that gets one bundle a target.",
)
def command(
    checkpoint: Path | None,
    targets: tuple[str, ...],
    precision: str,
    calibration: Path | None,
    localizer_form: LocalizerForm,
    steps: int | None,
    out: Path,
) -> None:
    """Turn a float checkpoint into a bundle for a target.

    CHECKPOINT defaults to the one that comes with bakit.

    \b
    Example:
      bakit export --target onnx --int8
      bakit export run/best.safetensors --target onnx --int8 --calibration radiographs/
    """
    from bakit.cli.progress import progress
    from bakit.export.command import export_all

    with progress("calibrating") as on_done:
        bundles = export_all(
            checkpoint,
            targets,
            precision,
            out,
            calibration=calibration,
            localizer_form=localizer_form,
            steps=steps,
            on_done=on_done,
        )
    for bundle in bundles:
        click.echo(f"{bundle.root}  {bundle.size_bytes / 1e6:.1f} MB")
