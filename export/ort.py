"""Export for ONNX Runtime: float32, or INT8 as quantize-dequantize pairs."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from bakit.errors import CheckpointError
from bakit.export.artifact import artifact
from bakit.export.onnx_graph import early_nodes, head_nodes, regressor_model, squeeze_nodes
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import check_profile, serialize, sort_nodes, strip_opset_imports
from bakit.targets import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bundle import Artifact, Role
    from bakit.checkpoint import Checkpoint, Ranges
    from bakit.targets import ExportRequest

REDUCE_RANGE = True
"""Weights of 7 bits: AVX2 without VNNI adds pairs of products in 16 bits, and 8-bit weights
saturate there without a word. Seven bits cannot, on any processor."""


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.onnx`` and ``localizer.onnx``.

    Raises:
        CheckpointError: If INT8 is asked for and the ranges are another model's.
    """
    artifacts = []
    for role, data in onnx_models(checkpoint, request).items():
        name = f"{role}.onnx"
        (out / name).write_bytes(data)
        artifacts.append(artifact(role, out, name, checkpoint.header))
    return artifacts


def onnx_models(checkpoint: Checkpoint, request: ExportRequest) -> dict[Role, bytes]:
    """Return both models as ONNX: quantized where INT8 is asked for, else in float32.

    Raises:
        CheckpointError: If INT8 is asked for and the ranges are another model's.
    """
    regressor = regressor_model(checkpoint)
    if request.precision is Precision.INT8:
        if request.ranges is None:  # the caller's mistake: bakit.export always passes them
            message = "INT8 needs activation ranges"
            raise ValueError(message)
        if request.ranges.weights_sha256 != checkpoint.weights_sha256:
            message = "the INT8 ranges are another checkpoint's; calibrate this one"
            raise CheckpointError(message)
        regressor = quantize(regressor, request.ranges)
    settings = checkpoint.header.localizer
    localizer = localizer_model(checkpoint.localizer, settings, request.localizer_form)
    return {"localizer": serialize(localizer), "regressor": serialize(regressor)}


def quantize(model: onnx.ModelProto, ranges: Ranges) -> onnx.ModelProto:
    """Return the model with its backbone in INT8.

    Weights are symmetric INT8 per output channel, activations UINT8 per tensor. The head, the sex
    branch, squeeze-and-excitation, h-swish's product and everything up to the first block stay
    float: a sixth of the multiply-adds at 96 pixels, and most of the error.

    Raises:
        CheckpointError: If a range is missing: the ranges are another model's.
    """
    wanted = {name for node in model.graph.node for name in (*node.input, *node.output)}
    wanted -= {item.name for item in model.graph.initializer}
    missing = sorted(wanted - set(ranges.tensors) - {"sex"})
    if missing:
        message = f"the INT8 ranges are another model's: none for {missing[0]!r}; calibrate again"
        raise CheckpointError(message)
    data = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.tensors.items()
    }
    logger = logging.getLogger()  # the quantizer writes advice to the root logger
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        copy = onnx.ModelProto()
        copy.CopyFrom(model)
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=REDUCE_RANGE,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[],
            nodes_to_exclude=[*early_nodes(model), *head_nodes(model), *squeeze_nodes(model)],
            op_types_to_quantize=["Conv", "Relu"],
            extra_options={"ActivationSymmetric": False, "WeightSymmetric": True},
        )
        quantizer.quantize_model()
    finally:
        logger.setLevel(level)
    quantized: onnx.ModelProto = quantizer.model.model
    sort_nodes(quantized.graph)
    strip_opset_imports(quantized)
    quantized.producer_name, quantized.producer_version = (
        model.producer_name,
        model.producer_version,
    )
    check_profile(quantized)
    return quantized
