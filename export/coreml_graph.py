"""bakit's ONNX graphs as Core ML programs, node by node.

One translator serves the regressor in every precision and each localizer, so a phone runs the same
graphs as every other target.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import numpy as np
from onnx import helper, numpy_helper

from bakit.backends.coreml_library import Builder as mb  # noqa: N813  # coremltools' own name
from bakit.backends.coreml_library import Function, Program, coremltools, types
from bakit.errors import UnsupportedTargetError

if TYPE_CHECKING:
    from onnx import GraphProto, ModelProto, NodeProto

_BINARY = {"Div": "real_div", "Max": "maximum"} | {
    name: name.lower() for name in ("Add", "Equal", "Greater", "MatMul", "Mul", "Sub")
}
_UNARY = {name: name.lower() for name in ("Abs", "Exp", "Relu", "Sigmoid", "Sign", "Sqrt")}
_REDUCTIONS = {f"Reduce{kind}": f"reduce_{kind.lower()}" for kind in ("Max", "Mean", "Min", "Sum")}
_DTYPES = {"float32": "fp32", "int32": "int32", "int64": "int32", "bool": "bool"}


def program(model: ModelProto) -> Any:
    """Return one of bakit's ONNX models as a MIL program.

    Raises:
        UnsupportedTargetError: If the translation of an operator is not implemented.
    """
    graph = model.graph
    mb.name_count.clear()  # generated names are numbered through the whole process
    placeholders = {
        item.name: mb.placeholder(
            [axis.dim_value for axis in item.type.tensor_type.shape.dim], dtype=types.fp32
        )
        for item in graph.input
    }
    result = Program()
    with Function(placeholders, opset_version=coremltools.target.iOS17) as function:
        translator = _Translator()
        translator.values.update(function.inputs)
        translator.graph(graph)
        function.set_outputs([translator.result(item.name) for item in graph.output])
    result.add_function("main", function)
    return result


class _Node(NamedTuple):
    """One ONNX node: the name of its output, of its inputs, and its attributes."""

    name: str
    inputs: list[str]
    attributes: dict[str, Any]


class _Translator:
    """Translates node by node; ``values`` are MIL variables and constant arrays, by ONNX name."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def graph(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)
        for node in graph.node:
            self.node(node)

    def value(self, name: str) -> Any:
        """Return an input of a node; integer constants in Core ML's 32 bits."""
        value = self.values[name]
        if isinstance(value, np.ndarray) and value.dtype == np.int64:
            return value.astype(np.int32)
        return value

    def constant(self, name: str) -> Any:
        """Return an input whose value must be known when the model is written."""
        value = self.values[name]
        return value if isinstance(value, np.ndarray) else value.val

    def integers(self, name: str) -> list[int]:
        """Return such an input as whole numbers."""
        return [int(n) for n in self.constant(name)]

    def result(self, name: str) -> Any:
        """Return an output under its own name."""
        value = self.values[name]
        return value if value.name == name else mb.identity(x=value, name=name)

    def node(self, proto: NodeProto) -> None:
        kind = proto.op_type
        node = _Node(
            "".join(letter if letter.isalnum() else "_" for letter in proto.output[0]),
            [item for item in proto.input if item],
            {item.name: helper.get_attribute_value(item) for item in proto.attribute},
        )
        if kind == "Loop":
            self.loop(proto, node.attributes["body"])
            return
        if kind in _BINARY:
            x, y = _at_least_one_variable(*map(self.value, node.inputs))
            result = getattr(mb, _BINARY[kind])(x=x, y=y, name=node.name)
        elif kind in _UNARY:
            result = self.emit(_UNARY[kind], node)
        elif kind in _REDUCTIONS:
            result = self.reduction(_REDUCTIONS[kind], node)
        elif method := getattr(self, f"op_{kind.lower()}", None):
            result = method(node)
        else:
            _refuse(f"the operator {kind!r} of node {proto.name!r}")
        self.values[proto.output[0]] = result

    def emit(self, operator: str, node: _Node, **options: Any) -> Any:
        """Emit a MIL operator on the node's first input."""
        x = self.value(node.inputs[0])
        return getattr(mb, operator)(x=x, name=node.name, **options)

    def reduction(self, operator: str, node: _Node) -> Any:
        axes = node.attributes.get("axes")
        if len(node.inputs) > 1:
            axes = self.integers(node.inputs[1])
        options = {} if axes is None else {"axes": list(axes)}
        keep = bool(node.attributes.get("keepdims", 1))
        return self.emit(operator, node, keep_dims=keep, **options)

    def loop(self, node: NodeProto, body: GraphProto) -> None:
        """Emit ONNX's counted Loop as ``while_loop``."""
        times = int(self.constant(node.input[0]))
        entering = [item.name for item in body.input[2:]]
        leaving = [item.name for item in body.output[1:]]
        start = [mb.const(val=np.int32(0))]
        start += [_variable(self.value(name)) for name in node.input[2:]]

        def proceed(step: Any, *state: Any) -> Any:
            del state
            return mb.less(x=step, y=np.int32(times))

        def turn(step: Any, *state: Any) -> Any:
            self.values.update(zip(entering, state, strict=True))
            self.graph(body)
            return (mb.add(x=step, y=np.int32(1)), *(self.values[name] for name in leaving))

        results = mb.while_loop(_cond=proceed, _body=turn, loop_vars=tuple(start))
        self.values.update(zip(node.output, results[1:], strict=True))

    def op_identity(self, node: _Node) -> Any:
        value = self.values.get(node.inputs[0])
        if value is None or isinstance(value, np.ndarray):
            return value
        return mb.identity(x=value, name=node.name)

    def op_conv(self, node: _Node) -> Any:
        top, left, bottom, right = node.attributes["pads"]
        return self.emit(
            "conv",
            node,
            weight=self.value(node.inputs[1]),
            bias=self.value(node.inputs[2]),
            strides=list(node.attributes["strides"]),
            pad_type="custom",
            pad=[top, bottom, left, right],
            groups=node.attributes.get("group", 1),
        )

    def op_gemm(self, node: _Node) -> Any:
        x, y, *bias = map(self.value, node.inputs)
        turned = [bool(node.attributes.get(key, 0)) for key in ("transA", "transB")]
        if {"alpha", "beta"} & {*node.attributes} or (bias and turned != [False, True]):
            _refuse(f"the form of the Gemm {node.name!r}")
        if bias:
            return mb.linear(x=x, weight=y, bias=bias[0], name=node.name)
        x, y = _at_least_one_variable(x, y)
        return mb.matmul(x=x, y=y, transpose_x=turned[0], transpose_y=turned[1], name=node.name)

    def op_hardsigmoid(self, node: _Node) -> Any:
        alpha, beta = (np.float32(node.attributes[key]) for key in ("alpha", "beta"))
        return self.emit("sigmoid_hard", node, alpha=alpha, beta=beta)

    def op_globalaveragepool(self, node: _Node) -> Any:
        return self.emit("reduce_mean", node, axes=[2, 3], keep_dims=True)

    def op_flatten(self, node: _Node) -> Any:
        return self.emit("reshape", node, shape=[1, -1])

    def op_reshape(self, node: _Node) -> Any:
        return self.emit("reshape", node, shape=self.integers(node.inputs[1]))

    def op_transpose(self, node: _Node) -> Any:
        rank = len(self.value(node.inputs[0]).shape)
        return self.emit(
            "transpose", node, perm=list(node.attributes.get("perm") or range(rank)[::-1])
        )

    def op_concat(self, node: _Node) -> Any:
        values = [self.value(item) for item in node.inputs]
        return mb.concat(values=values, axis=node.attributes["axis"], name=node.name)

    def op_slice(self, node: _Node) -> Any:
        if len(node.inputs) != 4:
            _refuse(f"the Slice {node.name!r}, with steps or without axes,")
        x = self.value(node.inputs[0])
        begin, end = [0] * x.rank, list(x.shape)
        for start, stop, axis in zip(*map(self.integers, node.inputs[1:]), strict=True):
            begin[axis], end[axis], _ = slice(start, stop).indices(x.shape[axis])
        return mb.slice_by_index(x=x, begin=begin, end=end, name=node.name)

    def op_pad(self, node: _Node) -> Any:
        if node.attributes.get("mode", b"constant") != b"constant":
            _refuse(f"the padding of {node.name!r}")
        before, after = np.split(self.constant(node.inputs[1]).astype(np.int32), 2)
        x = self.value(node.inputs[0])
        if (np.minimum(before, after) < 0).any():  # ONNX takes away what Core ML has to cut
            begin, end = np.maximum(-before, 0), np.array(x.shape) - np.maximum(-after, 0)
            x = mb.slice_by_index(x=x, begin=begin, end=end, name=f"{node.name}/cut")
        pad = np.stack([before, after], 1).reshape(-1).clip(0)
        fill = float(self.constant(node.inputs[2]).item()) if len(node.inputs) > 2 else 0.0
        return mb.pad(x=x, pad=pad, constant_val=np.float32(fill), name=node.name)

    def op_argmax(self, node: _Node) -> Any:
        keep = bool(node.attributes.get("keepdims", 1))
        axis = node.attributes.get("axis", 0)
        return self.emit("reduce_argmax", node, axis=axis, keep_dims=keep)

    def op_cast(self, node: _Node) -> Any:
        dtype = helper.tensor_dtype_to_np_dtype(node.attributes["to"]).name
        return self.emit("cast", node, dtype=_DTYPES[dtype])

    def op_clip(self, node: _Node) -> Any:
        lowest, highest = (np.float32(self.constant(item)) for item in node.inputs[1:])
        return self.emit("clip", node, alpha=lowest, beta=highest)

    def op_where(self, node: _Node) -> Any:
        condition, first, second = (self.value(item) for item in node.inputs)
        return mb.select(cond=condition, a=first, b=second, name=node.name)

    def op_resize(self, node: _Node) -> Any:
        wanted = (b"nearest", b"asymmetric", b"floor")
        keys = ("mode", "coordinate_transformation_mode", "nearest_mode")
        _, _, height, width = self.constant(node.inputs[1])
        if tuple(node.attributes[key] for key in keys) != wanted:
            _refuse(f"the resizing of {node.name!r}")
        factors = {"scale_factor_height": int(height), "scale_factor_width": int(width)}
        return self.emit("upsample_nearest_neighbor", node, **factors)

    def op_quantizelinear(self, node: _Node) -> Any:
        scale, zero = (self.constant(item) for item in node.inputs[1:])
        return mb.quantize(
            input=self.value(node.inputs[0]),
            scale=np.float32(scale),
            zero_point=zero[()],
            output_dtype=zero.dtype.name,
            name=node.name,
        )

    def op_dequantizelinear(self, node: _Node) -> Any:
        value = self.value(node.inputs[0])
        scale, zero = (self.constant(item) for item in node.inputs[1:])
        axis = node.attributes.get("axis", 1) if scale.ndim else 0
        if isinstance(value, np.ndarray):
            return mb.constexpr_affine_dequantize(
                quantized_data=value,
                zero_point=zero[()] if not zero.ndim else zero,
                scale=scale[()] if not scale.ndim else scale,
                axis=axis,
                name=node.name,
            )
        return mb.dequantize(input=value, scale=scale[()], zero_point=zero[()], name=node.name)


def _refuse(what: str) -> NoReturn:
    message = f"Core ML: {what} is not translated"
    raise UnsupportedTargetError(message)


def _variable(value: Any) -> Any:
    return mb.const(val=value) if isinstance(value, np.ndarray) else value


def _at_least_one_variable(first: Any, second: Any) -> tuple[Any, Any]:
    """Make one operand a MIL constant where both are arrays: it decides the result's type."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return _variable(first), second
    return first, second
