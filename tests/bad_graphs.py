"""Small graphs that break one rule of ``bakit check`` each, and what they must be told."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
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


class Bad(NamedTuple):
    """A graph that breaks a rule.

    Attributes:
        rule: The rule.
        node: The node or tensor that must be named.
        profile: The profile that it is bad for.
        model: The graph.
        good_for: A profile that has nothing against it.
        graph: Where the node is.
    """

    rule: str
    node: str
    profile: str
    model: onnx.ModelProto
    good_for: str | None = None
    graph: str = "main"


def model(nodes, inputs, outputs, constants=(), *, opset=13, ir=7, domains=(), functions=()):
    """Return a model of nodes; inputs and outputs are (name, type, shape)."""
    graph = helper.make_graph(
        nodes,
        "bad",
        [helper.make_tensor_value_info(*item) for item in inputs],
        [helper.make_tensor_value_info(*item) for item in outputs],
        [
            numpy_helper.from_array(np.asarray(value), name)
            for name, value in dict(constants).items()
        ],
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*item) for item in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=ir, functions=functions)


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


def looped(body_nodes, constants=(), carried=("c", F, (1, 2, 4, 4)), leaving=None, steps=3):
    """Return a Loop called ``steps`` around nodes that make ``after`` from ``before``."""
    _, kind, shape = carried
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


def contrib():
    """Return a node of another domain."""
    gelu = helper.make_node("Gelu", ["x"], ["y"], name="y", domain="com.microsoft")
    return model([gelu], [IMAGE], [SAME], domains=[("com.microsoft", 1)])


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


def unary(operator, kind=F, out=F, shape=(1, 2, 4, 4), opset=13, **attributes):
    """Return one node between one input and one output."""
    made = node(operator, ["x"], "y", **attributes)
    return model([made], [("x", kind, shape)], [("y", out, shape)], opset=opset)


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


NANO, FIVE, SIX, TEN, ELEVEN = "jetson-nano", "jetpack-5", "jetpack-6", "tensorrt-10", "tensorrt-11"
POINTS = {"number": ("k", I64, (1,))}

BAD = {
    "dangling": Bad("invalid-model", "", NANO, invalid(), None, ""),
    "opset-17": Bad("opset", "", NANO, relu(opset=17, ir=8), FIVE, ""),
    "opset-8": Bad("opset", "", ELEVEN, relu(opset=8, ir=4), FIVE, ""),
    "ir-10": Bad("ir-version", "", NANO, relu(ir=10), SIX, ""),
    "ir-10-parser": Bad("ir-version", "", FIVE, relu(ir=10), SIX, ""),
    "contrib": Bad("domain", "y", ELEVEN, contrib()),
    "function": Bad("domain", "y", FIVE, function(), TEN),
    "left-over": Bad("unused-domain", "", NANO, relu(domains=[("ai.onnx.ml", 2)]), FIVE, ""),
    "hard-swish": Bad("operator", "y", NANO, unary("HardSwish", opset=14), SIX),
    "one-hot": Bad(
        "operator",
        "y",
        NANO,
        run_time(
            "OneHot",
            "depth",
            "values",
            first=("x", I64, (4,)),
            output=("y", F, (4, 3)),
            constants={"depth": np.int64(3), "values": np.array([0, 1], np.float32)},
        ),
        SIX,
    ),
    "det": Bad(
        "operator", "y", ELEVEN, run_time("Det", first=("x", F, (3, 3)), output=("y", F, ()))
    ),
    "operator-in-loop": Bad(
        "operator",
        "after",
        NANO,
        looped([node("Mod", ["before", "c"], "after", fmod=1)], {"c": np.float32(2)}),
        SIX,
        "main/Loop(steps)/body",
    ),
    "cubic": Bad("attribute", "y", ELEVEN, resize(mode="cubic")),
    "crop": Bad(
        "attribute",
        "y",
        NANO,
        run_time(
            "Resize",
            "roi",
            "scales",
            output=("y", F, (1, 2, 4, 4)),
            constants={
                "roi": np.array([0, 0, 0, 0, 1, 1, 1, 1], np.float32),
                "scales": np.ones(4, np.float32),
            },
            coordinate_transformation_mode="tf_crop_and_resize",
        ),
    ),
    "wrap": Bad(
        "attribute",
        "y",
        FIVE,
        run_time(
            "Pad",
            "pads",
            first=("x", F, (4,)),
            output=("y", F, (6,)),
            constants={"pads": np.array([1, 1], np.int64)},
            mode="wrap",
            opset=19,
        ),
        SIX,
    ),
    "dilated-pool": Bad(
        "attribute",
        "y",
        ELEVEN,
        run_time("MaxPool", output=("y", F, (1, 2, 2, 2)), kernel_shape=[2, 2], dilations=[2, 2]),
    ),
    "ellipsis": Bad(
        "attribute",
        "y",
        FIVE,
        run_time(
            "Einsum", first=("x", F, (2, 3)), output=("y", F, (3, 2)), equation="...ij->...ji"
        ),
        SIX,
    ),
    "indices": Bad("output", "pool", SIX, pool_with_indices()),
    "run-time-k": Bad(
        "constant-input",
        "y",
        FIVE,
        model(
            [helper.make_node("TopK", ["x", "k"], ["y", "at"], name="y")],
            [("x", F, (4,)), ("k", I64, (1,))],
            [("y", F, ("k",)), ("at", I64, ("k",))],
        ),
    ),
    "run-time-axes": Bad(
        "constant-input",
        "y",
        ELEVEN,
        run_time("Unsqueeze", ("axes", I64, (1,)), first=("x", F, (4,)), output=("y", F, (1, 4))),
    ),
    "run-time-pad-value": Bad(
        "constant-input",
        "y",
        NANO,
        run_time(
            "Pad",
            "pads",
            ("value", F, ()),
            first=("x", F, (4,)),
            output=("y", F, (6,)),
            constants={"pads": np.array([1, 1], np.int64)},
        ),
        SIX,
    ),
    "folded-by-10-only": Bad(
        "constant-input",
        "y",
        NANO,
        model(
            [
                node("Concat", ["one", "one"], "axes", axis=0),
                node("Gather", ["axes", "zero"], "axis", axis=0),
                node("Unsqueeze", ["x", "axis"], "y"),
            ],
            [("x", F, (4,))],
            [("y", F, (4, 1))],
            {"one": np.array([1], np.int64), "zero": np.array([0], np.int64)},
        ),
        SIX,
    ),
    "run-time-weights": Bad(
        "conv-constant-weights",
        "y",
        NANO,
        run_time("Conv", ("w", F, (3, 2, 1, 1)), output=OUT),
        FIVE,
    ),
    "run-time-weights-in-loop": Bad(
        "conv-constant-weights",
        "after",
        NANO,
        looped(
            [node("Mul", ["k", "half"], "w"), node("Conv", ["before", "w"], "after")],
            {"k": np.ones((2, 2, 1, 1), np.float32), "half": np.float32(0.5)},
        ),
        FIVE,
        "main/Loop(steps)/body",
    ),
    "run-time-bias": Bad(
        "conv-constant-bias",
        "y",
        ELEVEN,
        run_time("Conv", "w", ("b", F, (3,)), output=OUT, constants={"w": KERNEL}),
    ),
    "big-index": Bad(
        "int64-range", "c", NANO, with_constant("Add", np.array([2**40]), kind=I64, shape=(1,)), SIX
    ),
    "long-io": Bad("int64-io", "x", FIVE, unary("Neg", I64, I64), SIX),
    "uint8-inside": Bad(
        "type",
        "bytes",
        ELEVEN,
        model(
            [node("Cast", ["x"], "bytes", to=U8), node("Cast", ["bytes"], "y", to=F)],
            [("x", F, (4,))],
            [("y", F, (4,))],
        ),
    ),
    "uint8-input": Bad("type", "x", NANO, unary("Cast", U8, F, to=F), FIVE),
    "uint16": Bad("type", "x", ELEVEN, unary("Cast", TensorProto.UINT16, F, to=F)),
    "sparse": Bad("type", "thin", SIX, sparse()),
    "double": Bad("double", "c", SIX, with_constant("Add", np.ones(4), kind=D)),
    "half-weights": Bad(
        "float16", "c", NANO, with_constant("Add", np.ones(4, np.float16), kind=H), FIVE
    ),
    "integer-product": Bad(
        "operator-type",
        "y",
        ELEVEN,
        with_constant("MatMul", np.ones((4, 4), np.int32), kind=I32, shape=(4, 4)),
    ),
    "integer-maximum": Bad(
        "operator-type",
        "y",
        FIVE,
        run_time("ArgMax", first=("x", I32, (4,)), output=("y", I64, (1,)), axis=0),
        SIX,
    ),
    "nine-axes": Bad("rank", "wide", ELEVEN, nine_axes()),
    "dynamic": Bad("dynamic-shape", "x", ELEVEN, dynamic()),
    "growing": Bad(
        "loop-state-shape",
        "steps",
        ELEVEN,
        looped(
            [node("Concat", ["before", "before"], "after", axis=0)],
            carried=("c", F, (1, 2)),
            leaving=(2, 2),
        ),
    ),
    "same-names": Bad("if-outputs", "choice", ELEVEN, branches(["same", "same"])),
    "many": Bad("many-nodes", "", NANO, many_nodes(), FIVE, ""),
    "int8-on-sm53": Bad("int8-hardware", "q", NANO, convolution(), FIVE),
    "uint8": Bad("qdq-type", "q", SIX, convolution(kind=np.uint8)),
    "no-zero-point": Bad(
        "qdq-zero-point",
        "dq",
        FIVE,
        model(
            [
                node("DequantizeLinear", ["wq", "scale"], "dq"),
                node("Add", ["x", "dq"], "y"),
            ],
            [("x", F, (4,))],
            [("y", F, (4,))],
            {"wq": np.ones(4, np.int8), "scale": np.float32(1)},
        ),
        SIX,
    ),
    "zero-point-3": Bad("qdq-zero-point", "q", ELEVEN, convolution(zero=3)),
    "scale-0": Bad("qdq-scale", "q", ELEVEN, convolution(scale=0)),
    "scale-nan": Bad("qdq-scale", "q", FIVE, convolution(scale=np.nan)),
    "axis-1": Bad(
        "qdq-axis", "w", SIX, convolution(weight_scale=np.full(2, 0.1, np.float32), axis=1)
    ),
    "per-channel-activation": Bad(
        "qdq-axis",
        "q",
        ELEVEN,
        model(
            [
                node("QuantizeLinear", ["x", "s", "z"], "q"),
                node("DequantizeLinear", ["q", "s", "z"], "y"),
            ],
            [IMAGE],
            [SAME],
            {"s": np.full(2, 0.1, np.float32), "z": np.zeros(2, np.int8)},
        ),
    ),
    "int32-bias": Bad("qdq-bias", "b", ELEVEN, convolution(bias=np.ones(3, np.int32))),
    "half-scales-8": Bad("qdq-float16", "q", FIVE, half_quantized(19, 9), SIX),
}
