"""Limits of TensorRT's ONNX parser, as data by version of TensorRT.

Where two sources differ, the stricter one is used; ``docs/check.md`` names these.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from onnx import TensorProto

if TYPE_CHECKING:
    from bakit.export.check.profiles import Version

_BY_VERSION: dict[Version, str] = {
    (8, 2): """
        Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
        Cast Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum
        DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten
        Floor GRU Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
        Greater GreaterOrEqual HardSigmoid Identity If ImageScaler InstanceNormalization IsNaN LRN
        LSTM LeakyRelu Less LessOrEqual Log LogSoftmax Loop LpNormalization LpPool MatMul Max
        MaxPool Mean Min Mul Neg NonMaxSuppression Not Or PRelu Pad ParametricSoftplus Pow
        QuantizeLinear RNN RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2
        ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
        ReduceSumSquare Relu Reshape Resize ReverseSequence Round ScaledTanh Scan Scatter
        ScatterElements ScatterND Selu Shape Sigmoid Sign Sin Sinh Size Slice Softmax Softplus
        Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
        Transpose Unsqueeze Upsample Where
    """,
    (8, 4): "Shrink Xor",
    (8, 5): """
        GridSample MeanVarianceNormalization Mod NonZero RandomNormal RandomNormalLike RoiAlign
        Trilu
    """,
    (8, 6): "GroupNormalization HardSwish IsInf LayerNormalization OneHot",
    (9, 0): "CastLike",
    (9, 2): "Hardmax",
    (10, 1): "DeformConv",
    (10, 4): "BlackmanWindow HammingWindow HannWindow",
    (10, 5): "STFT",
    (10, 15): "Attention Gelu Mish RMSNormalization RotaryEmbedding",
    (11, 0): "Swish TensorScatter",
}

OPERATORS: dict[str, Version] = {
    name: version for version, names in _BY_VERSION.items() for name in names.split()
}
"""First version whose parser supports an operator of the default domain."""

REPLACEMENTS = {
    "HardSwish": "write x * HardSigmoid(x, alpha=1/6, beta=0.5), which is the same",
    "OneHot": "compare with a constant range: Cast(Equal(Unsqueeze(x), range))",
    "Mod": "write a - b * Floor(a / b)",
    "Xor": "write Not(Equal(a, b))",
    **dict.fromkeys(
        ("QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger"),
        "quantize as QuantizeLinear and DequantizeLinear pairs (QDQ)",
    ),
    "DynamicQuantizeLinear": "use static scales: QuantizeLinear and DequantizeLinear (QDQ)",
    "LayerNormalization": "write it with ReduceMean, Sub, Mul, Sqrt and Div (opset 16 does)",
}
"""Replacements of operators."""


class Values(NamedTuple):
    """An attribute of which the parser supports some values only, the default among them."""

    operators: str  # their names
    attribute: str
    values: tuple[int | str, ...]  # of a list, every element must be one of them
    until: Version | None = None  # first version that supports all values


ATTRIBUTES = (
    Values(
        "Resize",
        "coordinate_transformation_mode",
        ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    ),
    Values("Resize", "mode", ("nearest", "linear"), until=(11, 0)),
    Values("Resize", "antialias", (0,)),
    Values("Resize", "keep_aspect_ratio_policy", ("stretch",)),
    Values("Pad", "mode", ("constant", "edge", "reflect"), until=(10, 0)),
    Values("MaxPool AveragePool LpPool", "dilations", (1,)),
    Values("BatchNormalization", "training_mode", (0,)),
    Values("ScatterElements", "reduction", ("none",), until=(10, 0)),
    Values("ScatterND", "reduction", ("none",)),
    Values("LSTM", "input_forget", (0,)),
    Values("LSTM", "layout", (0,)),
    Values("LpPool", "p", (1, 2)),
    Values("Attention", "softcap", (0,)),
    Values("Attention", "qk_matmul_output_mode", (0,)),
)


class Constant(NamedTuple):
    """An input that has to be a constant."""

    operators: str  # their names
    place: int  # index of the input
    what: str  # its name in ONNX
    until: Version | None = None  # first version that supports any tensor
    folded: bool = True  # whether constant expressions work, from FOLDS_CONSTANTS on


_REDUCE = (
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
    "ReduceSum ReduceSumSquare"
)

CONSTANTS = (
    Constant("BatchNormalization", 1, "scale", until=(9, 0)),
    Constant("BatchNormalization", 2, "B", until=(9, 0)),
    Constant("BatchNormalization", 3, "input_mean", until=(9, 0)),
    Constant("BatchNormalization", 4, "input_var", until=(9, 0)),
    Constant("Clip", 1, "min", until=(8, 6)),
    Constant("Clip", 2, "max", until=(8, 6)),
    Constant("CumSum", 1, "axis", until=(11, 0)),
    Constant("Dropout", 2, "training_mode"),
    Constant("InstanceNormalization", 1, "scale", until=(8, 6)),
    Constant("InstanceNormalization", 2, "B", until=(8, 6)),
    Constant("NonMaxSuppression", 2, "max_output_boxes_per_class", until=(8, 5)),
    Constant("NonMaxSuppression", 3, "iou_threshold", until=(8, 5)),
    Constant("NonMaxSuppression", 4, "score_threshold", until=(8, 5)),
    Constant("OneHot", 1, "depth"),
    Constant("Pad", 2, "constant_value", until=(9, 0)),
    Constant("Pad", 3, "axes", until=(10, 4)),
    Constant(_REDUCE, 1, "axes", folded=False),
    Constant("STFT", 1, "frame_step"),
    Constant("STFT", 2, "window"),
    Constant("Slice", 3, "axes", until=(10, 3)),
    Constant("Squeeze Unsqueeze", 1, "axes"),
    Constant("TopK", 1, "K", until=(8, 6)),
    Constant("Upsample", 1, "scales"),
)

FIRST_OUTPUT_ONLY = {"Attention": "present_key", "MaxPool": "Indices", "LayerNormalization": "Mean"}
"""Operators without their second output, and its name in ONNX."""

FLOATS_ONLY: dict[str, Version | None] = {
    **dict.fromkeys(("ArgMax", "ArgMin", "TopK"), (8, 6)),
    "Pow": (9, 0),
    "CumSum": (11, 0),
    **dict.fromkeys(("Gemm", "MatMul", "Resize")),
}
"""Operators that do not support integers, and the first version that does."""

FLOAT4E2M1 = 23
"""ONNX's number of a type that older onnx libraries do not define."""

TYPES: dict[int, Version] = {
    **dict.fromkeys((TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE), (8, 2)),
    **dict.fromkeys((TensorProto.INT8, TensorProto.INT32, TensorProto.INT64), (8, 2)),
    TensorProto.BOOL: (8, 2),
    TensorProto.BFLOAT16: (9, 0),
    TensorProto.FLOAT8E4M3FN: (9, 0),
    TensorProto.INT4: (10, 0),
    FLOAT4E2M1: (10, 8),
}
"""First version with an element type; UINT8, for inputs and outputs only, has its own rule."""

UINT8_AT_BORDERS: Version = (8, 5)
"""First version that supports UINT8 as the type of an input or output."""

QUANTIZED = {TensorProto.INT8, TensorProto.FLOAT8E4M3FN, TensorProto.INT4, FLOAT4E2M1}
"""Types to which a version quantizes that supports them."""

INT64_NATIVE: Version = (9, 0)
FUNCTIONS: Version = (9, 0)
FOLDS_CONSTANTS: Version = (9, 0)
"""First version that folds constant expressions."""

RUNTIME_CONV_WEIGHTS: Version = (8, 5)
RUNTIME_CONV_BIAS: Version = (11, 0)
IF_OUTPUTS_ALIKE: Version = (11, 0)
FLOAT16_WEIGHTS: Version = (8, 4)
EINSUM_IN_FULL: Version = (9, 1)
FLOAT16_SCALES: Version = (10, 0)
ZERO_POINT_OPTIONAL: Version = (9, 0)
UNDOCUMENTED: Version = (11, 0)
"""First version whose compiler builds UINT8 pairs and scales along other axes, although no document
promises ONNX's results."""

SHAPE_INPUTS = {
    "ConstantOfShape": (0,),
    **dict.fromkeys(("Expand", "Pad", "Reshape", "Split", "Tile", "TopK"), (1,)),
    "Range": (0, 1, 2),
    "Resize": (2, 3),
    "Slice": (1, 2, 3, 4),
}
"""Inputs that determine the shape of a node's output."""

MAX_AXES = 8
