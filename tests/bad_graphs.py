"""Small graphs that break one rule of ``bakit check`` each, and what they must be told."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.graphs import (
    I32,
    I64,
    IMAGE,
    KERNEL,
    OUT,
    SAME,
    U8,
    D,
    F,
    H,
    branches,
    convolution,
    dynamic,
    foreign,
    function,
    half_quantized,
    invalid,
    looped,
    many_nodes,
    model,
    nine_axes,
    node,
    pool_with_indices,
    relu,
    resize,
    run_time,
    sequence,
    sparse,
    unary,
    with_constant,
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


NANO, FIVE, SIX, TEN, ELEVEN = "jetson-nano", "jetpack-5", "jetpack-6", "tensorrt-10", "tensorrt-11"
BYTES, BYTES_OUT = ("x", U8, (4,)), ("y", U8, (4,))

BAD = {
    "dangling": Bad("invalid-model", "", NANO, invalid(), None, ""),
    "opset-17": Bad("opset", "", NANO, relu(opset=17, ir=8), FIVE, ""),
    "opset-8": Bad("opset", "", ELEVEN, relu(opset=8, ir=4), FIVE, ""),
    "ir-10": Bad("ir-version", "", NANO, relu(ir=10), SIX, ""),
    "ir-10-parser": Bad("ir-version", "", FIVE, relu(ir=10), SIX, ""),
    "contrib": Bad("domain", "y", ELEVEN, foreign("Gelu")),
    "plugin": Bad("domain", "y", ELEVEN, foreign("EfficientNMS_TRT")),
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
    "det": Bad("operator", "y", ELEVEN, unary("Det", shape=(3, 3), out_shape=())),
    "operator-in-loop": Bad(
        "operator",
        "after",
        NANO,
        looped([node("Mod", ["before", "c"], "after", fmod=1)], {"c": np.float32(2)}),
        SIX,
        "main/Loop(steps)/body",
    ),
    "cubic": Bad("attribute", "y", SIX, resize(mode="cubic"), ELEVEN),
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
        unary("Einsum", shape=(2, 3), out_shape=(3, 2), equation="...ij->...ji"),
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
    "computed-reduce-axes": Bad(
        "constant-input",
        "y",
        ELEVEN,
        model(
            [
                node("Neg", ["minus"], "axes"),
                node("ReduceSum", ["x", "axes"], "y", keepdims=0),
            ],
            [("x", F, (2, 3))],
            [("y", F, (2,))],
            {"minus": np.array([-1], np.int64)},
        ),
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
        TEN,
        run_time("Conv", "w", ("b", F, (3,)), output=OUT, constants={"w": KERNEL}),
        ELEVEN,
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
    "uint8-arithmetic": Bad(
        "type", "y", ELEVEN, run_time("Add", "x", first=BYTES, output=BYTES_OUT)
    ),
    "sequence": Bad("type", "x", ELEVEN, sequence()),
    "not-an-equation": Bad("attribute", "y", ELEVEN, unary("Einsum", equation="...ij-")),
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
    "shape-input": Bad(
        "dynamic-shape",
        "shape",
        ELEVEN,
        run_time("Reshape", ("shape", I64, (2,)), first=("x", F, (4,)), output=("y", F, (2, 2))),
    ),
    "dynamic": Bad("dynamic-shape", "x", ELEVEN, dynamic()),
    "growing": Bad(
        "loop-state-shape",
        "steps",
        ELEVEN,
        looped(
            [node("Concat", ["before", "before"], "after", axis=0)],
            carried=(F, (1, 2)),
            leaving=(2, 2),
        ),
    ),
    "same-names": Bad("if-outputs", "choice", SIX, branches(["same", "same"]), ELEVEN),
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
