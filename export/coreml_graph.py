"""Our ONNX graphs as Core ML programs, node by node.

One translator serves the regressor in every precision and each localizer, so that what is shipped
to a phone comes from the graphs that every other target is made of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import helper, numpy_helper

from bakit.backends.coreml_library import Builder as mb  # noqa: N813  # coremltools' own name
from bakit.backends.coreml_library import Function, Program, coremltools, types
from bakit.errors import UnsupportedTargetError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from onnx import GraphProto, ModelProto, NodeProto

_BINARY = {
    "Add": "add",
    "Div": "real_div",
    "Equal": "equal",
    "Greater": "greater",
    "MatMul": "matmul",
    "Max": "maximum",
    "Mul": "mul",
    "Sub": "sub",
}
_UNARY = {
    "Abs": "abs",
    "Exp": "exp",
    "Relu": "relu",
    "Sigmoid": "sigmoid",
    "Sign": "sign",
    "Sqrt": "sqrt",
}
_REDUCTIONS = {
    "ReduceMax": "reduce_max",
    "ReduceMean": "reduce_mean",
    "ReduceMin": "reduce_min",
    "ReduceSum": "reduce_sum",
}
_DTYPES = {"float32": "fp32", "int32": "int32", "int64": "int32", "bool": "bool"}


def program(model: ModelProto) -> Any:
    """Return an ONNX model of ours as a MIL program.

    Raises:
        UnsupportedTargetError: If it has an operator that is not translated.
    """
    graph = model.graph
    mb.name_count.clear()  # names without one of ours are numbered through a whole process
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


class _Translator:
    """Holds what each name of the ONNX graph is: a MIL variable, or a constant array."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}

    def graph(self, graph: GraphProto) -> None:
        for tensor in graph.initializer:
            self.values[tensor.name] = numpy_helper.to_array(tensor)
        for node in graph.node:
            self.node(node)

    def value(self, name: str) -> Any:
        """Return what a node reads, an integer constant in Core ML's 32 bits."""
        value = self.values[name]
        if isinstance(value, np.ndarray) and value.dtype == np.int64:
            return value.astype(np.int32)
        return value

    def constant(self, name: str) -> Any:
        """Return a value that must be known when the model is written."""
        value = self.values[name]
        return value if isinstance(value, np.ndarray) else value.val

    def result(self, name: str) -> Any:
        """Return an output under its own name."""
        value = self.values[name]
        return value if value.name == name else mb.identity(x=value, name=name)

    def node(self, node: NodeProto) -> None:
        kind, name = node.op_type, _identifier(node.output[0])
        attributes = {item.name: helper.get_attribute_value(item) for item in node.attribute}
        inputs = [item for item in node.input if item]
        if kind == "Loop":
            self.loop(node, attributes["body"])
            return
        if kind in _BINARY:
            first, second = (self.value(item) for item in inputs)
            first, second = _at_least_one_variable(first, second)
            result = getattr(mb, _BINARY[kind])(x=first, y=second, name=name)
        elif kind in _UNARY:
            result = getattr(mb, _UNARY[kind])(x=self.value(inputs[0]), name=name)
        elif kind in _REDUCTIONS:
            axes = attributes.get("axes")
            axes = [int(n) for n in self.constant(inputs[1])] if len(inputs) > 1 else axes
            keep = bool(attributes.get("keepdims", 1))
            options = {} if axes is None else {"axes": list(axes)}
            result = getattr(mb, _REDUCTIONS[kind])(
                x=self.value(inputs[0]), keep_dims=keep, name=name, **options
            )
        else:
            method = getattr(self, f"op_{kind.lower()}", None)
            if method is None:
                message = f"Core ML: the operator {kind!r} of node {node.name!r} is not translated"
                raise UnsupportedTargetError(message)
            result = method(inputs, attributes, name)
        self.values[node.output[0]] = result

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

    def op_identity(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        value = self.values.get(inputs[0])
        return (
            value
            if value is None or isinstance(value, np.ndarray)
            else mb.identity(x=value, name=name)
        )

    def op_conv(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        top, left, bottom, right = attributes["pads"]
        return mb.conv(
            x=self.value(inputs[0]),
            weight=self.value(inputs[1]),
            bias=self.value(inputs[2]),
            strides=list(attributes["strides"]),
            pad_type="custom",
            pad=[top, bottom, left, right],
            groups=attributes.get("group", 1),
            name=name,
        )

    def op_gemm(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        x, y = self.value(inputs[0]), self.value(inputs[1])
        turned = {
            "transpose_x": bool(attributes.get("transA", 0)),
            "transpose_y": bool(attributes.get("transB", 0)),
        }
        if attributes.get("alpha", 1.0) != 1.0 or attributes.get("beta", 1.0) != 1.0:
            message = f"Core ML: the Gemm {name!r} is scaled, which is not translated"
            raise UnsupportedTargetError(message)
        bias = self.value(inputs[2]) if len(inputs) > 2 else None
        if isinstance(bias, np.ndarray) and turned == {"transpose_x": False, "transpose_y": True}:
            return mb.linear(x=x, weight=y, bias=bias, name=name)
        x, y = _at_least_one_variable(x, y)
        if bias is None:
            return mb.matmul(x=x, y=y, name=name, **turned)
        return mb.add(x=mb.matmul(x=x, y=y, **turned), y=bias, name=name)

    def op_hardsigmoid(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        alpha, beta = (np.float32(attributes[key]) for key in ("alpha", "beta"))
        return mb.sigmoid_hard(x=self.value(inputs[0]), alpha=alpha, beta=beta, name=name)

    def op_globalaveragepool(
        self, inputs: Sequence[str], attributes: dict[str, Any], name: str
    ) -> Any:
        del attributes
        return mb.reduce_mean(x=self.value(inputs[0]), axes=[2, 3], keep_dims=True, name=name)

    def op_flatten(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        return mb.reshape(x=self.value(inputs[0]), shape=[1, -1], name=name)

    def op_reshape(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        shape = [int(n) for n in self.constant(inputs[1])]
        return mb.reshape(x=self.value(inputs[0]), shape=shape, name=name)

    def op_transpose(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        x = self.value(inputs[0])
        order = attributes.get("perm") or range(len(x.shape))[::-1]
        return mb.transpose(x=x, perm=list(order), name=name)

    def op_concat(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        values = [self.value(item) for item in inputs]
        return mb.concat(values=values, axis=attributes["axis"], name=name)

    def op_slice(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        x = self.value(inputs[0])
        given = [[int(n) for n in self.constant(item)] for item in inputs[1:]]
        starts, ends = given[0], given[1]
        axes = given[2] if len(given) > 2 else list(range(len(starts)))
        steps = given[3] if len(given) > 3 else [1] * len(starts)
        begin, end, stride = [0] * x.rank, list(x.shape), [1] * x.rank
        for start, stop, axis, step in zip(starts, ends, axes, steps, strict=True):
            first, last, stride[axis] = slice(start, stop, step).indices(x.shape[axis])
            begin[axis], end[axis] = first, last
        return mb.slice_by_index(
            x=x,
            begin=begin,
            end=[max(n, 0) for n in end],
            stride=stride,
            end_mask=[step < 0 and stop < 0 for stop, step in zip(end, stride, strict=True)],
            name=name,
        )

    def op_pad(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        if attributes.get("mode", b"constant") != b"constant":
            message = f"Core ML: the padding of {name!r} is not translated"
            raise UnsupportedTargetError(message)
        before, after = np.split(self.constant(inputs[1]).astype(np.int32), 2)
        x = self.value(inputs[0])
        if (np.minimum(before, after) < 0).any():  # ONNX takes away what Core ML has to cut
            begin, end = np.maximum(-before, 0), np.array(x.shape) - np.maximum(-after, 0)
            x = mb.slice_by_index(x=x, begin=begin, end=end, name=f"{name}/cut")
        pad = np.stack([before, after], 1).reshape(-1).clip(0)
        fill = float(self.constant(inputs[2]).item()) if len(inputs) > 2 else 0.0
        return mb.pad(x=x, pad=pad, constant_val=np.float32(fill), name=name)

    def op_argmax(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        keep = bool(attributes.get("keepdims", 1))
        axis = attributes.get("axis", 0)
        return mb.reduce_argmax(x=self.value(inputs[0]), axis=axis, keep_dims=keep, name=name)

    def op_cast(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        dtype = helper.tensor_dtype_to_np_dtype(attributes["to"]).name
        return mb.cast(x=self.value(inputs[0]), dtype=_DTYPES[dtype], name=name)

    def op_clip(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        lowest, highest = (np.float32(self.constant(item)) for item in inputs[1:])
        return mb.clip(x=self.value(inputs[0]), alpha=lowest, beta=highest, name=name)

    def op_where(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        del attributes
        condition, first, second = (self.value(item) for item in inputs)
        return mb.select(cond=condition, a=first, b=second, name=name)

    def op_resize(self, inputs: Sequence[str], attributes: dict[str, Any], name: str) -> Any:
        wanted = (b"nearest", b"asymmetric", b"floor")
        keys = ("mode", "coordinate_transformation_mode", "nearest_mode")
        _, _, height, width = self.constant(inputs[1])
        if tuple(attributes[key] for key in keys) != wanted:
            message = f"Core ML: the resizing of {name!r} is not translated"
            raise UnsupportedTargetError(message)
        return mb.upsample_nearest_neighbor(
            x=self.value(inputs[0]),
            scale_factor_height=int(height),
            scale_factor_width=int(width),
            name=name,
        )

    def op_quantizelinear(
        self, inputs: Sequence[str], attributes: dict[str, Any], name: str
    ) -> Any:
        del attributes
        scale, zero = (self.constant(item) for item in inputs[1:])
        return mb.quantize(
            input=self.value(inputs[0]),
            scale=np.float32(scale),
            zero_point=zero[()],
            output_dtype=zero.dtype.name,
            name=name,
        )

    def op_dequantizelinear(
        self, inputs: Sequence[str], attributes: dict[str, Any], name: str
    ) -> Any:
        value = self.value(inputs[0])
        scale, zero = (self.constant(item) for item in inputs[1:])
        axis = attributes.get("axis", 1) if scale.ndim else 0
        if isinstance(value, np.ndarray):
            return mb.constexpr_affine_dequantize(
                quantized_data=value,
                zero_point=zero[()] if not zero.ndim else zero,
                scale=scale[()] if not scale.ndim else scale,
                axis=axis,
                name=name,
            )
        return mb.dequantize(input=value, scale=scale[()], zero_point=zero[()], name=name)


def _identifier(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def _variable(value: Any) -> Any:
    return mb.const(val=value) if isinstance(value, np.ndarray) else value


def _at_least_one_variable(first: Any, second: Any) -> tuple[Any, Any]:
    """Make a constant of a MIL variable where both are arrays: one must say what comes out."""
    if isinstance(first, np.ndarray) and isinstance(second, np.ndarray):
        return _variable(first), second
    return first, second
