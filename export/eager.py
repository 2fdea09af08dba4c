"""Export for torch: the float checkpoint itself, the reference that drift is measured against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bundle import Artifact
from bakit.files import sha256
from bakit.tensors import (
    localizer_inputs,
    localizer_outputs,
    regressor_inputs,
    regressor_outputs,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

FILE = "checkpoint.safetensors"


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Copy the checkpoint; both models are read from it."""
    del request
    data = checkpoint.path.read_bytes()
    (out / FILE).write_bytes(data)
    header, digest = checkpoint.header, sha256(data)
    return (
        Artifact(
            "localizer",
            FILE,
            digest,
            localizer_inputs(header.localizer),
            localizer_outputs(header.localizer),
        ),
        Artifact(
            "regressor",
            FILE,
            digest,
            regressor_inputs(header.architecture, header.preprocessing),
            regressor_outputs(),
        ),
    )
