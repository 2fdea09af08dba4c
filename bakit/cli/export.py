"""``bakit export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.localizer_options import localizer_changes, localizer_options
from bakit.cli.paths import BUNDLES
from bakit.cli.tables import echo

if TYPE_CHECKING:
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import LocalizerForm, Ranges


@click.command("export")
@click.argument("checkpoint", required=False, type=click.Path(path_type=Path))
@click.option("--target", "targets", multiple=True, required=True, help="A target; repeatable.")
@click.option("--fp32", "precision", flag_value="fp32", default=True, help="float32 (default).")
@click.option("--fp16", "precision", flag_value="fp16", help="float16.")
@click.option("--int8", "precision", flag_value="int8", help="INT8; sensitive layers stay float.")
@click.option(
    "--int8-weights",
    "precision",
    flag_value="int8-weights",
    help="8-bit weights with float16 arithmetic; needs no ranges (Core ML).",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path),
    help="INT8 ranges: a ranges.json of bakit calibrate, or a labelled folder, whose training "
    "split is used. Default: the ranges stored in the checkpoint.",
)
@click.option(
    "--localizer",
    metavar="METHOD|FILE",
    help="Localizer: student, unrolled, or a file of bakit distill. Default: the checkpoint's.",
)
@click.option(
    "--localizer-form",
    type=click.Choice(["loop", "unrolled", "winograd"]),
    help="SGD steps of the unrolled localizer: an ONNX Loop, unrolled, or a Loop with Winograd "
    "convolutions. Default: winograd, the fastest.",
)
@localizer_options
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    default=BUNDLES,
    show_default=True,
    help="Output folder, with one bundle per target.",
)
def command(
    checkpoint: Path | None,
    targets: tuple[str, ...],
    precision: str,
    calibration: Path | None,
    localizer: str | None,
    localizer_form: LocalizerForm | None,
    out: Path,
    **options: Any,  # noqa: ANN401  # of localizer_options
) -> None:
    """Turn a float checkpoint into a bundle for a target.

    CHECKPOINT defaults to the shipped one.

    \b
    Example:
      bakit export --target onnx --int8
      bakit export --target openvino --localizer unrolled --steps 20
      bakit export run/best.safetensors --target onnx --int8 --calibration radiographs/
    """
    from bakit.cli.progress import progress
    from bakit.export.command import export_all

    def find_ranges(loaded: Checkpoint) -> Ranges:
        from bakit.calib.command import ranges_of

        assert calibration is not None
        with progress() as on_progress:
            return ranges_of(loaded, calibration, on_progress)

    bundles = export_all(
        checkpoint,
        targets,
        precision,
        out,
        find_ranges=None if calibration is None else find_ranges,
        localizer=localizer,
        changes=localizer_changes(options),
        localizer_form=localizer_form,
    )
    for bundle in bundles:
        share = bundle.artifact("regressor").int8_share
        int8 = f"  INT8: {share:.1%} of the multiply-adds" if share else ""
        echo(f"{bundle.root}  {bundle.size_bytes / 1e6:.1f} MB{int8}")
