"""The command ``bakit export``: export one checkpoint to several targets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakit.errors import InputError
from bakit.export.bundle import export_bundle
from bakit.hand.weights import Localizer, change, get_localizer
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.settings import LocalizerForm, StudentSettings
from bakit.targets import get_target
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.settings import Ranges


def export_all(
    checkpoint: Path | None,
    target_names: Sequence[str],
    precision: str,
    out: Path,
    *,
    find_ranges: Callable[[Checkpoint], Ranges] | None = None,
    localizer: str | None = None,
    changes: Mapping[str, Any] | None = None,
    localizer_form: LocalizerForm | None = None,
) -> list[Bundle]:
    """Export a checkpoint for each target into ``out/<checkpoint>-<target>-<precision>``.

    Args:
        checkpoint: File of the float checkpoint; the shipped one when None.
        target_names: Names of targets; unknown names are rejected before files are written.
        precision: A value of ``bakit.settings.Precision``.
        out: Output folder.
        find_ranges: Returns INT8 ranges for the checkpoint (``bakit.calib.command.ranges_of``);
            the checkpoint's own when None.
        localizer: A localizer's method or file (``bakit.hand.weights.get_localizer``); the
            checkpoint's own when None.
        changes: Settings of the unrolled localizer to change, by name.
        localizer_form: ``loop``, ``unrolled`` or ``winograd``; the target's best when None.

    Raises:
        BakitError: If an argument is not possible or an export fails.
    """
    for name in target_names:
        get_target(name)
    if find_ranges is not None and precision != Precision.INT8.value:
        message = "--calibration needs --int8"
        raise InputError(message)
    loaded = Checkpoint.read(checkpoint or SHIPPED)
    loaded = with_localizer(loaded, localizer, changes or {})
    if localizer_form is not None and isinstance(loaded.header.localizer, StudentSettings):
        message = (
            "--localizer-form is for the unrolled localizer; the student localizer has no SGD "
            "steps; use --localizer unrolled"
        )
        raise InputError(message)
    ranges = find_ranges(loaded) if find_ranges else None
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


def with_localizer(
    checkpoint: Checkpoint, source: str | None, changes: Mapping[str, Any]
) -> Checkpoint:
    """Return a checkpoint with the localizer ``source`` (a method or file) or other settings.

    Raises:
        InputError: If the localizer has no such settings.
    """
    found = Localizer(checkpoint.header.localizer, checkpoint.localizer, "")
    if source is not None:
        found = get_localizer(source)
    return checkpoint.with_localizer(change(found, changes))
