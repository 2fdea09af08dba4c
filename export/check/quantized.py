"""Rules on QuantizeLinear and DequantizeLinear: the INT8 that TensorRT supports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from bakit.export.check import limits
from bakit.export.check.scope import type_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import NodeProto

    from bakit.export.check.findings import Finding, Severity
    from bakit.export.check.profiles import Profile, Version
    from bakit.export.check.scope import Scope

_HALF_OPSET = 19
"""First opset with float16 scales."""


def check_quantized(
    scope: Scope, node: NodeProto, profile: Profile, opset: int
) -> Iterator[Finding]:
    """Yield findings on a quantizing node; nothing for other nodes."""
    if node.op_type not in {"QuantizeLinear", "DequantizeLinear"}:
        return
    if len(node.input) < 2 or not node.output:
        return  # an invalid file
    if not profile.int8:
        message = f"it is INT8, which {profile.name} does not compute in"
        yield scope.finding("int8-hardware", node, message)
        return
    kind = _quantized_type(scope, node)
    if node.op_type == "DequantizeLinear" and kind == TensorProto.INT32:
        yield scope.finding("qdq-bias", node, f"{node.input[0]} is a bias in INT32")
        return
    if kind and (kind not in limits.QUANTIZED or limits.TYPES[kind] > profile.oldest):
        built = kind == TensorProto.UINT8 and profile.oldest >= limits.UNDOCUMENTED
        message = f"it quantizes to {type_name(kind)}"
        yield scope.finding("qdq-type", node, message, severity="warning" if built else None)
    yield from _zero_point(scope, node, profile.oldest)
    yield from _scale(scope, node, profile.oldest, opset)
    yield from _axis(scope, node, profile.oldest)


def _quantized_type(scope: Scope, node: NodeProto) -> int:
    """Return the quantized type; ONNX's default is UINT8; 0 if unknown."""
    if node.op_type == "DequantizeLinear":
        return scope.type_of(node.input[0])
    if len(node.input) > 2 and node.input[2]:
        return scope.type_of(node.input[2])
    return whole_number(node, "output_dtype", 0) or TensorProto.UINT8


def _zero_point(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    name = node.input[2] if len(node.input) > 2 else ""
    if not name:
        if version < limits.ZERO_POINT_OPTIONAL:
            yield scope.finding("qdq-zero-point", node, "it has no zero point")
        return
    if not scope.is_derived(name):
        yield scope.finding("qdq-zero-point", node, "its zero point is computed at run time")
        return
    zero = scope.array(name)
    if zero is not None and np.any(zero.astype(np.float64)):
        message = f"its zero point is {zero.astype(np.float64).flat[np.flatnonzero(zero)[0]]:g}"
        yield scope.finding("qdq-zero-point", node, message)


def _scale(scope: Scope, node: NodeProto, version: Version, opset: int) -> Iterator[Finding]:
    name = node.input[1]
    kind = scope.type_of(name)
    if kind == TensorProto.FLOAT16 and (version < limits.FLOAT16_SCALES or opset < _HALF_OPSET):
        where = f"opset {opset}" if version >= limits.FLOAT16_SCALES else f"TensorRT {version[0]}"
        yield scope.finding("qdq-float16", node, f"its scale is float16, in {where}")
    if not scope.is_derived(name):
        yield scope.finding("qdq-scale", node, "its scale is computed at run time")
        return
    scale = scope.array(name)
    if scale is None:
        return
    numbers = scale.astype(np.float64).reshape(-1)
    bad = numbers[~(np.isfinite(numbers) & (numbers > 0))]
    if bad.size:
        yield scope.finding("qdq-scale", node, f"its scale is {bad[0]:g}")


def _axis(scope: Scope, node: NodeProto, version: Version) -> Iterator[Finding]:
    """Yield a scale by channel that is not along the output channels of constant weights."""
    shape = scope.axes(node.input[1])
    if not shape or shape in {(), (1,)}:
        return
    if whole_number(node, "block_size", 0):
        return  # blocks of INT4 and FP4 weights, which bakit does not write
    severity: Severity = "warning" if version >= limits.UNDOCUMENTED else "error"
    source = node
    maker = scope.producer(node.input[0])
    if node.op_type == "DequantizeLinear" and maker is not None:
        source = maker
    name = source.input[0] if source.op_type == "QuantizeLinear" else node.input[0]
    if not scope.is_derived(name):
        message = "an activation with a scale for each channel"
        yield scope.finding("qdq-axis", node, message, severity=severity)
        return
    rank = len(scope.axes(name) or ())
    axis = whole_number(node, "axis", 1)
    axis += rank if axis < 0 else 0
    for layer, index in _layers(scope, node):
        channels = _channel_axis(layer, rank) if index == 1 else None
        if channels is not None and axis != channels:
            message = f"weights of {layer.op_type} with scales along axis {axis}, not {channels}"
            yield scope.finding("qdq-axis", node, message, severity=severity)


def _layers(scope: Scope, node: NodeProto) -> Iterator[tuple[NodeProto, int]]:
    """Yield the nodes that read the output of a pair, with the input's index."""
    for reader, index in scope.readers.get(node.output[0], []):
        if node.op_type == "QuantizeLinear" and reader.op_type == "DequantizeLinear":
            yield from scope.readers.get(reader.output[0], [])
        elif node.op_type == "DequantizeLinear":
            yield reader, index


def _channel_axis(layer: NodeProto, rank: int) -> int | None:
    """Return the axis of the output channels in a layer's weights; None for other operators."""
    if layer.op_type == "Conv":
        return 0
    if layer.op_type == "ConvTranspose":
        return 1
    if layer.op_type == "Gemm":
        return 0 if whole_number(layer, "transB", 0) else 1
    return rank - 1 if layer.op_type == "MatMul" else None
