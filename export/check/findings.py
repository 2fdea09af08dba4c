"""The findings of a check, and every rule."""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

Severity = Literal["error", "warning"]


class Finding(msgspec.Struct, frozen=True):
    """A broken rule.

    Attributes:
        severity: ``error``: TensorRT rejects the graph or computes something else. ``warning``: it
            works, with a loss or a risk.
        rule: A key of ``RULES``.
        graph: Place in the file: ``main``, or the path of a body, such as
            ``main/Loop(steps)/body``. Empty for the whole file.
        node: Name of the node or tensor; empty for the whole file.
        operator: The node's operator; empty for tensors and files.
        message: The problem.
        remedy: How to fix it.
    """

    severity: Severity
    rule: str
    graph: str
    node: str
    operator: str
    message: str
    remedy: str


class Rule(NamedTuple):
    """A rule: its severity unless a profile changes it, its text, and how to fix a finding."""

    severity: Severity
    text: str
    remedy: str


_FOLD = "fold constants: polygraphy surgeon sanitize --fold-constants in.onnx -o out.onnx"

RULES = {
    "invalid-model": Rule(
        "error", "the file is a valid ONNX model", "mend what wrote it; onnx.checker says the same"
    ),
    "opset": Rule(
        "error",
        "the default operator set is one that the parser was made for",
        "export with another opset, or convert: onnx.version_converter.convert_version",
    ),
    "ir-version": Rule(
        "warning",
        "the format version is one that the parser knows; an error where ONNX Runtime 1.10 refuses",
        "set model.ir_version to what the opset needs (7 for opset 13) and save again",
    ),
    "domain": Rule(
        "error",
        "every node is of the default domain, or a function of the file from TensorRT 9 on; a "
        "warning where the parser has an operator of that name, for it looks at nothing else",
        "export without contrib operators; inline functions with onnx.inliner",
    ),
    "unused-domain": Rule(
        "error",
        "no operator set is imported that no node uses, where ONNX Runtime 1.10 reads the file",
        "delete it from model.opset_import",
    ),
    "operator": Rule(
        "error", "the parser has the operator", "write it with operators that the parser has"
    ),
    "attribute": Rule(
        "error", "attributes have values that the parser takes", "use a value that it takes"
    ),
    "output": Rule(
        "error", "no output is used that the parser does not make", "leave the further outputs out"
    ),
    "constant-input": Rule(
        "error", "inputs that the parser reads while it parses are constants", _FOLD
    ),
    "conv-constant-weights": Rule(
        "error",
        "weights of convolutions are constants, or dequantized constants, before TensorRT 8.5",
        "write the convolution as a matrix product over shifted copies, or use TensorRT 8.5",
    ),
    "conv-constant-bias": Rule(
        "error",
        "biases of convolutions are constants before TensorRT 11",
        "add the bias with an Add behind the convolution",
    ),
    "int64-range": Rule(
        "error",
        "INT64 constants fit in INT32 before TensorRT 9, which clamps them without a word",
        "keep indices and sizes below 2**31",
    ),
    "int64-io": Rule(
        "warning",
        "inputs and outputs are not INT64 before TensorRT 9, which binds them as INT32",
        "declare them INT32, and cast inside the graph",
    ),
    "type": Rule(
        "error",
        "every tensor has a type that TensorRT computes in",
        "use float32, or int32 for what counts",
    ),
    "double": Rule(
        "warning", "no tensor is float64, which becomes float32", "export the model in float32"
    ),
    "float16": Rule(
        "warning",
        "weights are float32 before TensorRT 8.4, which reads float16 ones with limits",
        "write float32, and let the builder compute in float16: --fp16",
    ),
    "operator-type": Rule(
        "error",
        "operators that compute in floats alone are not given integers",
        "cast to float32 before it and back behind it",
    ),
    "rank": Rule(
        "error", "no tensor has more than 8 axes", "merge axes with Reshape before and behind"
    ),
    "dynamic-shape": Rule(
        "error",
        "inputs have fixed shapes and decide none: bakit builds without optimization profiles",
        "fix them: onnxruntime.tools.make_dynamic_shape_fixed, or export with fixed shapes",
    ),
    "loop-state-shape": Rule(
        "error",
        "what a Loop carries keeps its shape and type",
        "give it its final shape before the Loop begins",
    ),
    "if-outputs": Rule(
        "error",
        "the branches of an If name their outputs differently before TensorRT 11",
        "rename the outputs of one branch",
    ),
    "many-nodes": Rule(
        "warning",
        "the graph is small enough to be built in 4 GB (jetson-nano)",
        "write repeated steps as one Loop instead of spelling them out: --localizer-form loop",
    ),
    "int8-hardware": Rule(
        "error",
        "nothing asks for INT8 where the hardware has none",
        "export with --fp16, which this hardware computes in",
    ),
    "no-build": Rule(
        "error",
        "a bundle says what the profile's TensorRT builds from",
        "export it again: bakit export --target tensorrt",
    ),
    "qdq-type": Rule(
        "error",
        "quantized values are INT8; from TensorRT 9 on also FP8, from 10 on INT4; of UINT8, a "
        "warning from 11 on",
        "quantize activations and weights to INT8: bakit export --target tensorrt --int8",
    ),
    "qdq-zero-point": Rule(
        "error",
        "every zero point is a constant 0, and is there where its type depends on it",
        "quantize symmetrically: bakit export --target tensorrt --int8",
    ),
    "qdq-scale": Rule(
        "error",
        "scales are constants, finite and greater than 0",
        "calibrate again, on images that make this tensor move",
    ),
    "qdq-axis": Rule(
        "error",
        "scales by channel are for weights alone, along the axis of the output channels; a "
        "warning from TensorRT 11 on",
        "use one scale for an activation, and one an output channel for weights",
    ),
    "qdq-bias": Rule(
        "error",
        "biases are not quantized",
        "keep biases in float32: QuantizeBias=False in onnxruntime's quantize_static",
    ),
    "qdq-float16": Rule(
        "error",
        "scales are float32; float16 from TensorRT 10 and opset 19 on",
        "convert to opset 19, or keep float32 around the quantized layers",
    ),
}
"""Every rule by its id; ids do not change."""
