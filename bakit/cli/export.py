"""``bakit export``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import (
    BUNDLES,
    PATH,
    PRECISIONS,
    TARGETS,
    localizer_changes,
    localizer_options,
    several,
)
from bakit.cli.tables import echo, hint, next_step
from bakit.errors import MissingBackendError, UnsupportedTargetError
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import LocalizerForm, Ranges

_FORMATS = {
    "fp32": "float32, the default.",
    "fp16": "float16.",
    "int8": "INT8; sensitive layers stay float.",
    "int8-weights": "8-bit weights with float16 arithmetic; needs no ranges (Core ML).",
}


_short_options = several(
    *[click.option(f"--{name}", is_flag=True, help=text) for name, text in _FORMATS.items()]
)
"""``--fp32`` and so on, each short for ``--precision`` with one value."""


@click.command("export")
@click.argument("checkpoint", required=False, type=PATH)
@click.option(
    "--target",
    "targets",
    type=TARGETS,
    multiple=True,
    required=True,
    metavar="NAME,...",
    help="Targets (bakit targets); repeatable.",
)
@click.option(
    "--precision",
    "precisions",
    type=PRECISIONS,
    metavar="NAME,...",
    help=f"Precisions: {', '.join(_FORMATS)}; several write a bundle each.",
)
@_short_options
@click.option(
    "--calibration",
    type=PATH,
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
@click.option(
    "--whole",
    is_flag=True,
    help="Write a third model, from a film's grey values to months, for apps (onnx, openvino).",
)
@localizer_options
@click.option(
    "--out",
    type=PATH,
    default=BUNDLES,
    help="Output folder, with one bundle per target and precision.",
)
@click.option("--force", is_flag=True, help="Replace bundles of other checkpoints.")
def command(
    checkpoint: Path | None,
    targets: tuple[tuple[str, ...], ...],
    precisions: tuple[str, ...] | None,
    calibration: Path | None,
    localizer: str | None,
    localizer_form: LocalizerForm | None,
    out: Path,
    *,
    whole: bool,
    force: bool,
    **options: Any,  # noqa: ANN401  # of localizer_options
) -> None:
    """Turn a float checkpoint into bundles for targets.

    CHECKPOINT defaults to the shipped one. A bundle is OUT/CHECKPOINT-TARGET-PRECISION; for
    run/best.safetensors, OUT/run-TARGET-PRECISION.

    \b
    Example:
      bakit export --target onnx --whole
      bakit export --target onnx --precision fp32,int8
      bakit export --target openvino --localizer unrolled --steps 20
      bakit export run/best.safetensors --target onnx --int8 --calibration DATA
    """
    from bakit.cli.progress import progress
    from bakit.export.command import export_all

    def find_ranges(loaded: Checkpoint) -> Ranges:
        from bakit.calib.command import ranges_of

        assert calibration is not None
        return ranges_of(loaded, calibration, on_progress)

    short = [name for name in _FORMATS if options.pop(name.replace("-", "_"))]
    names = list(dict.fromkeys(name for group in targets for name in group))
    with progress() as on_progress:
        bundles = export_all(
            checkpoint,
            names,
            [*(precisions or ()), *short] or [Precision.FP32.value],
            out,
            force=force,
            find_ranges=None if calibration is None else find_ranges,
            localizer=localizer,
            changes=localizer_changes(options),
            localizer_form=localizer_form,
            whole=whole,
            on_progress=on_progress,
        )
    for bundle in bundles:
        share = bundle.artifact("regressor").int8_share
        int8 = f"  INT8: {share:.1%} of the multiply-adds" if share else ""
        echo(f"{bundle.root}  {bundle.size_bytes / 1e6:.1f} MB{int8}")
    for name in names:
        if note := get_target(name).note:
            hint(f"note: {name}: {note}")
    roots = [bundle.root for bundle in bundles]
    if len(roots) > 1:
        named = () if str(out) == BUNDLES else roots
        next_step("bakit bench", *named, "--data DATA --json report.json")
        return
    target = get_target(names[0])
    try:
        get_target(names[0] if target.runs_here else target.reference).check_runs()
        next_step("bakit verify", roots[0])
    except (MissingBackendError, UnsupportedTargetError):  # it runs on a device only
        next_step("bakit check", roots[0], "--profile NAME   (bakit check --list)")
