"""Core ML's operators in numpy, those that bakit's programs contain.

Each takes its inputs by their names in Core ML and returns its one output. Source: the operators'
definitions in ``coremltools.converters.mil.mil.ops.defs``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

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
    pad: Array,
    dilations: Array | tuple[int, int] = (1, 1),
    groups: Array | int = 1,
    bias: Array | float = 0,
) -> Array:
    """Convolve ``(1, C, H, W)``, all channels or each by itself."""
    is_depthwise = groups > 1
    if np.any(np.asarray(dilations) != 1) or pad_type != "custom" or len(x) != 1:
        _refuse("conv", f"dilations, a batch, or padding {pad_type!r}")
    if is_depthwise and (x.shape[1], *weight.shape[:2]) != (groups, groups, 1):
        _refuse("conv", "groups that are neither one nor each channel")
    padded = np.pad(x[0], [(0, 0), *pad.reshape(2, 2)])
    down, across = strides
    patches = sliding_window_view(padded, weight.shape[2:], (1, 2))[:, ::down, ::across]
    if is_depthwise:
        result = np.einsum("chwij,cij->chw", patches, weight[:, 0])
    else:
        result = np.tensordot(weight, patches, ([1, 2, 3], [0, 3, 4]))
    return (result + np.reshape(bias, (-1, 1, 1)).astype(result.dtype))[None]


def _quantize(
    input: Array,  # noqa: A002  # Core ML's name
    scale: Array,
    output_dtype: str,
    zero_point: Array | int = 0,
    axis: Array | None = None,
) -> Array:
    bounds = np.iinfo(output_dtype)
    scale, zero = (_along(value, axis, input.ndim) for value in (scale, zero_point))
    levels = np.rint(input / scale) + zero
    return np.clip(levels, bounds.min, bounds.max).astype(output_dtype)


def _dequantize(
    input: Array,  # noqa: A002
    scale: Array,
    zero_point: Array | int = 0,
    axis: Array | None = None,
) -> Array:
    scale, zero = (_along(value, axis, input.ndim) for value in (scale, zero_point))
    return (input.astype(np.float32) - zero.astype(np.float32)) * scale


def _along(value: Array, axis: Array | None, rank: int) -> Array:
    """Spread a value per channel along its axis."""
    value = np.asarray(value)
    if value.ndim == 0 or axis is None:
        return value
    return np.expand_dims(value, [n for n in range(rank) if n != axis])


def _pad(x: Array, pad: Array, mode: str = "constant", constant_val: Array | float = 0) -> Array:
    if mode != "constant":
        _refuse("pad", f"mode {mode!r}")
    widths = [(0, 0)] * (x.ndim - len(pad) // 2) + [(int(a), int(b)) for a, b in pad.reshape(-1, 2)]
    return np.pad(x, widths, constant_values=np.asarray(constant_val).item())


def _reduction(function: Callable[..., Array]) -> Callable[..., Array]:
    def reduce(x: Array, axes: Array | None = None, keep_dims: Any = False) -> Array:
        over = None if axes is None else _whole(axes)
        return np.asarray(function(x, axis=over, keepdims=bool(keep_dims)))

    return reduce


def _concat(values: Sequence[Array], axis: Array, interleave: Any = False) -> Array:
    if interleave:
        _refuse("concat", "interleave")
    return np.concatenate(values, int(axis))


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


OPERATORS: Mapping[str, Callable[..., Array]] = {
    "add": np.add,
    "equal": np.equal,
    "exp": np.exp,
    "greater": np.greater,
    "identity": lambda x: x,
    "less": np.less,
    "maximum": np.maximum,
    "mul": np.multiply,
    "real_div": np.divide,
    "relu": lambda x: np.maximum(x, 0),
    "sigmoid": _sigmoid,
    "sqrt": np.sqrt,
    "sub": np.subtract,
    "cast": _cast,
    "clip": lambda x, alpha, beta: np.clip(x, alpha, beta),
    "concat": _concat,
    "constexpr_affine_dequantize": lambda quantized_data, **scales: _dequantize(
        quantized_data, **scales
    ),
    "conv": _conv,
    "dequantize": _dequantize,
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
    "select": lambda cond, a, b: np.where(cond, a, b),
    "sigmoid_hard": lambda x, alpha, beta: np.clip(x * alpha + beta, 0, 1),
    "slice_by_index": lambda x, begin, end: x[tuple(map(slice, begin, end))],
    "transpose": lambda x, perm: x.transpose(_whole(perm)),
    "upsample_nearest_neighbor": lambda x, scale_factor_height, scale_factor_width: x.repeat(
        int(scale_factor_height), -2
    ).repeat(int(scale_factor_width), -1),
}
"""NumPy implementation of each operator, by its name in Core ML."""
