"""Core ML's operators in numpy, those that bakit's programs contain.

Each takes its inputs by their names in Core ML and returns its one output. Source: the operators'
definitions in ``coremltools.converters.mil.mil.ops.defs``.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np

from bakit.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

Array: TypeAlias = Any
"""A numpy array of any dtype."""

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
    padded = np.pad(x[0], ((0, 0), (top, bottom), (left, right)))
    down, across = _whole(strides)
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
    return _whole(pad)


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
    def is_set(mask: Array | None, axis: int) -> bool:
        return mask is not None and bool(mask[axis])

    picks: list[slice | int] = []
    for axis in range(x.ndim):
        first, last = int(begin[axis]), int(end[axis])
        if is_set(squeeze_mask, axis):
            picks.append(first)
            continue
        step = 1 if stride is None else int(stride[axis])
        start = None if is_set(begin_mask, axis) else first
        stop = None if is_set(end_mask, axis) else last
        picks.append(slice(start, stop, step))
    return x[tuple(picks)]


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
        over = None if axes is None else _whole(axes)
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return reduce


def _concat(values: Sequence[Array], axis: Array, interleave: Any = False) -> Array:
    if interleave:
        _refuse("concat", "interleave")
    return np.concatenate(values, int(axis))


def _elementwise(function: Callable[..., Array]) -> Callable[..., Array]:
    """Let a numpy function take its operands by Core ML's names."""
    return lambda x, y=None: function(x) if y is None else function(x, y)


def _sigmoid(x: Array) -> Array:
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-x))


def _matmul(x: Array, y: Array, transpose_x: Any = False, transpose_y: Any = False) -> Array:
    first = np.swapaxes(x, -1, -2) if transpose_x else x
    second = np.swapaxes(y, -1, -2) if transpose_y else y
    return first @ second


def _argmax(
    x: Array, axis: Array | int = -1, keep_dims: Any = False, output_dtype: str = "int32"
) -> Array:
    return np.argmax(x, axis=int(axis), keepdims=bool(keep_dims)).astype(output_dtype)


def _cast(x: Array, dtype: str) -> Array:
    value: Array = np.asarray(x).astype(_DTYPES[dtype])
    return value.astype(np.float32) if dtype == "fp16" else value


def _whole(numbers: Array) -> tuple[int, ...]:
    return tuple(int(n) for n in numbers)


def _refuse(operator: str, what: str) -> NoReturn:
    message = f"the reference runtime does not implement {operator!r} with {what}"
    raise BundleError(message)


_ELEMENTWISE: Mapping[str, Callable[..., Array]] = {
    "abs": np.abs,
    "add": np.add,
    "equal": np.equal,
    "exp": np.exp,
    "greater": np.greater,
    "identity": np.asarray,
    "less": np.less,
    "maximum": np.maximum,
    "mul": np.multiply,
    "real_div": np.divide,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
    "sign": np.sign,
    "sqrt": np.sqrt,
    "square": np.square,
    "sub": np.subtract,
}

OPERATORS: Mapping[str, Callable[..., Array]] = {
    **{name: _elementwise(function) for name, function in _ELEMENTWISE.items()},
    "cast": _cast,
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "concat": _concat,
    "constexpr_affine_dequantize": lambda quantized_data, **scales: _dequantize(
        quantized_data, **scales
    ),
    "conv": _conv,
    "dequantize": _dequantize,
    "expand_dims": lambda x, axes: np.expand_dims(x, _whole(axes)),
    "inverse": lambda x, epsilon=1e-4: 1 / (x + epsilon),
    "linear": lambda x, weight, bias=0: x @ weight.T + bias,
    "matmul": _matmul,
    "pad": _pad,
    "quantize": _quantize,
    "reduce_argmax": _argmax,
    "reduce_max": _reduction(np.max),
    "reduce_mean": _reduction(np.mean),
    "reduce_min": _reduction(np.min),
    "reduce_sum": _reduction(np.sum),
    "reshape": lambda x, shape: x.reshape(_whole(shape)),
    "rsqrt": lambda x, epsilon=1e-12: 1 / np.sqrt(x + epsilon),
    "select": lambda cond, a, b: np.where(cond, a, b),
    "sigmoid_hard": lambda x, alpha, beta: np.clip(x * alpha + beta, 0, 1),
    "slice_by_index": _slice_by_index,
    "squeeze": lambda x, axes=None: np.squeeze(x, None if axes is None else _whole(axes)),
    "thresholded_relu": lambda x, alpha: np.where(x >= alpha, x, np.zeros_like(x)),
    "transpose": lambda x, perm: x.transpose(_whole(perm)),
    "upsample_nearest_neighbor": lambda x, scale_factor_height, scale_factor_width: x.repeat(
        int(scale_factor_height), -2
    ).repeat(int(scale_factor_width), -1),
}
"""NumPy implementation of each operator, by its name in Core ML."""
