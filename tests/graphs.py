"""Builders of the smallest graphs that show one thing."""

from __future__ import annotations

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

F, H, I32, I64, I8, U8, D = (
    TensorProto.FLOAT,
    TensorProto.FLOAT16,
    TensorProto.INT32,
    TensorProto.INT64,
    TensorProto.INT8,
    TensorProto.UINT8,
    TensorProto.DOUBLE,
)


def model(nodes, inputs, outputs, constants=(), *, opset=13, ir=7, domains=(), functions=()):
    """Return a model of nodes; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [numpy_helper.from_array(np.asarray(item), name) for name, item in dict(constants).items()],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*item) for item in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=functions)


def open_graph(data):
    """Open a model with one thread: more only wait for each other on a busy machine."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options)


def node(operator, inputs, output, **attributes):
    """Return a node that is called as its output."""
    return helper.make_node(operator, inputs, [output], name=output, **attributes)


IMAGE = ("x", F, (1, 2, 4, 4))
KERNEL = np.ones((3, 2, 1, 1), np.float32)
OUT = ("y", F, (1, 3, 4, 4))
SAME = ("y", F, (1, 2, 4, 4))


def relu(**options):
    """Return the plainest graph."""
    return model([node("Relu", ["x"], "y")], [IMAGE], [SAME], **options)


def convolution(scale=0.1, zero=0, weight_scale=None, axis=0, bias=None, kind=np.int8):
    """Return a convolution between quantized tensors."""
    per_channel = np.full(3, 0.1, np.float32) if weight_scale is None else weight_scale
    constants = {
        "scale": np.float32(scale),
        "zero": kind(zero),
        "wq": np.ones((3, 2, 1, 1), np.int8),
        "w_scale": per_channel,
        "w_zero": np.zeros(per_channel.shape, np.int8),
    }
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "q"),
        node("DequantizeLinear", ["q", "scale", "zero"], "dq"),
        node("DequantizeLinear", ["wq", "w_scale", "w_zero"], "w", axis=axis),
    ]
    inputs = ["dq", "w"]
    if bias is not None:
        constants |= {"bq": bias, "b_scale": np.float32(0.01), "b_zero": bias.dtype.type(0)}
        nodes.append(node("DequantizeLinear", ["bq", "b_scale", "b_zero"], "b"))
        inputs.append("b")
    return model([*nodes, node("Conv", inputs, "y")], [IMAGE], [OUT], constants)


def looped(body_nodes, constants=(), carried=(F, (1, 2, 4, 4)), leaving=None, steps=3):
    """Return a Loop called ``steps`` around nodes that make ``after`` from ``before``."""
    kind, shape = carried
    body = helper.make_graph(
        [node("Identity", ["go"], "again"), *body_nodes],
        "body",
        [
            helper.make_tensor_value_info("i", I64, ()),
            helper.make_tensor_value_info("go", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("before", kind, shape),
        ],
        [
            helper.make_tensor_value_info("again", TensorProto.BOOL, ()),
            helper.make_tensor_value_info("after", kind, leaving or shape),
        ],
    )
    loop = helper.make_node("Loop", ["n", "yes", "x"], ["y"], name="steps", body=body)
    every = {"n": np.int64(steps), "yes": np.bool_(True)} | dict(constants)
    return model([loop], [("x", kind, shape)], [("y", kind, leaving or shape)], every)


def branches(names):
    """Return an If whose branches have outputs of these names."""
    parts = {}
    for key, name in zip(("then_branch", "else_branch"), names, strict=True):
        parts[key] = helper.make_graph(
            [node("Relu" if key == "then_branch" else "Neg", ["x"], name)],
            key,
            [],
            [helper.make_tensor_value_info(name, F, (1, 2, 4, 4))],
        )
    choice = helper.make_node("If", ["which"], ["y"], name="choice", **parts)
    return model([choice], [IMAGE, ("which", TensorProto.BOOL, ())], [SAME])


def foreign(operator):
    """Return a node of another domain."""
    made = helper.make_node(operator, ["x"], ["y"], name="y", domain="com.microsoft")
    return model([made], [IMAGE], [SAME], domains=[("com.microsoft", 1)])


def sequence():
    """Return an input that is a sequence."""
    found = model([node("SequenceLength", ["x"], "y")], [IMAGE], [("y", I64, ())])
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(F, (1,)))
    found.graph.input[0].type.CopyFrom(kind)
    return found


def function():
    """Return a function of the file, which TensorRT 9 and later inline."""
    inner = helper.make_function(
        "ours", "Twice", ["a"], ["b"], [node("Add", ["a", "a"], "b")], [helper.make_opsetid("", 13)]
    )
    call = helper.make_node("Twice", ["x"], ["y"], name="y", domain="ours")
    return model([call], [IMAGE], [SAME], ir=8, domains=[("ours", 1)], functions=[inner])


def sparse():
    """Return a sparse constant."""
    found = model([node("Mul", ["x", "thin"], "y")], [("x", F, (2,))], [("y", F, (2,))])
    values = helper.make_tensor("thin", F, [1], [3.0])
    indices = helper.make_tensor("thin_indices", I64, [1], [1])
    found.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [2]))
    return found


def invalid():
    """Return a node that reads what no node makes."""
    return model([node("Add", ["x", "nowhere"], "y")], [IMAGE], [SAME])


def many_nodes():
    """Return more nodes than a Jetson Nano has memory to build."""
    names = ["x", *(f"n{index}" for index in range(2100)), "y"]
    nodes = [node("Neg", [names[i]], names[i + 1]) for i in range(len(names) - 1)]
    return model(nodes, [IMAGE], [SAME])


def half_quantized(opset, ir):
    """Return scales in float16."""
    constants = {"scale": np.float16(0.1), "zero": np.int8(0)}
    nodes = [
        node("QuantizeLinear", ["x", "scale", "zero"], "q"),
        node("DequantizeLinear", ["q", "scale", "zero"], "y"),
    ]
    borders = [("x", H, (1, 2))], [("y", H, (1, 2))]
    return model(nodes, *borders, constants, opset=opset, ir=ir)


def unary(operator, kind=F, out=F, shape=(1, 2, 4, 4), out_shape=None, opset=13, **attributes):
    """Return one node between one input and one output."""
    made = node(operator, ["x"], "y", **attributes)
    result = ("y", out, shape if out_shape is None else out_shape)
    return model([made], [("x", kind, shape)], [result], opset=opset)


def with_constant(operator, constant, kind=F, shape=(4,), out=None, **attributes):
    """Return a node that reads an input and a constant."""
    made = node(operator, ["x", "c"], "y", **attributes)
    return model([made], [("x", kind, shape)], [("y", kind, out or shape)], {"c": constant})


def run_time(operator, *inputs, first=IMAGE, output=SAME, constants=(), opset=13, **attributes):
    """Return a node with inputs that are the graph's own."""
    names = [first[0], *(item if isinstance(item, str) else item[0] for item in inputs)]
    given = [first, *(item for item in inputs if not isinstance(item, str))]
    made = node(operator, names, "y", **attributes)
    return model([made], given, [output], constants, opset=opset)


def resize(**attributes):
    """Return a Resize to twice the size."""
    scales = {"scales": np.array([1, 1, 2, 2], np.float32)}
    made = node("Resize", ["x", "", "scales"], "y", **attributes)
    return model([made], [IMAGE], [("y", F, (1, 2, 8, 8))], scales)


def pool_with_indices():
    """Return a MaxPool whose indices are an output."""
    made = helper.make_node("MaxPool", ["x"], ["y", "at"], name="pool", kernel_shape=[2, 2])
    outputs = [("y", F, (1, 2, 3, 3)), ("at", I64, (1, 2, 3, 3))]
    return model([made], [IMAGE], outputs)


def nine_axes():
    """Return a tensor of nine axes."""
    shape = {"shape": np.array([1, 2, 2, 2, 2, 2, 1, 1, 1], np.int64)}
    nodes = [node("Reshape", ["x", "shape"], "wide"), node("Reshape", ["wide", "flat"], "y")]
    return model(
        nodes, [("x", F, (32,))], [("y", F, (32,))], shape | {"flat": np.array([32], np.int64)}
    )


def dynamic():
    """Return a batch of any length."""
    return model([node("Relu", ["x"], "y")], [("x", F, ("n", 3))], [("y", F, ("n", 3))])
