"""Rules on tensors: types, values of constants, inputs and outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto

from bakit.export.check import limits
from bakit.export.check.scope import label, type_name, whole_number

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.export.check.findings import Finding
    from bakit.export.check.profiles import Profile, Version
    from bakit.export.check.scope import Scope

QUANTIZERS = {"QuantizeLinear", "DequantizeLinear"}


def check_borders(scope: Scope, profile: Profile) -> Iterator[Finding]:
    """Yield findings on the inputs and outputs of the main graph."""
    for item in scope.graph.input:
        if not item.type.HasField("tensor_type"):
            yield scope.finding("type", item.name, "an input that is not a tensor", "use tensors")
            continue
        shape = scope.axes(item.name)
        if item.name in scope.constants:
            continue
        if shape is None or None in shape:
            text = "?" if shape is None else ", ".join("?" if n is None else str(n) for n in shape)
            yield scope.finding("dynamic-shape", item.name, f"input of shape ({text})")
        for node, index in scope.readers.get(item.name, ()):
            if index in limits.SHAPE_INPUTS.get(node.op_type, ()):
                message = f"the input determines the shape of {label(node)}'s output"
                remedy = "make it a constant: bakit builds engines without optimization profiles"
                yield scope.finding("dynamic-shape", item.name, message, remedy)
    for item in (*scope.graph.input, *scope.graph.output):
        kind = scope.type_of(item.name)
        if item.name in scope.constants:
            continue
        if kind == TensorProto.INT64 and profile.oldest < limits.INT64_NATIVE:
            yield scope.finding("int64-io", item.name, "it is INT64")
        elif kind == TensorProto.UINT8 and profile.oldest < limits.UINT8_AT_BORDERS:
            yield scope.finding("type", item.name, "it is UINT8", "declare it float32 or int32")
        elif kind == TensorProto.UINT8:
            for node, _ in scope.readers.get(item.name, ()):
                if node.op_type not in {"Cast", *QUANTIZERS}:
                    message = f"it reads the UINT8 input {item.name}"
                    yield scope.finding("type", node, message, "cast the input to float32 first")
        elif kind not in limits.TYPES and kind not in {0, TensorProto.UINT8}:
            yield scope.finding("type", item.name, f"it is {type_name(kind)}")


def check_tensors(scope: Scope, profile: Profile) -> Iterator[Finding]:
    """Yield findings on the constants of a graph and the outputs of its nodes."""
    version = profile.oldest
    for name, tensor in scope.constants.items():
        yield from _check_type(scope, name, tensor.data_type, version)
        if tensor.data_type == TensorProto.FLOAT16 and version < limits.FLOAT16_WEIGHTS:
            yield scope.finding("float16", name, "a float16 constant")
        if tensor.data_type == TensorProto.INT64 and version < limits.INT64_NATIVE:
            yield from _check_int64(scope, name)
    for sparse in getattr(scope.graph, "sparse_initializer", ()):
        message = "a sparse constant, which the parser does not support"
        yield scope.finding("type", sparse.values.name, message, "store it in full")
    for node in scope.graph.node:
        if node.op_type == "Constant" or node.op_type in QUANTIZERS:
            continue
        for name in node.output:
            kind = scope.type_of(name)
            if node.op_type == "Cast":
                kind = whole_number(node, "to", 0)
            if not (kind == TensorProto.UINT8 and name in scope.outputs):
                yield from _check_type(scope, name, kind, version)
            axes = scope.axes(name)
            if axes is not None and len(axes) > limits.MAX_AXES:
                yield scope.finding("rank", node, f"{name} has {len(axes)} axes")


def _check_type(scope: Scope, name: str, kind: int, version: Version) -> Iterator[Finding]:
    """Yield findings on a tensor's type; inputs of quantizers have their own rules."""
    readers = scope.readers.get(name, [])
    if readers and all(node.op_type in QUANTIZERS for node, _ in readers):
        return
    maker = scope.producers.get(name)
    where = name if maker is None else maker
    if kind == TensorProto.DOUBLE:
        yield scope.finding("double", where, f"{name} is float64")
    elif kind == TensorProto.UINT8:
        yield scope.finding("type", where, f"{name} is UINT8, inside the graph")
    elif kind and (kind not in limits.TYPES or limits.TYPES[kind] > version):
        yield scope.finding("type", where, f"{name} is {type_name(kind)}")


def _check_int64(scope: Scope, name: str) -> Iterator[Finding]:
    """Yield a constant beyond INT32; clamping the end of a slice changes nothing."""
    readers = scope.readers.get(name, [])
    if readers and all(node.op_type == "Slice" and index in {1, 2} for node, index in readers):
        return
    array = scope.array(name)
    if array is None or not array.size:
        return
    limits = np.iinfo(np.int32)
    worst = max(abs(int(array.max())), abs(int(array.min())))
    if int(array.max()) > limits.max or int(array.min()) < limits.min:
        yield scope.finding("int64-range", name, f"it contains {worst}, beyond INT32")
