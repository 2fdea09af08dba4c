"""Export for LiteRT, formerly TensorFlow Lite: both networks as ``.tflite`` files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.export.artifact import specs_of
from bakit.export.litert_graph import tflite
from bakit.export.onnx.metadata import properties
from bakit.export.ort import write_models
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from onnx import ModelProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.targets import ExportRequest

METADATA = "bakit"
"""Name of a JSON document in each file: the properties of ``bakit.export.onnx.metadata``."""


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.tflite`` and ``localizer.tflite``.

    Inputs and outputs are float32, and so is the localizer.

    * FP16: the regressor's weights are stored as float16, except the last layer's; the arithmetic
      is float32.
    * INT8: the integers and scales of the target ``onnx``, with which the recipe was searched;
      h-swish, gates and sums are float32. 8-bit weights would move the youngest by a month.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """

    def write(role: Role, graph: ModelProto) -> list[str]:
        data = tflite(
            graph,
            specs_of(role, checkpoint.header),
            f"bakit {role} of {checkpoint.name}; not a medical device",
            {METADATA: msgspec.json.encode(properties(graph), order="deterministic")},
            half=role == "regressor" and request.precision is Precision.FP16,
        )
        (out / f"{role}.tflite").write_bytes(data)
        return [f"{role}.tflite"]

    return write_models(checkpoint, request, out, write)
