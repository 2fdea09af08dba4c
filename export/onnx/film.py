"""From a film's grey values to the networks' inputs, as ONNX nodes.

They reproduce ``bakit.hand.working``, ``bakit.image.equalize`` and ``bakit.image.resize``, and of
OpenCV what these call: INTER_AREA, INTER_LINEAR on bytes in its fixed point, and equalizeHist.
Sizes are scalars of the graph, int64: films have any.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.export.onnx.writer import GraphWriter
from bakit.image.resize import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

FLOAT, UINT8, INT32, INT64, DOUBLE = 1, 2, 6, 7, 11
"""ONNX's numbers of data types, for Cast."""

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
    grey = _squashed(w, film, size, lambda part: w.node("Cast", part, to=FLOAT), levels=False)
    grey = w.node("Div", grey, np.float32(255))
    values = w.node("Reshape", grey, np.array([-1], np.int64))
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
    table = _levels(w, film.pixels, inverted, equalize=equalize)
    small = _squashed(
        w,
        film,
        size,
        lambda part: w.node("Gather", table, w.node("Cast", part, to=INT32)),
        levels=True,
    )
    shaped = w.node("Reshape", small, np.array([1, 1, size, size], np.int64))
    return w.node("Div", shaped, np.float32(255), name="image")


def _levels(w: GraphWriter, pixels: str, inverted: str, *, equalize: bool) -> str:
    """Return the table of ``bakit.image.equalize.levels``: 256 levels, float32."""
    flat = w.node("Cast", w.node("Reshape", pixels, np.array([-1], np.int64)), to=INT64)
    ones = w.node("Expand", np.array([1], np.int32), w.node("Shape", flat))
    counts = added(w, flat, ones, 256)
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


def added(
    w: GraphWriter, index: str, values: str, size: int, dtype: npt.DTypeLike = np.int32
) -> str:
    """Return sums of values of a dtype by index, ``(size,)``: NumPy's bincount."""
    zeros = np.zeros(size, dtype)
    return w.node("ScatterElements", zeros, index, values, axis=0, reduction="add")


def _first(w: GraphWriter, counts: str) -> str:
    """Return the first index whose count is not 0, a scalar."""
    present = w.node("Cast", w.node("Greater", counts, np.int32(0)), to=INT32)
    return w.node("ArgMax", present, axis=0, keepdims=0)


def _clipped(
    w: GraphWriter, values: str | np.ndarray, low: str | np.float32, high: str | np.float32
) -> str:
    return w.node("Min", w.node("Max", values, low), high)


def _squashed(
    w: GraphWriter, film: Film, size: int, lookup: Callable[[str], str], *, levels: bool
) -> str:
    """Return ``(size, size)`` float32 of ``lookup`` of the pixels: ``bakit.image.resize.resize``.

    ``levels`` is whether the values are whole levels, and become whole levels.
    """
    means = _area(w, film, size, lookup)
    if levels:
        twice = [w.node("Equal", side, np.int64(2 * size)) for side in film[1:]]
        half_up = w.node("Floor", w.node("Add", means, np.float32(0.5)))  # OpenCV's 2x2 means
        means = w.node("Where", w.node("And", *twice), half_up, w.node("Round", means))
        means = w.node("Where", _is_small(w, film, size), _in_order(w, film, size, lookup), means)
    between = _linear(w, film, size, lookup, levels=levels)
    shrinks = w.node("Greater", w.node("Min", film.height, film.width), np.int64(size))
    return w.node("Where", shrinks, means, between)


def _is_small(w: GraphWriter, film: Film, size: int) -> str:
    """Return whether OpenCV's INTER_AREA shrinks bytes, by a factor that is not whole."""
    parts = []
    for side in film[1:]:
        whole = w.node("Mul", w.node("Div", side, np.int64(size)), np.int64(size))
        parts.append(w.node("Less", whole, side))
    low = w.node("Less", film.height, np.int64(ROWS * size))
    return w.node("And", low, w.node("Or", *parts))


def _in_order(w: GraphWriter, film: Film, size: int, lookup: Callable[[str], str]) -> str:
    """Return means over areas of levels, added in OpenCV's order: levels often lie half between.

    A tall film, for which they are not used, is cut to one row.
    """
    tall = w.node("GreaterOrEqual", film.height, np.int64(ROWS * size))
    height = w.node("Where", tall, np.int64(1), film.height)
    end = w.node("Reshape", height, np.array([1], np.int64))
    zero = np.array([0], np.int64)
    values = lookup(w.node("Slice", film.pixels, zero, end, zero))
    for length, axis in ((film.width, 1), (height, 0)):
        values = _added_in_order(w, values, length, size, axis)
    return w.node("Round", values)


def _added_in_order(w: GraphWriter, values: str, length: str, size: int, axis: int) -> str:
    """Return means over the areas of one axis, one pixel of each area after the other."""
    index, shares = _spans(w, length, size)
    shares = w.node("Div", shares, w.node("Cast", length, to=FLOAT))
    column = np.array([size, 1] if axis == 0 else [1, size], np.int64)

    def term(graph: GraphWriter, step: str | np.int64) -> str:
        read = graph.node("Gather", values, graph.node("Gather", index, step, axis=1), axis=axis)
        share = graph.node("Reshape", graph.node("Gather", shares, step, axis=1), column)
        return graph.node("Mul", read, share)

    first = term(w, np.int64(0))
    entering = f"{first}/in"
    body = GraphWriter(w, f"{first}/")
    step = body.node("Add", f"{entering}/step", np.int64(1))
    leaving = body.node("Add", entering, term(body, step))
    proceed = body.node("Identity", f"{entering}/condition")
    count = w.node("Gather", w.node("Shape", index), np.int64(1))
    steps = w.node("Sub", count, np.int64(1))
    return w.loop(body, first, entering, leaving, proceed, steps)


def _area(w: GraphWriter, film: Film, size: int, lookup: Callable[[str], str]) -> str:
    """Return means over areas. Rows of an area are read together: a small product of matrices."""
    height, width = film.height, film.width
    rows, columns = _spans(w, height, size), _spans(w, width, size)
    values = lookup(w.node("Gather", film.pixels, rows[0], axis=0))  # (size, k, W)
    shared = [w.node("Div", units, np.float32(size)) for _, units in (rows, columns)]
    shares = w.node("Unsqueeze", shared[0], np.array([1], np.int64))  # (size, 1, k)
    sums = w.node("Squeeze", w.node("MatMul", shares, values), np.array([1], np.int64))
    # The order of the roundings is bakit.image.resize's.
    tall = w.node("GreaterOrEqual", height, np.int64(ROWS * size))
    steps = [w.node("Cast", side, to=FLOAT) for side in (height, width)]
    steps = [w.node("Div", np.float32(size), step) for step in steps]
    whole = w.node("Cast", w.node("Mul", height, width), to=FLOAT)
    whole = w.node("Div", np.float32(size * size), whole)
    sums = w.node("Mul", sums, w.node("Where", tall, steps[0], np.float32(1)))
    parts = w.node("Mul", w.node("Gather", sums, columns[0], axis=1), shared[1])
    sums = w.node("ReduceSum", parts, np.array([2], np.int64), keepdims=0)
    return w.node("Mul", sums, w.node("Where", tall, steps[1], whole))


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


def _linear(
    w: GraphWriter, film: Film, size: int, lookup: Callable[[str], str], *, levels: bool
) -> str:
    """Return bilinear values between centres of pixels; of levels, in OpenCV's fixed point."""
    ys, y_weights = _centres(w, film.height, size, levels=levels, at_ends=False)
    xs, x_weights = _centres(w, film.width, size, levels=levels, at_ends=True)
    x_weights = [w.node("Reshape", x, np.array([1, size], np.int64)) for x in x_weights]
    y_weights = [w.node("Reshape", y, np.array([size, 1], np.int64)) for y in y_weights]
    lines = []
    for index in ys:
        row = w.node("Gather", film.pixels, index, axis=0)
        ends = [lookup(w.node("Gather", row, x, axis=1)) for x in xs]
        lines.append(w.node("Add", *map(w.node, ("Mul",) * 2, ends, x_weights)))
    if not levels:
        return w.node("Add", *map(w.node, ("Mul",) * 2, lines, y_weights))
    # Whole numbers below 2^24, exact in float32: a runtime may have no division of integers.
    halves = []
    for line, weight in zip(lines, y_weights, strict=True):
        high = _floored(w, line, 16 * 256)
        low = w.node("Sub", _floored(w, line, 16), w.node("Mul", high, np.float32(256)))
        high, low = (w.node("Mul", part, weight) for part in (high, low))
        halves.append(_floored(w, w.node("Add", high, _floored(w, low, 256)), 256))
    return _floored(w, w.node("Add", w.node("Add", *halves), np.float32(2)), 4)


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
    beyond = w.node("GreaterOrEqual", w.node("Reshape", first, np.array([-1, 1], np.int64)), powers)
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
