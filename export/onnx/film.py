"""From a film's grey values to the networks' inputs, as ONNX nodes.

They reproduce ``bakit.hand.working``, ``bakit.image.equalize`` and ``bakit.image.resize``, and of
OpenCV what these call: INTER_AREA, INTER_LINEAR on bytes in its fixed point, and equalizeHist.
Sizes are scalars of the graph, int64: films have any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from onnx import numpy_helper

from bakit.image.resize import ROWS

if TYPE_CHECKING:
    import numpy.typing as npt

    from bakit.export.onnx.writer import GraphWriter

FLOAT, INT32, INT64, DOUBLE = 1, 6, 7, 11
"""ONNX's numbers of data types, for Cast."""

FLAT = np.array([-1], np.int64)
_COLUMN = np.array([-1, 1], np.int64)
"""Shapes of a vector and of a column, for Reshape."""

_UNIT = 2048
"""OpenCV's fixed point of bilinear weights on bytes."""

_BITS = 20
"""Powers of two below the longest film."""


class Film(NamedTuple):
    """Grey values in the graph: uint8 ``(height, width)``."""

    pixels: str
    height: str
    width: str


def measured(w: GraphWriter, pixels: str) -> Film:
    """Return a film with its size."""
    shape = w.node("Shape", pixels)
    return Film(pixels, *(w.node("Gather", shape, np.int64(axis)) for axis in (0, 1)))


def percentile(w: GraphWriter, values: str, count: int, share: float) -> str:
    """Return a percentile of ``count`` values as ``np.percentile`` does, as a double scalar."""
    at = (count - 1) * share
    below, part = int(at), at - int(at)
    rows = [below, min(below + 1, count - 1)]
    largest = below * 2 > count
    order = [count - 1 - row for row in rows] if largest else rows
    size = np.array([max(order) + 1], np.int64)
    ends = [f"percentile/{share:g}/{end}" for end in ("values", "indices")]
    nearest = w.nodes(
        "TopK", values, w.constant(size), outputs=ends, axis=0, largest=int(largest), sorted=1
    )[0]
    low, high = (w.node("Gather", nearest, np.int64(row)) for row in order)
    step = w.node("Cast", w.node("Sub", high, low), to=DOUBLE)
    if part >= 0.5:
        low, step, part = high, step, part - 1
    return w.node("Add", w.node("Cast", low, to=DOUBLE), w.node("Mul", step, np.float64(part)))


def working_nodes(w: GraphWriter, film: Film, size: int) -> str:
    """Return the localizer's input, ``(size, size)`` float32 (``bakit.hand.working``)."""
    grey = w.node("Div", _squashed(w, film, size), np.float32(255))
    values = w.node("Reshape", grey, FLAT)
    low, high = (percentile(w, values, size * size, share) for share in (0.01, 0.99))
    flat = w.node("LessOrEqual", high, low)
    ends = []
    for end, operator in ((low, "ReduceMin"), (high, "ReduceMax")):
        extreme = w.node("Cast", w.node(operator, values, keepdims=0), to=DOUBLE)
        ends.append(w.node("Where", flat, extreme, end))
    span = w.node("Max", w.node("Sub", ends[1], ends[0]), np.float64(1e-6))
    low, span = (w.node("Cast", value, to=FLOAT) for value in (ends[0], span))
    return _clipped(w, w.node("Div", w.node("Sub", grey, low), span), np.float32(0), np.float32(1))


def crop_nodes(w: GraphWriter, film: Film, inverted: str, size: int, *, equalize: bool) -> str:
    """Return a crop as the regressor's input, ``(1, 1, size, size)`` (``bakit.hand.prepare``)."""
    small = _squashed(w, film, size, _levels(w, film, inverted, equalize=equalize))
    shaped = w.node("Reshape", small, np.array([1, 1, size, size], np.int64))
    return w.node("Div", shaped, np.float32(255), name="image")


def _levels(w: GraphWriter, film: Film, inverted: str, *, equalize: bool) -> str:
    """Return the table of ``bakit.image.equalize.levels``: 256 levels, float32."""
    counts = _histogram(w, film)
    greys = (np.arange(256, dtype=np.float32) / np.float32(255)).astype(np.float32)
    low = w.node("Gather", greys, _first(w, counts))
    backwards = w.node("Gather", counts, np.arange(255, -1, -1, dtype=np.int64))
    high = w.node("Gather", greys[::-1].copy(), _first(w, backwards))
    doubles = [w.node("Cast", end, to=DOUBLE) for end in (high, low)]
    span = w.node("Max", w.node("Sub", *doubles), np.float64(1e-6))
    factor = w.node("Cast", w.node("Div", np.float64(255), span), to=FLOAT)
    stretched = w.node("Sub", _clipped(w, greys, low, high), low)
    table = w.node("Round", w.node("Mul", stretched, factor))
    table = w.node("Where", inverted, w.node("Sub", np.float32(255), table), table)
    if not equalize:
        return table
    index = w.node("Cast", table, to=INT64)
    counts = added(w, index, counts, 256)
    first = _first(w, counts)
    least = w.node("Gather", counts, first)
    above = w.node("Sub", w.node("ReduceSum", counts, keepdims=0), least)
    ranks = w.node("Sub", w.node("CumSum", counts, np.int64(0)), least)
    ranks = w.node("Cast", w.node("Max", ranks, np.int32(0)), to=FLOAT)
    rest = w.node("Cast", w.node("Max", above, np.int32(1)), to=FLOAT)
    ranks = w.node("Round", w.node("Mul", ranks, w.node("Div", np.float32(255), rest)))
    single = w.node("Equal", above, np.int32(0))  # a single level is unchanged
    ranks = w.node("Where", single, w.node("Cast", first, to=FLOAT), ranks)
    return w.node("Gather", ranks, index)


def _histogram(w: GraphWriter, film: Film) -> str:
    """Return the number of pixels of each grey, ``(256,)`` int32.

    A pixel and the one half a film later are counted as a pair: half as many additions. The middle
    one of an odd number is in both halves.
    """
    count = w.node("Mul", film.height, film.width)
    half = w.node("Div", count, np.int64(2))
    odd = w.node("Sub", count, w.node("Add", half, half))
    both = w.node("Reshape", w.node("Add", half, odd), FLAT)
    flat, zero = w.node("Reshape", film.pixels, FLAT), np.array([0], np.int64)
    ends = [zero, both], [w.node("Reshape", half, FLAT), w.node("Reshape", count, FLAT)]
    first, second = (w.node("Cast", w.node("Slice", flat, *end, zero), to=INT32) for end in ends)
    pairs = w.node("Add", w.node("Mul", first, np.int32(256)), second)
    ones = w.node("Expand", np.array([1], np.int32), both)
    table = w.node("Reshape", added(w, pairs, ones, 65536), np.array([256, 256], np.int64))
    counts = [w.node("ReduceSum", table, np.array([axis], np.int64), keepdims=0) for axis in (0, 1)]
    middle = w.node("Cast", w.node("Gather", flat, half), to=INT32)
    twice = w.node("Cast", w.node("Equal", np.arange(256, dtype=np.int32), middle), to=INT32)
    twice = w.node("Mul", twice, w.node("Cast", odd, to=INT32))
    return w.node("Sub", w.node("Add", *counts), twice)


def added(
    w: GraphWriter, index: str, values: str, size: int, dtype: npt.DTypeLike = np.int32
) -> str:
    """Return sums of values of a dtype by index, ``(size,)``: NumPy's bincount."""
    zero = numpy_helper.from_array(np.zeros(1, dtype))
    zeros = w.node("ConstantOfShape", np.array([size], np.int64), value=zero)
    return w.node("ScatterElements", zeros, index, values, axis=0, reduction="add")


def _first(w: GraphWriter, counts: str) -> str:
    """Return the first index whose count is not 0, a scalar."""
    present = w.node("Cast", w.node("Greater", counts, np.int32(0)), to=INT32)
    return w.node("ArgMax", present, axis=0, keepdims=0)


def _clipped(
    w: GraphWriter, values: str | np.ndarray, low: str | np.float32, high: str | np.float32
) -> str:
    return w.node("Min", w.node("Max", values, low), high)


def _squashed(w: GraphWriter, film: Film, size: int, table: str | None = None) -> str:
    """Return ``(size, size)`` float32: ``bakit.image.resize.resize``.

    With a table of whole levels, of the pixels' levels, as whole levels.
    """
    shrinks = w.node("Greater", w.node("Min", film.height, film.width), np.int64(size))
    tall = w.node("GreaterOrEqual", film.height, np.int64(ROWS * size))
    wholes = [_is_whole(w, side, size) for side in film[1:]]

    def means(graph: GraphWriter) -> str:
        return graph.choose(
            tall,
            lambda g: _rows_first(g, film, size, table, wholes[1]),
            lambda g: _small(g, film, size, table, wholes),
        )

    return w.choose(shrinks, means, lambda graph: _linear(graph, film, size, table))


def _is_whole(w: GraphWriter, length: str, size: int) -> str:
    """Return whether a side shrinks by a whole factor, a boolean scalar."""
    factor = w.node("Div", length, np.int64(size))
    return w.node("Equal", w.node("Mul", factor, np.int64(size)), length)


def _values(w: GraphWriter, pixels: str, table: str | None) -> str:
    """Return pixels as float32, looked up in a table if there is one."""
    if table is None:
        return w.node("Cast", pixels, to=FLOAT)
    # Not Gather: it copies number by number, and takes ONNX Runtime ten times as long.
    index = w.node("Cast", w.node("Reshape", pixels, FLAT), to=INT32)
    values = w.node("GatherElements", table, index, axis=0)
    return w.node("Reshape", values, w.node("Shape", pixels))


def _turned(w: GraphWriter, values: str) -> str:
    """Return the transpose of a matrix: Gather is fast along rows only."""
    return w.node("Transpose", values, perm=[1, 0])


def _small(w: GraphWriter, film: Film, size: int, table: str | None, wholes: list[str]) -> str:
    """Return means over areas as OpenCV's INTER_AREA, of columns and then of rows."""
    whole = w.node("And", *wholes)
    means = _values(w, _turned(w, film.pixels), table)
    for length in (film.width, film.height):
        means = _turned(w, _means(w, means, length, size, whole))
    count = w.node("Mul", film.height, film.width)
    means = _divided(w, _turned(w, means), whole, count, size * size)
    if table is None:
        return means
    twice = [w.node("Equal", side, np.int64(2 * size)) for side in film[1:]]
    half_up = w.node("Floor", w.node("Add", means, np.float32(0.5)))  # OpenCV's 2x2 means
    return w.node("Where", w.node("And", *twice), half_up, w.node("Round", means))


def _rows_first(w: GraphWriter, film: Film, size: int, table: str | None, whole: str) -> str:
    """Return means over areas as ``bakit.image.resize.area_means``."""
    index, shares = _spans(w, film.height, size)
    rows = _values(w, w.node("Gather", film.pixels, index, axis=0), table)  # (size, k, W)
    axis = np.array([1], np.int64)
    shares = w.node("Unsqueeze", w.node("Div", shares, np.float32(size)), axis)
    sums = w.node("Squeeze", w.node("MatMul", shares, rows), axis)
    step = w.node("Div", np.float32(size), w.node("Cast", film.height, to=FLOAT))
    columns = _turned(w, w.node("Mul", sums, step))
    sums = _means(w, columns, film.width, size, whole)
    means = _turned(w, _divided(w, sums, whole, film.width, size))
    return means if table is None else w.node("Round", means)


def _means(w: GraphWriter, lines: str, length: str, size: int, whole: str) -> str:
    """Return means over areas of lines ``(length, n)``, ``(size, n)``, in OpenCV's order.

    One line of each area is added after another, since means often lie half between two levels.
    If the factor is ``whole``, they are sums, to be ``_divided``.
    """
    index, shares = _spans(w, length, size)
    sides = w.node("Cast", length, to=FLOAT), np.float32(size)
    shares = w.node("Div", shares, w.node("Where", whole, *sides[::-1]))

    def term(graph: GraphWriter, step: str | np.int64) -> str:
        read = graph.node("Gather", lines, graph.node("Gather", index, step, axis=1), axis=0)
        share = graph.node("Gather", shares, step, axis=1)
        return graph.node("Mul", read, graph.node("Reshape", share, _COLUMN))

    def following(
        graph: GraphWriter, state: dict[str, str], step: str
    ) -> tuple[dict[str, str], str]:
        behind = graph.node("Add", step, np.int64(1))
        return {"sum": graph.node("Add", state["sum"], term(graph, behind))}, ""

    first = term(w, np.int64(0))
    steps = w.node("Sub", w.node("Gather", w.node("Shape", index), np.int64(1)), np.int64(1))
    return w.loop({"sum": first}, following, steps, f"{first}/")["sum"]


def _divided(w: GraphWriter, sums: str, whole: str, old: str, new: int) -> str:
    """Return sums over ``old / new`` pixels as means, if that is ``whole``."""
    share = w.node("Div", np.float32(new), w.node("Cast", old, to=FLOAT))
    return w.node("Mul", sums, w.node("Where", whole, share, np.float32(1)))


def _spans(w: GraphWriter, length: str, size: int) -> tuple[str, str]:
    """Return the pixels of each new pixel and their shares, ``(size, k)`` int64 and float32.

    The shares are in units of 1 / size of a pixel, in which all ends are whole numbers.
    """
    new = np.arange(size, dtype=np.int64)[:, None]
    begin, end = (w.node("Mul", new + step, length) for step in (0, 1))
    count = w.node("Add", w.node("Div", length, np.int64(size)), np.int64(2))
    run = w.node("Range", np.int64(0), count, np.int64(1))
    pixel = w.node("Add", w.node("Div", begin, np.int64(size)), run)
    here = w.node("Mul", pixel, np.int64(size))
    start = w.node("Max", here, begin)
    stop = w.node("Min", w.node("Add", here, np.int64(size)), end)
    shared = w.node("Cast", w.node("Max", w.node("Sub", stop, start), np.int64(0)), to=FLOAT)
    last = w.node("Sub", length, np.int64(1))
    return w.node("Min", pixel, last), shared


def _linear(w: GraphWriter, film: Film, size: int, table: str | None) -> str:
    """Return bilinear values between centres of pixels; of levels, in OpenCV's fixed point."""
    levels = table is not None
    ys, y_weights = _centres(w, film.height, size, levels=levels, at_ends=False)
    xs, x_weights = _centres(w, film.width, size, levels=levels, at_ends=True)
    x_weights = [w.node("Reshape", x, _COLUMN) for x in x_weights]
    lines = []  # of each new row, its two rows: (x, y)
    for y in ys:
        row = _turned(w, w.node("Gather", film.pixels, y, axis=0))
        ends = [_values(w, w.node("Gather", row, x, axis=0), table) for x in xs]
        lines.append(w.node("Add", *map(w.node, ("Mul",) * 2, ends, x_weights)))
    if not levels:
        return _turned(w, w.node("Add", *map(w.node, ("Mul",) * 2, lines, y_weights)))
    # Whole numbers below 2^24, exact in float32: a runtime may have no division of integers.
    halves = []
    for line, weight in zip(lines, y_weights, strict=True):
        high = _floored(w, line, 16 * 256)
        low = w.node("Sub", _floored(w, line, 16), w.node("Mul", high, np.float32(256)))
        high, low = (w.node("Mul", part, weight) for part in (high, low))
        halves.append(_floored(w, w.node("Add", high, _floored(w, low, 256)), 256))
    return _turned(w, _floored(w, w.node("Add", w.node("Add", *halves), np.float32(2)), 4))


def _floored(w: GraphWriter, values: str, divisor: int) -> str:
    """Return values divided by a power of two, rounded down."""
    return w.node("Floor", w.node("Div", values, np.float32(divisor)))


def _centres(
    w: GraphWriter, length: str, size: int, *, levels: bool, at_ends: bool
) -> tuple[list[str], list[str]]:
    """Return the two pixels around each new pixel's centre and their weights, ``(size,)`` each.

    OpenCV sets the weights to 1 and 0 at the image's ends in x, not in y.
    """
    new = 2 * np.arange(size, dtype=np.int64) + 1
    unit = np.int64(2 * size)
    at = w.node("Add", w.node("Mul", new, length), np.int64(size))  # one pixel to the right
    next_pixel = w.node("Div", at, unit)
    part = w.node("Sub", at, w.node("Mul", next_pixel, unit))
    part = w.node("Div", w.node("Cast", part, to=FLOAT), np.float32(2 * size))
    first = w.node("Sub", next_pixel, np.int64(1))
    # OpenCV has the position in float32, which keeps the fewer digits of its part the larger it
    # is. A division would do the same, but OpenVINO multiplies by the inverse.
    powers = 2 ** np.arange(_BITS, dtype=np.int64)
    beyond = w.node("GreaterOrEqual", w.node("Reshape", first, _COLUMN), powers)
    digits = np.float32(2.0) ** -np.arange(1, _BITS + 1, dtype=np.float32)
    scale = w.node("Where", beyond, digits * np.float32(2**24), np.float32(2**24))
    scale = w.node("ReduceMin", scale, axes=[1], keepdims=0)
    part = w.node("Div", w.node("Round", w.node("Mul", part, scale)), scale)
    last = w.node("Sub", length, np.int64(1))
    if at_ends:
        outside = w.node("Or", w.node("Less", first, np.int64(0)), w.node("Less", last, first))
        outside = w.node("Or", outside, w.node("Equal", last, first))
        part = w.node("Where", outside, np.float32(0), part)
    weights = [w.node("Sub", np.float32(1), part), part]
    if levels:
        weights = [w.node("Round", w.node("Mul", x, np.float32(_UNIT))) for x in weights]
    pixels = [first, w.node("Add", first, np.int64(1))]
    indices = [w.node("Min", w.node("Max", x, np.int64(0)), last) for x in pixels]
    return indices, weights
