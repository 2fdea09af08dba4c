"""The command ``bakit export``: export one checkpoint to several targets."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any

from bakit.errors import InputError
from bakit.export.bundle import check_export, export_bundle
from bakit.hand.weights import Localizer, change, get_localizer
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.settings import LocalizerForm, StudentSettings
from bakit.targets import get_target
from bakit.types import Precision, silent, track

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from bakit.bundle import Bundle
    from bakit.settings import Ranges
    from bakit.types import OnProgress


def export_all(
    checkpoint: Path | None,
    target_names: Sequence[str],
    precisions: Sequence[str],
    out: Path,
    *,
    force: bool = False,
    find_ranges: Callable[[Checkpoint], Ranges] | None = None,
    localizer: str | None = None,
    changes: Mapping[str, Any] | None = None,
    localizer_form: LocalizerForm | None = None,
    whole: bool = False,
    on_progress: OnProgress = silent,
) -> list[Bundle]:
    """Export a checkpoint for each target and precision.

    A bundle is ``out/<checkpoint>-<target>-<precision>``. The checkpoint is called by its file, or
    by its run where the file is the run's best.safetensors or last.safetensors.

    Each target has to support each precision. ``find_ranges`` returns INT8 ranges for the
    checkpoint (``bakit.calib.command.ranges_of``); ranges, localizer and changes are the
    checkpoint's own, and the localizer's form the target's best, when None. ``changes`` are
    settings of the unrolled localizer to change, by name; ``localizer`` is a method or a file
    (``bakit.hand.weights.get_localizer``).

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
    loaded = with_localizer(loaded, localizer, changes or {})
    if localizer_form is not None and isinstance(loaded.header.localizer, StudentSettings):
        message = (
            "--localizer-form is for the unrolled localizer; the student localizer has no SGD "
            "steps; use --localizer unrolled"
        )
        raise InputError(message)
    ranges = find_ranges(loaded) if find_ranges else None
    bundles = [
        (loaded, name, precision, out / f"{loaded.name}-{name}-{precision.value}")
        for name, precision in pairs
    ]
    how: dict[str, Any] = {"ranges": ranges, "whole": whole, "force": force}
    for bundle in bundles:  # all of them can be written, or none is
        check_export(*bundle, **how)
    on_progress("exporting", 0, len(bundles))
    return [
        export_bundle(*bundle, localizer_form=localizer_form, **how)
        for bundle in track(bundles, "exporting", on_progress)
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
