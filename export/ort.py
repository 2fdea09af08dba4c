"""Export for ONNX Runtime: float32, or INT8 as quantize-dequantize pairs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.errors import CheckpointError
from bakit.export.artifact import artifact
from bakit.export.onnx.int8 import CPU, int8_share, quantize
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.writer import serialize
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.export.onnx.int8 import Dialect
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.targets import ExportRequest


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.onnx`` and ``localizer.onnx``.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    artifacts = []
    for role, graph in onnx_models(checkpoint, request).items():
        name = f"{role}.onnx"
        (out / name).write_bytes(serialize(graph))
        share = int8_share(graph) if role == "regressor" else 0.0
        artifacts.append(artifact(role, out, name, checkpoint.header, share))
    return artifacts


def onnx_models(
    checkpoint: Checkpoint, request: ExportRequest, dialect: Dialect = CPU
) -> dict[Role, ModelProto]:
    """Return both models as ONNX, the regressor quantized if the request is for INT8.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    regressor = regressor_model(checkpoint)
    if request.precision is Precision.INT8:
        regressor = quantize(regressor, checked_ranges(checkpoint, request), dialect)
    settings = checkpoint.header.localizer
    localizer = localizer_model(checkpoint.localizer, settings, request.localizer_form)
    return {"localizer": localizer, "regressor": regressor}


def checked_ranges(checkpoint: Checkpoint, request: ExportRequest) -> Ranges:
    """Return the ranges of a request for INT8.

    Raises:
        CheckpointError: If they belong to another checkpoint.
    """
    if request.ranges is None:  # a bug of the caller: bakit.export always passes them
        message = "INT8 needs activation ranges"
        raise ValueError(message)
    if request.ranges.weights_sha256 != checkpoint.weights_sha256:
        message = "the INT8 ranges belong to another checkpoint; calibrate this one"
        raise CheckpointError(message)
    return request.ranges
