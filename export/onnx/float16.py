"""The regressor in float16, for strongly typed runtimes."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, checker, helper, numpy_helper

from bakit.export.onnx.writer import copy_of

OPSET, IR_VERSION = 19, 9
"""The first opset with float16 scales of INT8, and its format version: one profile for all strongly
typed graphs."""

LAST = "age_months"
"""Name of the last layer's output: above 128 months, float16 has steps of 1/8 month."""


def half_model(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of ``bakit.export.onnx.regressor`` in float16; INT8 layers keep their INT8.

    Inputs, last layer and output stay float32; the last layer must be a float layer.
    """
    copy = copy_of(model)
    graph = copy.graph
    del graph.value_info[:]  # types of the float32 graph
    last = next(node for node in graph.node if node.output[0] == LAST)
    kept = set(last.input)
    pairs = {"QuantizeLinear", "DequantizeLinear"}
    scales = {node.input[1] for node in graph.node if node.op_type in pairs}
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            narrow = numpy_helper.to_array(tensor).astype(np.float16)
            if tensor.name in scales:  # a scale of zero is refused
                narrow = np.maximum(narrow, np.finfo(np.float16).smallest_subnormal)
            tensor.CopyFrom(numpy_helper.from_array(narrow, tensor.name))
    casts = []
    for item in graph.input:
        casts.append(_cast(item.name, f"{item.name}/half", TensorProto.FLOAT16))
        for node in graph.node:
            for index, name in enumerate(node.input):
                if name == item.name:
                    node.input[index] = f"{item.name}/half"
    widened = f"{last.input[0]}/single"
    nodes = []
    for node in graph.node:
        if node.output[0] == LAST:
            nodes.append(_cast(node.input[0], widened, TensorProto.FLOAT))
            node.input[0] = widened
        nodes.append(node)
    del graph.node[:]
    graph.node.extend([*casts, *nodes])
    del copy.opset_import[:]
    copy.opset_import.append(helper.make_opsetid("", OPSET))
    copy.ir_version = IR_VERSION
    checker.check_model(copy, full_check=True)
    return copy


def _cast(source: str, target: str, to: int) -> onnx.NodeProto:
    return helper.make_node("Cast", [source], [target], name=target, to=to)
