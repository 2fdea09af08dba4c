"""Core ML's operators in numpy, those that our programs contain.

Each takes its inputs by their names in Core ML and returns its one output. Source: the operators'
definitions in coremltools, ``coremltools.converters.mil.mil.ops.defs``.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from bakit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Array: TypeAlias = Any
"""A numpy array; which dtype it has is the program's business."""

_DTYPES = {"fp16": np.float16, "fp32": np.float32, "int32": np.int32, "bool": np.bool_}


def _conv(
    x: Array,
    weight: Array,
    strides: Array,
    pad_type: str,
    pad: Array | None = None,
    dilations: Array | None = None,
    groups: Array | int = 1,
    bias: Array | None = None,
) -> Array:
    """Convolve ``(1, C, H, W)``: a matrix product, or for depthwise a sum over the kernel."""
    groups, (outputs, inputs, height, width) = int(groups), weight.shape
    if dilations is not None and np.any(dilations != 1):
        _refuse("conv", "dilations")
    if groups not in {1, x.shape[1]} or (groups > 1 and (inputs, outputs) != (1, groups)):
        _refuse("conv", "groups that are neither one nor each channel")
    if x.shape[0] != 1 or x.ndim != 4:
        _refuse("conv", f"an input of shape {x.shape}")
    top, bottom, left, right = _padding(pad_type, pad)
    padded = (
        np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
        if any((top, bottom, left, right))
        else x[0]
    )
    down, across = (int(n) for n in strides)
    rows = (padded.shape[1] - height) // down + 1
    columns = (padded.shape[2] - width) // across + 1
    taps = [
        padded[:, i : i + (rows - 1) * down + 1 : down, j : j + (columns - 1) * across + 1 : across]
        for i, j in product(range(height), range(width))
    ]
    if groups == 1:
        patches = np.stack(taps, 1).reshape(inputs * height * width, rows * columns)
        result = (weight.reshape(outputs, -1) @ patches).reshape(outputs, rows, columns)
    else:
        factors = weight.reshape(outputs, -1, 1, 1)
        result = taps[0] * factors[:, 0]
        for index, tap in enumerate(taps[1:], start=1):
            result += tap * factors[:, index]
    if bias is not None:
        result += bias[:, None, None]
    return result[None]


def _padding(pad_type: str, pad: Array | None) -> tuple[int, ...]:
    if pad_type == "valid":
        return (0, 0, 0, 0)
    if pad_type != "custom" or pad is None:
        _refuse("conv", f"padding {pad_type!r}")
    return tuple(int(n) for n in pad)


def _linear(x: Array, weight: Array, bias: Array | None = None) -> Array:
    result = x @ weight.T
    return result if bias is None else result + bias


def _matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    first = np.swapaxes(x, -1, -2) if transpose_x else x
    second = np.swapaxes(y, -1, -2) if transpose_y else y
    return first @ second


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _sigmoid_hard(x: Array, alpha: Array, beta: Array) -> Array:
    return np.clip(x * alpha + beta, 0, 1)


def _clip(x: Array, alpha: Array, beta: Array) -> Array:
    return np.clip(x, alpha, beta)


def _thresholded_relu(x: Array, alpha: Array) -> Array:
    return np.where(x >= alpha, x, np.zeros_like(x))


def _quantize(
    input: Array,  # noqa: A002  # Core ML's name
    scale: Array,
    output_dtype: str,
    zero_point: Array | int = 0,
    axis: Array | None = None,
) -> Array:
    bounds = np.iinfo(output_dtype)
    scale, zero = _along(scale, axis, input.ndim), _along(np.asarray(zero_point), axis, input.ndim)
    levels = np.rint(input / scale) + zero
    return np.clip(levels, bounds.min, bounds.max).astype(output_dtype)


def _dequantize(
    input: Array,  # noqa: A002
    scale: Array,
    zero_point: Array | int = 0,
    axis: Array | None = None,
) -> Array:
    scale, zero = _along(scale, axis, input.ndim), _along(np.asarray(zero_point), axis, input.ndim)
    return (input.astype(np.float32) - zero.astype(np.float32)) * scale


def _constexpr_affine_dequantize(
    quantized_data: Array, zero_point: Array, scale: Array, axis: Array
) -> Array:
    return _dequantize(quantized_data, scale, zero_point, axis)


def _along(value: Array, axis: Array | None, rank: int) -> Array:
    """Spread a value per channel along its axis."""
    if value.ndim == 0 or axis is None:
        return value
    shape = [1] * rank
    shape[int(axis)] = -1
    return value.reshape(shape)


def _pad(x: Array, pad: Array, mode: str = "constant", constant_val: Array | float = 0) -> Array:
    if mode != "constant":
        _refuse("pad", f"mode {mode!r}")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(int(a), int(b)) for a, b in pad.reshape(-1, 2)]
    return np.pad(x, widths, constant_values=np.asarray(constant_val).item())


def _slice_by_index(
    x: Array,
    begin: Array,
    end: Array,
    stride: Array | None = None,
    begin_mask: Array | None = None,
    end_mask: Array | None = None,
    squeeze_mask: Array | None = None,
) -> Array:
    picks: list[slice | int] = []
    for axis in range(x.ndim):
        first: int | None = int(begin[axis])
        last: int | None = int(end[axis])
        if squeeze_mask is not None and squeeze_mask[axis]:
            picks.append(int(begin[axis]))
            continue
        if begin_mask is not None and begin_mask[axis]:
            first = None
        if end_mask is not None and end_mask[axis]:
            last = None
        picks.append(slice(first, last, 1 if stride is None else int(stride[axis])))
    return x[tuple(picks)]


def _upsample(x: Array, scale_factor_height: Array, scale_factor_width: Array) -> Array:
    return x.repeat(int(scale_factor_height), -2).repeat(int(scale_factor_width), -1)


def _reduction(
    function: Callable[..., Array],
) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
        over = None if axes is None else tuple(int(n) for n in axes)
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return reduce


def _reduce_argmax(
    x: Array, axis: Array | int = -1, keep_dims: Any = False, output_dtype: str = "int32"
) -> Array:
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def _cast(x: Array, dtype: str) -> Array:
    value: Array = np.asarray(x).astype(_DTYPES[dtype])
    return value.astype(np.float32) if dtype == "fp16" else value


def _concat(values: Sequence[Array], axis: Array, interleave: Any = False) -> Array:
    if interleave:
        _refuse("concat", "interleave")
    return np.concatenate(values, int(axis))


def _reshape(x: Array, shape: Array) -> Array:
    return x.reshape([int(n) for n in shape])


def _transpose(x: Array, perm: Array) -> Array:
    return x.transpose([int(n) for n in perm])


def _expand_dims(x: Array, axes: Array) -> Array:
    return np.expand_dims(x, tuple(int(n) for n in axes))


def _squeeze(x: Array, axes: Array | None = None) -> Array:
    return np.squeeze(x, None if axes is None else tuple(int(n) for n in axes))


def _select(cond: Array, a: Array, b: Array) -> Array:
    return np.where(cond, a, b)


def _rsqrt(x: Array, epsilon: Array | float = 1e-12) -> Array:
    return 1 / np.sqrt(x + epsilon)


def _inverse(x: Array, epsilon: Array | float = 1e-4) -> Array:
    return 1 / (x + epsilon)


def _refuse(operator: str, what: str) -> NoReturn:
    message = f"the reference runtime has no {operator!r} with {what}"
    raise BundleError(message)


def _binary(function: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    def compute(x: Array, y: Array) -> Array:
        return function(x, y)

    return compute


def _unary(function: Callable[[Array], Array]) -> Callable[..., Array]:
    def compute(x: Array) -> Array:
        return function(x)

    return compute


OPERATORS: Mapping[str, Callable[..., Array]] = {
    "abs": _unary(np.abs),
    "add": _binary(np.add),
    "cast": _cast,
    "clip": _clip,
    "concat": _concat,
    "constexpr_affine_dequantize": _constexpr_affine_dequantize,
    "conv": _conv,
    "dequantize": _dequantize,
    "equal": _binary(np.equal),
    "exp": _unary(np.exp),
    "expand_dims": _expand_dims,
    "greater": _binary(np.greater),
    "identity": _unary(np.asarray),
    "inverse": _inverse,
    "less": _binary(np.less),
    "linear": _linear,
    "matmul": _matmul,
    "maximum": _binary(np.maximum),
    "mul": _binary(np.multiply),
    "pad": _pad,
    "quantize": _quantize,
    "real_div": _binary(np.divide),
    "reduce_argmax": _reduce_argmax,
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_sum": _reduction(np.sum),
    "relu": _unary(lambda x: np.maximum(x, 0)),
    "reshape": _reshape,
    "rsqrt": _rsqrt,
    "select": _select,
    "sigmoid": _unary(_sigmoid),
    "sigmoid_hard": _sigmoid_hard,
    "sign": _unary(np.sign),
    "slice_by_index": _slice_by_index,
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "squeeze": _squeeze,
    "sub": _binary(np.subtract),
    "thresholded_relu": _thresholded_relu,
    "transpose": _transpose,
    "upsample_nearest_neighbor": _upsample,
}
"""What computes each operator, by its name in Core ML."""
