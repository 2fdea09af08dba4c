"""Export for torch: the float checkpoint itself, the reference that drift is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.checkpoint import Checkpoint
from bakit.errors import InputError
from bakit.export.artifact import artifact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact, Role
    from bakit.targets import ExportRequest

FILE = "checkpoint.safetensors"


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Copy the checkpoint; both models are read from it.

    Raises:
        InputError: If the localizer's settings were changed for this export.
    """
    del request
    data = checkpoint.path.read_bytes()
    if Checkpoint.read(checkpoint.path).header.localizer != checkpoint.header.localizer:
        message = "target 'torch' runs the checkpoint as it is: export it without --steps"
        raise InputError(message)
    (out / FILE).write_bytes(data)
    roles: tuple[Role, ...] = ("localizer", "regressor")
    return [artifact(role, out, FILE, checkpoint.header) for role in roles]
