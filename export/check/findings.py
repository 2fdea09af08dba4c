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
    """A rule: its text, how to fix a finding, and its severity unless a profile changes it."""

    text: str
    remedy: str
    severity: Severity = "error"


_FOLD = "fold constants: polygraphy surgeon sanitize --fold-constants in.onnx -o out.onnx"

RULES = {
    "invalid-model": Rule(
        "the file is a valid ONNX model", "fix the exporter; onnx.checker reports the same error"
    ),
    "opset": Rule(
        "the parser supports the default operator set's version",
        "export with another opset, or convert: onnx.version_converter.convert_version",
    ),
    "ir-version": Rule(
        "the parser supports the format version; an error where ONNX Runtime 1.10 reads it too",
        "set model.ir_version to the opset's (7 for opset 13) and save again",
        "warning",
    ),
    "domain": Rule(
        "every node is of the default domain, or a function of the file from TensorRT 9 on; a "
        "warning where the parser has an operator of that name, since it ignores the domain",
        "export without contrib operators; inline functions with onnx.inliner",
    ),
    "unused-domain": Rule(
        "every imported operator set is used, where ONNX Runtime 1.10 reads the file",
        "delete it from model.opset_import",
    ),
    "operator": Rule(
        "the parser supports the operator", "write it with operators that the parser supports"
    ),
    "attribute": Rule("the parser supports the values of attributes", "use a supported value"),
    "output": Rule(
        "no output is used that the parser does not write", "remove the further outputs"
    ),
    "constant-input": Rule("inputs that the parser needs while parsing are constants", _FOLD),
    "conv-constant-weights": Rule(
        "weights of convolutions are constants, or dequantized constants, before TensorRT 8.5",
        "write the convolution as a matrix product over shifted copies, or use TensorRT 8.5",
    ),
    "conv-constant-bias": Rule(
        "biases of convolutions are constants before TensorRT 11",
        "add the bias with an Add behind the convolution",
    ),
    "int64-range": Rule(
        "INT64 constants fit in INT32 before TensorRT 9, which silently clamps them",
        "keep indices and sizes below 2**31",
    ),
    "int64-io": Rule(
        "inputs and outputs are not INT64 before TensorRT 9, which binds them as INT32",
        "declare them INT32, and cast inside the graph",
        "warning",
    ),
    "type": Rule(
        "TensorRT supports the type of every tensor", "use float32, or int32 for integers"
    ),
    "double": Rule(
        "no tensor is float64, which becomes float32", "export the model in float32", "warning"
    ),
    "float16": Rule(
        "weights are float32 before TensorRT 8.4, which supports float16 weights with limits",
        "write float32, and let the builder compute in float16: --fp16",
        "warning",
    ),
    "operator-type": Rule(
        "operators that support only floats have no integer inputs",
        "cast to float32 before it and back behind it",
    ),
    "rank": Rule("no tensor has more than 8 axes", "merge axes with Reshape before and behind"),
    "dynamic-shape": Rule(
        "inputs have fixed shapes and determine none: bakit builds without optimization profiles",
        "fix them: onnxruntime.tools.make_dynamic_shape_fixed, or export with fixed shapes",
    ),
    "loop-state-shape": Rule(
        "the states of a Loop keep their shape and type",
        "use the final shape before the Loop starts",
    ),
    "if-outputs": Rule(
        "the branches of an If name their outputs differently before TensorRT 11",
        "rename the outputs of one branch",
    ),
    "many-nodes": Rule(
        "the graph is small enough to be built in 4 GB (jetson-nano)",
        "write repeated steps as one Loop: --localizer-form loop",
        "warning",
    ),
    "int8-hardware": Rule(
        "INT8 is used only where the hardware computes in it",
        "export with --fp16, which this hardware supports",
    ),
    "no-build": Rule(
        "a bundle has a build for the profile's TensorRT",
        "export it again: bakit export --target tensorrt",
    ),
    "qdq-type": Rule(
        "quantized values are INT8; from TensorRT 9 on also FP8, from 10 on INT4; of UINT8, a "
        "warning from 11 on",
        "quantize activations and weights to INT8: bakit export --target tensorrt --int8",
    ),
    "qdq-zero-point": Rule(
        "every zero point is a constant 0, and present where its type depends on it",
        "quantize symmetrically: bakit export --target tensorrt --int8",
    ),
    "qdq-scale": Rule(
        "scales are constants, finite and greater than 0",
        "calibrate again, on images for which this tensor varies",
    ),
    "qdq-axis": Rule(
        "only weights have scales by channel, along the axis of the output channels; a warning "
        "from TensorRT 11 on",
        "use one scale per activation, and one per output channel of weights",
    ),
    "qdq-bias": Rule(
        "biases are not quantized",
        "keep biases in float32: QuantizeBias=False in onnxruntime's quantize_static",
    ),
    "qdq-float16": Rule(
        "scales are float32; float16 from TensorRT 10 and opset 19 on",
        "convert to opset 19, or keep float32 around the quantized layers",
    ),
}
"""Every rule by its id; ids do not change."""
