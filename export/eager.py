"""Export for torch: the float checkpoint itself, the reference of drift."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.errors import InputError
from bakit.export.artifact import artifact
from bakit.model.checkpoint import Checkpoint

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact, Role
    from bakit.targets import ExportRequest

FILE = "checkpoint.safetensors"


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Copy the checkpoint file, which contains both models.

    Raises:
        InputError: If the localizer was changed for this export.
    """
    del request
    stored = Checkpoint.read(checkpoint.path)
    same = stored.header.localizer == checkpoint.header.localizer and all(
        np.array_equal(stored.localizer[name], value)
        for name, value in checkpoint.localizer.items()
    )
    if not same:
        message = (
            "target 'torch' runs the unchanged checkpoint; export it without --localizer and "
            "without options of the localizer"
        )
        raise InputError(message)
    (out / FILE).write_bytes(checkpoint.path.read_bytes())
    roles: tuple[Role, ...] = ("localizer", "regressor")
    return [artifact(role, out, FILE, checkpoint.header) for role in roles]
