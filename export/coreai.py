"""Export for Core AI, Core ML's successor from iOS 27 and macOS 27: ``.aimodel`` folders. Beta.

The bytes of ``main.mlirb`` differ between processes: Core AI names constants by seeded hashes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import coreai_onnx

from bakit.backends.coreai import ABOUT, FILES
from bakit.export.artifact import artifact
from bakit.export.onnx.int8 import FLOAT_BIASES, int8_share
from bakit.export.ort import onnx_models

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.aimodel`` and ``localizer.aimodel``, which is float32.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    artifacts = []
    for role, graph in onnx_models(checkpoint, request, FLOAT_BIASES).items():
        package = out / f"{role}.aimodel"
        coreai_onnx.convert(graph).save_asset(package)
        about = (package / ABOUT).read_text()  # without the time: an export is repeatable
        (package / ABOUT).write_text(re.sub(r"\d{8}T\d{6}Z", "19700101T000000Z", about))
        share = int8_share(graph) if role == "regressor" else 0.0
        first, *others = (f"{package.name}/{name}" for name in FILES)
        artifacts.append(artifact(role, out, first, checkpoint.header, share, tuple(others)))
    return artifacts
