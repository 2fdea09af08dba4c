"""Export for torch: the float checkpoint itself, the reference that drift is measured against."""

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
    """Copy the checkpoint; both models are read from it.

    Raises:
        InputError: If the localizer was changed for this export.
    """
    del request
    data = checkpoint.path.read_bytes()
    stored = Checkpoint.read(checkpoint.path)
    same = stored.header.localizer == checkpoint.header.localizer and all(
        np.array_equal(stored.localizer[name], value)
        for name, value in checkpoint.localizer.items()
    )
    if not same:
        message = (
            "target 'torch' runs the checkpoint as it is: export it without --localizer and its "
            "numbers"
        )
        raise InputError(message)
    (out / FILE).write_bytes(data)
    roles: tuple[Role, ...] = ("localizer", "regressor")
    return [artifact(role, out, FILE, checkpoint.header) for role in roles]
