"""Export for OpenVINO: our ONNX models as its IR, an ``.xml`` with the weights in a ``.bin``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from bakit.backends.openvino import openvino
from bakit.export.artifact import artifact
from bakit.export.ort import onnx_models
from bakit.targets import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.checkpoint import Checkpoint
    from bakit.targets import ExportRequest


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.xml``, ``localizer.xml`` and a ``.bin`` beside each.

    The localizer stays float32: 50 steps of descent would not survive less.

    * FP16: the regressor's weights are stored as float16. What it is computed in is up to the CPU:
      float16 where it has that, else float32.
    * INT8: the quantize-dequantize model of the target ``onnx``, with the same 7-bit weights.

    Raises:
        CheckpointError: If INT8 is asked for and the ranges are another model's.
    """
    core = openvino.Core()
    artifacts = []
    for role, data in onnx_models(checkpoint, request).items():
        # Not openvino.convert_model: it reads the same, and writes its call into the file.
        model = core.read_model(data)
        _name_nodes(model)
        half = role == "regressor" and request.precision is Precision.FP16
        name, weights = f"{role}.xml", f"{role}.bin"
        openvino.save_model(model, str(out / name), compress_to_fp16=half)
        artifacts.append(artifact(role, out, name, checkpoint.header, (weights,)))
    return artifacts


def _name_nodes(model: Any, prefix: str = "") -> None:  # noqa: ANN401  # OpenVINO has no types
    """Name by their place the nodes that have no name of ours.

    OpenVINO numbers them through all models of a process: a second export would be other bytes.
    """
    for index, node in enumerate(model.get_ordered_ops()):
        if node.get_friendly_name() == node.get_name():
            node.set_friendly_name(f"{prefix}{node.get_type_name()}:{index}")
        if hasattr(node, "get_function"):  # a loop's body
            _name_nodes(node.get_function(), f"{node.get_friendly_name()}/")
