"""The regressor in INT8: quantize-dequantize pairs around the INT8 layers."""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from bakit.errors import CheckpointError
from bakit.export.onnx.writer import (
    check_profile,
    copy_of,
    readers_of,
    serialize,
    strip_opset_imports,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.settings import Ranges


class Dialect(NamedTuple):
    """The form of INT8 that a runtime needs.

    Attributes:
        symmetric: Whether activations are INT8 around zero, for TensorRT and Core ML. Otherwise
            they are UINT8 with a zero point, whose whole range is used behind a ReLU.
        weight_bits: 7 or 8. AVX2 without VNNI adds pairs of products in 16 bits, where 8-bit
            weights silently saturate; 7-bit weights do not, on any processor.
        integer_biases: Whether biases are INT32; TensorRT rejects these. ONNX Runtime before 1.21
            computes layers with float biases in float.
        fitted: Whether layers are fitted to ONNX Runtime's kernels (``fill_channels``,
            ``_float_nodes``), which OpenVINO runs as fast as others.
    """

    symmetric: bool = False
    weight_bits: int = 7
    integer_biases: bool = True
    fitted: bool = False


PLAIN = Dialect()
CPU = Dialect(fitted=True)
FLOAT_BIASES = Dialect(integer_biases=False)
SYMMETRIC = Dialect(symmetric=True, weight_bits=8, integer_biases=False)

LAYERS = ("Conv", "Gemm")
"""Operators with multiply-adds."""

VECTOR = 16
"""Channels that ONNX Runtime's depthwise INT8 kernels compute at once; those left over are slow."""

_FUSED = {"Add", "HardSigmoid", "Mul", "Relu"}
"""Operators that OpenVINO and TensorRT compute in one kernel with the layer before them."""

_INNER = {"expand": 0, "depthwise": 0, "squeeze/fc1": 1, "squeeze/fc2": 0, "project": 1}
"""Axis of a block's inner channels in each layer's weight: 0, as in its bias, or 1."""


def quantize(model: onnx.ModelProto, ranges: Ranges, dialect: Dialect = CPU) -> onnx.ModelProto:
    """Return the float regressor in INT8, without the float layers of ``ranges``.

    Weights are symmetric and have a scale for each output channel, activations one for each tensor.
    Convolutions, dense layers and the ReLU behind them are quantized; h-swish and gates between
    them are computed in float.

    Raises:
        CheckpointError: If a range is missing: they are another model's.
    """
    kept = _float_nodes(model, ranges.float_layers, dialect)
    data = {
        name: (np.array(low, np.float32), np.array(high, np.float32))
        for name, (low, high) in ranges.tensors.items()
    }
    missing = sorted(observed_tensors(model) - {*data, "sex", "age_months"})
    if missing:
        message = f"the INT8 ranges are another model's: none for {missing[0]!r}; calibrate again"
        raise CheckpointError(message)
    copy = copy_of(model)
    if dialect.fitted:
        fill_channels(copy)
    logger = logging.getLogger()  # the quantizer logs advice to the root logger
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        quantizer = QDQQuantizer(
            copy,
            per_channel=True,
            reduce_range=dialect.weight_bits == 7,
            weight_qType=QuantType.QInt8,
            activation_qType=QuantType.QInt8 if dialect.symmetric else QuantType.QUInt8,
            tensors_range=TensorsData(CalibrationMethod.MinMax, data),
            nodes_to_quantize=[],
            nodes_to_exclude=sorted(kept),
            op_types_to_quantize=[*LAYERS, "Relu"],
            extra_options={
                "ActivationSymmetric": dialect.symmetric,
                "WeightSymmetric": True,
                "QuantizeBias": dialect.integer_biases,
            },
        )
        quantizer.quantize_model()
        quantizer.model.topological_sort()
    finally:
        logger.setLevel(level)
    quantized: onnx.ModelProto = quantizer.model.model
    strip_opset_imports(quantized)
    quantized.producer_name = model.producer_name
    quantized.producer_version = model.producer_version
    check_profile(quantized)
    return quantized


def _float_nodes(model: onnx.ModelProto, layers: Sequence[str], dialect: Dialect) -> set[str]:
    """Return the float layers with the nodes behind them that are float, too.

    These are their ReLUs, and if ``fitted`` a convolution between them and a sum with a float
    tensor: it takes less time than rounding to INT8 and back, and changes of the layout.
    """
    kept = {*layers}
    readers = readers_of(model.graph)
    for node in model.graph.node:
        if node.input[0] not in kept:  # a node has its output's name
            continue
        if node.op_type == "Relu":
            kept.add(node.name)
        elif node.op_type == "Conv" and dialect.fitted:
            after, *others = readers[node.name]
            beside = {item.name for name in after.input for item in readers[name]} - {after.name}
            if after.op_type == "Add" and not others and beside <= kept:
                kept.add(node.name)
    return kept


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with 8-bit weights, one scale per output channel.

    Activations and the last layer, whose output is the age, stay float.
    """
    copy = copy_of(model)
    graph = copy.graph
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    outputs = {item.name for item in graph.output}
    added = []
    for node in graph.node:
        if node.op_type not in LAYERS or outputs & {*node.output}:
            continue
        name = node.input[1]
        weight = numpy_helper.to_array(tensors[name])
        scale = np.abs(weight).reshape(len(weight), -1).max(1) / np.float32(127)
        scale = np.where(scale > 0, scale, 1).astype(np.float32)
        whole = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1))).astype(np.int8)
        parts = {"": whole, ".scale": scale, ".zero": np.zeros(len(scale), np.int8)}
        tensors[name].CopyFrom(numpy_helper.from_array(parts.pop(""), f"{name}.int8"))
        graph.initializer.extend(
            numpy_helper.from_array(value, name + part) for part, value in parts.items()
        )
        inputs = [f"{name}.int8", f"{name}.scale", f"{name}.zero"]
        label = f"{name}.dequantize"
        added.append(onnx.helper.make_node("DequantizeLinear", inputs, [name], name=label, axis=0))
    nodes = [*added, *graph.node]  # each after those that it reads
    del graph.node[:]
    graph.node.extend(nodes)
    return copy


def round_once(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return an INT8 model without rounding between a layer and the float arithmetic behind it.

    ONNX Runtime needs a rounding right behind each INT8 layer. OpenVINO and TensorRT compute a
    layer, the ReLU, h-swish or sum behind it and one rounding in one kernel: faster, with one
    rounding error less.
    """
    copy = copy_of(model)
    producers = {name: node for node in copy.graph.node for name in node.output}
    readers = readers_of(copy.graph)
    dropped = set()
    for node in copy.graph.node:
        rounded = producers.get(node.input[0]) if node.op_type == "DequantizeLinear" else None
        if rounded is None or rounded.op_type != "QuantizeLinear":
            continue
        layer = producers.get(rounded.input[0])
        after = readers.get(node.output[0], [])
        if layer is None or layer.op_type not in LAYERS or len(readers[rounded.output[0]]) > 1:
            continue
        if after and all(item.op_type in _FUSED for item in after):
            for item in after:
                for index, name in enumerate(item.input):
                    if name == node.output[0]:
                        item.input[index] = rounded.input[0]
            dropped |= {node.name, rounded.name}
    kept = [node for node in copy.graph.node if node.name not in dropped]
    del copy.graph.node[:]
    copy.graph.node.extend(kept)
    used = {name for node in kept for name in node.input}
    constants = [tensor for tensor in copy.graph.initializer if tensor.name in used]
    del copy.graph.initializer[:]
    copy.graph.initializer.extend(constants)
    return copy


def fill_channels(model: onnx.ModelProto) -> None:
    """Fill each block's inner channels with zeros to whole ``VECTOR``s, in place.

    The outputs stay the same.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes = {node.name: node for node in model.graph.node}
    for name in depthwise_layers(model):
        block = name.removesuffix("depthwise")
        more = -tensors[f"{name}.weight"].dims[0] % VECTOR
        for layer, axis in _INNER.items():
            for part in ("weight", "bias")[: 2 - axis]:
                if tensor := tensors.get(f"{block}{layer}.{part}"):
                    value = numpy_helper.to_array(tensor)
                    pads = [(0, more if at == axis else 0) for at in range(value.ndim)]
                    tensor.CopyFrom(numpy_helper.from_array(np.pad(value, pads), tensor.name))
        (group,) = (item for item in nodes[name].attribute if item.name == "group")
        group.i += more


def depthwise_layers(model: onnx.ModelProto) -> tuple[str, ...]:
    """Return the names of convolutions with as many groups as output channels."""
    shapes = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    groups = {
        node.name: item.i
        for node in model.graph.node
        for item in node.attribute
        if item.name == "group"
    }
    return tuple(
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and 1 < groups.get(node.name, 1) == shapes[node.input[1]][0]
    )


def layer_names(model: onnx.ModelProto) -> list[str]:
    """Return the names of convolutions and dense layers, in the order of computation."""
    return [node.name for node in model.graph.node if node.op_type in LAYERS]


def observed_tensors(model: onnx.ModelProto) -> set[str]:
    """Return the names of the activations that quantization needs ranges of."""
    return {
        name
        for node in model.graph.node
        if node.op_type in {*LAYERS, "Relu"}
        for name in (node.input[0], node.output[0])
    }


def observed_model(model: onnx.ModelProto) -> bytes:
    """Return the bytes of the float model with ``observed_tensors`` as additional outputs."""
    copy = copy_of(model)
    there = {item.name for item in (*copy.graph.output, *copy.graph.input)}
    copy.graph.output.extend(
        onnx.helper.make_empty_tensor_value_info(name)
        for name in sorted(observed_tensors(model) - there)
    )
    return serialize(copy)


def multiply_adds(model: onnx.ModelProto) -> dict[str, int]:
    """Return the multiply-adds of one inference by layer."""
    inferred = shape_inference.infer_shapes(model)
    shapes = {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim]
        for item in (*inferred.graph.value_info, *inferred.graph.output, *inferred.graph.input)
    }
    shapes |= {item.name: list(item.dims) for item in model.graph.initializer}
    return {
        node.name: math.prod(shapes[node.output[0]][2:]) * math.prod(shapes[node.input[1]])
        for node in model.graph.node
        if node.op_type in LAYERS
    }


def int8_share(model: onnx.ModelProto) -> float:
    """Return the share of a model's multiply-adds that are written in INT8, 0..1.

    A layer counts if its activation and its weight are outputs of ``DequantizeLinear``.
    """
    dequantized = {
        node.output[0] for node in model.graph.node if node.op_type == "DequantizeLinear"
    }
    products = multiply_adds(model)
    int8 = sum(
        products[node.name]
        for node in model.graph.node
        if node.op_type in LAYERS and {node.input[0], node.input[1]} <= dequantized
    )
    return int8 / sum(products.values())
