"""Export for ONNX Runtime: float32, or INT8 as quantize-dequantize pairs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bakit.errors import CheckpointError
from bakit.export.artifact import artifact
from bakit.export.onnx.int8 import CPU, int8_share, quantize, quantize_weights
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.metadata import describe, metadata
from bakit.export.onnx.regressor import regressor_model
from bakit.export.onnx.whole import whole_model
from bakit.export.onnx.writer import serialize
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.export.onnx.int8 import Dialect
    from bakit.model.checkpoint import Checkpoint
    from bakit.settings import Ranges
    from bakit.targets import ExportRequest


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.onnx`` and ``localizer.onnx``, and ``whole.onnx`` if it is requested.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    return write_models(checkpoint, request, out, partial(write_onnx, out))


def write_onnx(out: Path, role: Role, graph: ModelProto) -> list[str]:
    """Write a model's file into a folder; return its name."""
    name = f"{role}.onnx"
    (out / name).write_bytes(serialize(graph))
    return [name]


def write_models(
    checkpoint: Checkpoint,
    request: ExportRequest,
    out: Path,
    write: Callable[[Role, ModelProto], Sequence[str]],
    dialect: Dialect = CPU,
) -> list[Artifact]:
    """Write the models of ``onnx_models``; return their entries in the manifest.

    ``write`` gets a model and returns its files' paths inside ``out``, the one to open first.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    models = onnx_models(checkpoint, request, dialect)
    share = int8_share(models["regressor"])
    artifacts = []
    for role, graph in models.items():
        first, *others = write(role, graph)
        own_share = 0.0 if role == "localizer" else share
        artifacts.append(artifact(role, out, first, checkpoint.header, own_share, tuple(others)))
    return artifacts


def onnx_models(
    checkpoint: Checkpoint, request: ExportRequest, dialect: Dialect = CPU
) -> dict[Role, ModelProto]:
    """Return the models as ONNX, the regressor quantized as the request asks.

    With INT8, its form is ``dialect``.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """
    regressor = regressor_model(checkpoint)
    if request.precision is Precision.INT8:
        regressor = quantize(regressor, checked_ranges(checkpoint, request), dialect)
    elif request.precision is Precision.INT8_WEIGHTS:
        regressor = quantize_weights(regressor)
    settings = checkpoint.header.localizer
    localizer = localizer_model(checkpoint.localizer, settings, request.localizer_form)
    models: dict[Role, ModelProto] = {"localizer": localizer, "regressor": regressor}
    if request.whole:
        models["whole"] = whole_model(checkpoint.header, localizer, regressor)
    precisions = dict.fromkeys(models, request.precision) | {"localizer": Precision.FP32}
    return {
        role: describe(model, metadata(checkpoint, role, precisions[role]))
        for role, model in models.items()
    }


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
