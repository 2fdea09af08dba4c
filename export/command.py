"""What ``bakit export`` does: one checkpoint to several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.calib.ranges import read_ranges
from bakit.checkpoint import SHIPPED, Checkpoint
from bakit.errors import InputError
from bakit.export.bundle import export_bundle
from bakit.export.calibration import calibrate
from bakit.settings import StudentSettings
from bakit.targets import Precision, get_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.settings import LocalizerForm


def export_all(
    checkpoint: Path | None,
    target_names: Sequence[str],
    precision: str,
    out: Path,
    *,
    calibration: Path | None = None,
    localizer_form: LocalizerForm = "loop",
    steps: int | None = None,
    on_done: Callable[[int], None] = lambda _: None,
) -> list[Bundle]:
    """Export a checkpoint for each target into ``out/<checkpoint>-<target>-<precision>``.

    Args:
        checkpoint: The float checkpoint's file; the shipped one when None.
        target_names: Names of targets; all are known before anything is written.
        precision: ``fp32``, ``fp16`` or ``int8``.
        out: Folder of the bundles.
        calibration: Labelled folder or ranges file for INT8; the checkpoint's ranges when None.
        localizer_form: ``loop``, ``unrolled`` or ``winograd``.
        steps: SGD steps of the localizer; the checkpoint's when None.
        on_done: Called with the number of calibration images done since the last call.

    Raises:
        BakitError: If something asked for cannot be had.
    """
    for name in target_names:
        get_target(name)
    if calibration is not None and precision != Precision.INT8.value:
        message = "--calibration is for --int8"
        raise InputError(message)
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    if isinstance(loaded.header.localizer, StudentSettings) and (
        steps is not None or localizer_form != "loop"
    ):
        message = (
            f"{loaded.path}: its localizer is the student, which takes no steps on the image: "
            "export it without --steps and --localizer-form, or train with --localizer unrolled"
        )
        raise InputError(message)
    if steps is not None:
        settings = msgspec.structs.replace(loaded.header.localizer, steps=steps)
        loaded = loaded.with_header(localizer=settings)
    ranges = None
    if calibration is not None:
        ranges = (
            calibrate(loaded, calibration, on_done=on_done)
            if calibration.is_dir()
            else read_ranges(calibration)
        )
    return [
        export_bundle(
            loaded,
            name,
            Precision(precision),
            out / f"{loaded.name}-{name}-{precision}",
            ranges=ranges,
            localizer_form=localizer_form,
        )
        for name in dict.fromkeys(target_names)
    ]
