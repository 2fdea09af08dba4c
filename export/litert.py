"""Export for LiteRT, formerly TensorFlow Lite: ONNX graphs as ``.tflite`` files, node by node.

The regressor's graph is the one of the target ``onnx``, float or quantized. Inside, every map is
``(1, height, width, channels)``. Dense layers are 1x1 convolutions, whose weights have scales per
channel in every version of the runtime.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
from ai_edge_litert import schema_py_generated as schema
from onnx import helper, numpy_helper

from bakit.errors import UnsupportedTargetError
from bakit.export.artifact import specs_of
from bakit.export.onnx.float16 import LAST
from bakit.export.onnx.int8 import PLAIN
from bakit.export.onnx.metadata import properties
from bakit.export.onnx.writer import readers_of
from bakit.export.ort import write_models
from bakit.export.tflite import Scales, Tensor, TfliteWriter
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from onnx import ModelProto, NodeProto

    from bakit.bundle import Artifact, Role
    from bakit.model.checkpoint import Checkpoint
    from bakit.session import Specs
    from bakit.targets import ExportRequest

METADATA = "bakit"
"""Name of a JSON document in each file: the properties of ``bakit.export.onnx.metadata``."""

_BINARY = {"Add": "ADD", "Mul": "MUL", "Sub": "SUB"}
_UNARY = {"Relu": "RELU", "Sigmoid": "LOGISTIC"}
_UNSIGNED = 128  # zero point of UINT8 minus that of INT8, LiteRT's type
_ACTIVATION = schema.ActivationFunctionType


def export(checkpoint: Checkpoint, request: ExportRequest, out: Path) -> Sequence[Artifact]:
    """Write ``regressor.tflite`` and ``localizer.tflite``.

    Inputs and outputs are float32, and so is the localizer.

    * FP16: the regressor's weights are stored as float16, except the last layer's; the arithmetic
      is float32.
    * INT8: the integers and scales of the target ``onnx``, with which the recipe was searched;
      h-swish, gates and sums are float32. 8-bit weights would move the youngest by a month.

    Raises:
        CheckpointError: If the request is for INT8 with another model's ranges.
    """

    def write(role: Role, graph: ModelProto) -> list[str]:
        data = tflite(
            graph,
            specs_of(role, checkpoint.header),
            f"bakit {role} of {checkpoint.name}; not a medical device",
            {METADATA: msgspec.json.encode(properties(graph), order="deterministic")},
            half=role == "regressor" and request.precision is Precision.FP16,
        )
        (out / f"{role}.tflite").write_bytes(data)
        return [f"{role}.tflite"]

    return write_models(checkpoint, request, out, write, PLAIN)


def tflite(
    model: ModelProto,
    specs: Specs,
    description: str,
    metadata: Mapping[str, bytes],
    *,
    half: bool = False,
) -> bytes:
    """Return one of bakit's ONNX models as a ``.tflite`` file.

    The model is the regressor, float or with quantize-dequantize pairs, or the student. With
    ``half``, weights are stored as float16, except those of the last layer.

    Raises:
        UnsupportedTargetError: If the translation of an operator is not implemented.
    """
    translator = _Translator(model, half=half)
    inputs = {spec.name: translator.input(spec.name, spec.shape) for spec in specs[0]}
    for node in model.graph.node:
        translator.node(node)
    outputs = {
        spec.name: translator.reshape(translator.float(spec.name), spec.name, spec.shape)
        for spec in specs[1]
    }
    return translator.writer.serialize(inputs, outputs, description, metadata)


class _Translator:
    """Translates node by node.

    By ONNX name, ``values`` are tensors of the file, ``constants`` arrays, ``integers`` the array
    and the scales behind a dequantized constant, and ``deferred`` the INT8 tensor behind another
    output of ``DequantizeLinear``, which only a float operator's reading turns into float.
    """

    def __init__(self, model: ModelProto, *, half: bool) -> None:
        self.writer = TfliteWriter()
        self.half = half
        self.readers = readers_of(model.graph)
        self.constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.values: dict[str, Tensor] = {}
        self.integers: dict[str, tuple[npt.NDArray[np.generic], tuple[float, ...]]] = {}
        self.deferred: dict[str, Tensor] = {}
        self.done: set[str] = set()  # nodes that an earlier one included

    def input(self, name: str, shape: Sequence[int]) -> Tensor:
        """Add an input; with one channel, a map has the same bytes in both layouts."""
        given = self.writer.tensor(name, shape)
        inside = (1, *shape[2:], 1) if len(shape) == 4 else (1, 1, *shape)
        self.values[name] = self.reshape(given, f"{name}/nhwc", inside)
        return given

    def reshape(self, x: Tensor, name: str, shape: Sequence[int]) -> Tensor:
        wanted = self.integer(f"{name}/shape", shape)
        return self.writer.node("RESHAPE", [x, wanted], self.writer.tensor(name, shape))

    def integer(self, name: str, value: npt.ArrayLike) -> Tensor:
        return self.writer.constant(name, np.array(value, np.int32))

    def emit(
        self,
        kind: str,
        inputs: Sequence[Tensor],
        name: str,
        shape: Sequence[int],
        options: Any = None,
    ) -> None:
        """Add a float operator, whose output is the ONNX tensor ``name``."""
        output = self.writer.tensor(f"{name}/nhwc", shape)
        self.values[name] = self.writer.node(kind, inputs, output, options)

    def float(self, name: str) -> Tensor:
        """Return a tensor in float32."""
        if name in self.constants and name not in self.values:
            value = self.constants[name].astype(np.float32)
            self.values[name] = self.writer.constant(name, value)
        elif name not in self.values:
            self.emit("DEQUANTIZE", [self.deferred[name]], name, self.deferred[name].shape)
        return self.values[name]

    def only_reader(self, name: str, kind: str) -> NodeProto | None:
        """Return the only reader of a tensor if it is of a kind."""
        after = self.readers.get(name, [])
        return after[0] if len(after) == 1 and after[0].op_type == kind else None

    def node(self, node: NodeProto) -> None:
        if node.name in self.done:
            return
        kind, name = node.op_type, node.output[0]
        if kind in _BINARY:
            inputs = [self.float(item) for item in node.input]
            shape = np.broadcast_shapes(*(item.shape for item in inputs))
            self.emit(_BINARY[kind], inputs, name, shape)
        elif kind in _UNARY:
            x = self.float(node.input[0])
            self.emit(_UNARY[kind], [x], name, x.shape)
        elif method := getattr(self, f"op_{kind.lower()}", None):
            method(node, name)
        else:
            message = f"LiteRT: the operator {kind!r} of node {node.name!r} is not translated"
            raise UnsupportedTargetError(message)

    def op_conv(self, node: NodeProto, name: str) -> None:
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        depthwise, stride = attributes.get("group", 1) > 1, attributes.get("strides", [1])[0]
        is_int8 = node.input[1] in self.integers
        arrays = [
            self.integers[item] if is_int8 else (self.constants[item], ())
            for item in node.input[1:3]
        ]
        weight, bias = (array for array, _ in arrays)
        # OIHW to OHWI; depthwise, O1HW to 1HWO.
        weight = weight.reshape(*weight.shape[:2], *(weight.shape[2:] or (1, 1)))
        weight = weight.transpose((1, 2, 3, 0) if depthwise else (0, 2, 3, 1))
        axis, activation, rounding = 3 if depthwise else 0, _ACTIVATION.NONE, None
        if is_int8:
            x, rounding = self.deferred[node.input[0]], self.only_reader(name, "QuantizeLinear")
            parts = [
                self.writer.constant(label, array, Scales(scale, axis=at))
                for label, array, (_, scale), at in zip(
                    node.input[1:], (weight, bias), arrays, (axis, 0), strict=True
                )
            ]
        else:
            x = self.float(node.input[0])
            pairs = zip(node.input[1:], (weight, bias), strict=True)
            parts = [self.weight(label, array, name) for label, array in pairs]
            if relu := self.only_reader(name, "Relu"):
                activation, name = _ACTIVATION.RELU, relu.output[0]
                self.done.add(relu.name)
        shape = (1, *(-(-n // stride) for n in x.shape[1:3]), weight.shape[axis])
        x, padding = self.padded(x, node.name, weight.shape[1], stride)
        kind = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
        options = (schema.DepthwiseConv2DOptionsT if depthwise else schema.Conv2DOptionsT)(
            padding, stride, stride, *[1] * depthwise, fusedActivationFunction=activation
        )
        if rounding is not None:
            self.done.add(rounding.name)
            self.writer.node(kind, [x, *parts], self.rounded(rounding, shape), options)
        else:
            self.emit(kind, [x, *parts], name, shape, options)

    op_gemm = op_conv

    def weight(self, name: str, value: npt.NDArray[np.generic], layer: str) -> Tensor:
        """Add a float constant of a layer, where asked as float16 and its conversion."""
        if not self.half or layer == LAST:
            return self.writer.constant(name, value.astype(np.float32))
        stored = self.writer.constant(f"{name}/half", value.astype(np.float16))
        return self.writer.node("DEQUANTIZE", [stored], self.writer.tensor(name, value.shape))

    def padded(self, x: Tensor, name: str, kernel: int, stride: int) -> tuple[Tensor, Any]:
        """Pad by half a kernel on each side, by an operator where LiteRT's SAME is another one."""
        pad = kernel // 2
        # SAME pads as little as gives ceil(n / stride) outputs, and less before than after.
        totals = {max((-(-n // stride) - 1) * stride + kernel - n, 0) for n in x.shape[1:3]}
        if totals == {2 * pad}:
            return x, schema.Padding.SAME
        amounts = self.integer(f"{name}/pads", [[0, 0], [pad, pad], [pad, pad], [0, 0]])
        shape = (1, *(n + 2 * pad for n in x.shape[1:3]), x.shape[3])
        output = self.writer.tensor(f"{name}/padded", shape, x.dtype, x.scales)
        return self.writer.node("PAD", [x, amounts], output), schema.Padding.VALID

    def rounded(self, node: NodeProto, shape: Sequence[int]) -> Tensor:
        """Add the output of a ``QuantizeLinear`` to UINT8 as INT8."""
        scale, zero = (self.constants[name].item() for name in node.input[1:3])
        name, scales = node.output[0], Scales((scale,), zero - _UNSIGNED)
        self.values[name] = self.writer.tensor(f"{name}/nhwc", shape, "int8", scales)
        return self.values[name]

    def op_quantizelinear(self, node: NodeProto, name: str) -> None:
        del name
        x = self.float(node.input[0])
        self.writer.node("QUANTIZE", [x], self.rounded(node, x.shape))

    def op_dequantizelinear(self, node: NodeProto, name: str) -> None:
        if node.input[0] in self.constants:
            scales = np.atleast_1d(self.constants[node.input[1]])
            self.integers[name] = self.constants[node.input[0]], tuple(scales.tolist())
        else:
            self.deferred[name] = self.values[node.input[0]]

    def op_hardsigmoid(self, node: NodeProto, name: str) -> None:
        """Emit h-swish if only a product with its input follows, else ReLU6(x + 3) / 6."""
        x = self.float(node.input[0])
        product = self.only_reader(name, "Mul")
        if product is not None and {*product.input} == {node.input[0], name}:
            self.done.add(product.name)
            self.emit("HARD_SWISH", [x], product.output[0], x.shape)
            return
        for label, kind, number, options in (
            (f"{name}/clipped", "ADD", 3.0, schema.AddOptionsT(_ACTIVATION.RELU6)),
            (name, "MUL", 1 / 6, None),
        ):
            constant = self.writer.constant(f"{label}/{kind}", np.array(number, np.float32))
            self.emit(kind, [x, constant], label, x.shape, options)
            x = self.values[label]

    def op_globalaveragepool(self, node: NodeProto, name: str) -> None:
        x = self.float(node.input[0])
        inputs, shape = [x, self.integer(f"{name}/axes", [1, 2])], (1, 1, 1, x.shape[3])
        self.emit("MEAN", inputs, name, shape, schema.ReducerOptionsT(keepDims=True))

    def op_flatten(self, node: NodeProto, name: str) -> None:
        """Emit nothing: behind a pool or before an output, the map itself is meant."""
        self.values[name] = self.float(node.input[0])

    op_reshape = op_flatten

    def op_concat(self, node: NodeProto, name: str) -> None:
        parts = [self.float(item) for item in node.input]
        shape = (1, 1, 1, sum(part.shape[3] for part in parts))
        self.emit("CONCATENATION", parts, name, shape, schema.ConcatenationOptionsT(axis=3))

    def op_resize(self, node: NodeProto, name: str) -> None:
        """Emit nearest-neighbour by whole factors: floor(i / factor) in both libraries."""
        x, scales = self.float(node.input[0]), self.constants[node.input[2]]
        size = [int(n * scale) for n, scale in zip(x.shape[1:3], scales[2:], strict=True)]
        inputs = [x, self.integer(f"{name}/size", size)]
        options = schema.ResizeNearestNeighborOptionsT()
        self.emit("RESIZE_NEAREST_NEIGHBOR", inputs, name, (1, *size, x.shape[3]), options)
