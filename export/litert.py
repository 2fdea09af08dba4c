"""Export for LiteRT, formerly TensorFlow Lite: both networks as ``.tflite`` files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.export.artifact import artifact, specs_of
from bakit.export.litert_graph import tflite
from bakit.export.onnx.int8 import int8_share
from bakit.export.ort import onnx_models
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact
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
    header = checkpoint.header
    artifacts = []
    for role, graph in onnx_models(checkpoint, request).items():
        is_regressor = role == "regressor"
        specs = specs_of(role, header)
        about = {item.key: item.value for item in graph.metadata_props}
        data = tflite(
            graph,
            specs,
            f"bakit {role} of {checkpoint.name}; not a medical device",
            {METADATA: msgspec.json.encode(about, order="deterministic")},
            half=is_regressor and request.precision is Precision.FP16,
        )
        name = f"{role}.tflite"
        (out / name).write_bytes(data)
        share = int8_share(graph) if is_regressor else 0.0
        artifacts.append(artifact(role, out, name, header, share))
    return artifacts
