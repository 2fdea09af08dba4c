"""The command ``bakit export``: export one checkpoint to several targets."""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError
from bakit.export.bundle import export_bundle
from bakit.hand.unrolled import initial_weights
from bakit.hand.weights import Localizer, fits, get_localizer
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.settings import LocalizerForm, StudentSettings
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.settings import Ranges

TAKES_NO_STEPS = (
    "the student localizer of this checkpoint has no SGD steps; use --localizer unrolled"
)

OPTIONS = {"size": "working-size"}
"""Option names that differ from the setting's."""


def export_all(
    checkpoint: Path | None,
    target_names: Sequence[str],
    precisions: Sequence[str],
    out: Path,
    *,
    force: bool = False,
    find_ranges: Callable[[Checkpoint], Ranges] | None = None,
    localizer: str | None = None,
    numbers: Mapping[str, float] | None = None,
    localizer_form: LocalizerForm | None = None,
) -> list[Bundle]:
    """Export a checkpoint for each target and precision.

    A bundle is ``out/<checkpoint>-<target>-<precision>``. The checkpoint is called by its file, or
    by its run where the file is the run's best.safetensors or last.safetensors.

    Args:
        checkpoint: File of the float checkpoint; the shipped one when None.
        target_names: Names of targets. Each has to support each precision.
        precisions: Values of ``bakit.types.Precision``.
        out: Output folder.
        force: Whether to replace bundles of other checkpoints.
        find_ranges: Returns INT8 ranges for the checkpoint (``bakit.calib.command.ranges_of``);
            the checkpoint's own when None.
        localizer: A localizer's method or file (``bakit.hand.weights.get_localizer``); the
            checkpoint's own when None.
        numbers: Settings of the unrolled localizer to change, by name.
        localizer_form: ``loop``, ``unrolled`` or ``winograd``; the target's best when None.

    Raises:
        BakitError: If an argument is not possible or an export fails.
    """
    pairs = list(dict.fromkeys(product(target_names, map(Precision, precisions))))
    for name, precision in pairs:
        get_target(name).check_precision(precision)
    if find_ranges is not None and Precision.INT8.value not in precisions:
        message = "--calibration needs --precision int8"
        raise InputError(message)
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    loaded = with_localizer(loaded, localizer, numbers or {})
    if localizer_form is not None and isinstance(loaded.header.localizer, StudentSettings):
        message = f"--localizer-form is for the unrolled localizer; {TAKES_NO_STEPS}"
        raise InputError(message)
    ranges = find_ranges(loaded) if find_ranges else None
    return [
        export_bundle(
            loaded,
            name,
            precision,
            out / f"{loaded.name}-{name}-{precision.value}",
            ranges=ranges,
            localizer_form=localizer_form,
            force=force,
        )
        for name, precision in pairs
    ]


def with_localizer(
    checkpoint: Checkpoint, source: str | None, numbers: Mapping[str, float]
) -> Checkpoint:
    """Return a checkpoint with the localizer ``source`` (a method or file) or other settings.

    If ``numbers`` changes the shapes of the weights, new initial weights are drawn.

    Raises:
        InputError: If the localizer has no such settings.
    """
    found = Localizer(checkpoint.header.localizer, checkpoint.localizer, "")
    if source is not None:
        found = get_localizer(source)
    if not numbers:
        return checkpoint.with_localizer(found)
    given = ", ".join("--" + OPTIONS.get(name, name) for name in numbers)
    if isinstance(found.settings, StudentSettings):
        message = f"{given}: {TAKES_NO_STEPS}"
        raise InputError(message)
    if not all(math.isfinite(value) for value in numbers.values()):
        message = f"{given}: not a finite number"
        raise InputError(message)
    settings = msgspec.structs.replace(found.settings, **numbers)
    weights = found.weights
    if not fits(settings, weights):
        weights = initial_weights(settings)
    return checkpoint.with_localizer(Localizer(settings, weights, found.origin))
