"""One graph from a film's grey values to months: localize, choose the hand, crop, regress.

The networks are the two models of the bundle, inlined. What a graph cannot do stays in
``bakit.runtime``: decoding, DICOM, films of 16 bits, frames around a film, turned hands, and the
second search for a hand that the first one is unsure of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.export.onnx.film import (
    DOUBLE,
    FLAT,
    FLOAT,
    INT64,
    Film,
    added,
    crop_nodes,
    measured,
    working_nodes,
)
from bakit.export.onnx.writer import WHOLE, GraphWriter, make_model
from bakit.hand import locate
from bakit.session import whole_specs
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    from onnx import ModelProto

    from bakit.model.checkpoint import Header

_POOLS = 8
"""Steps of a flood between two tests whether it has ended."""


def whole_model(header: Header, localizer: ModelProto, regressor: ModelProto) -> ModelProto:
    """Write the whole graph.

    The localizer is the student; the regressor may be quantized.
    """
    settings, preprocessing = header.localizer, header.preprocessing
    assert isinstance(settings, StudentSettings)
    w = GraphWriter()
    film = measured(w, "film")
    working = working_nodes(w, film, settings.size)
    size = settings.size
    image = w.node("Reshape", working, np.array([1, 1, size, size], np.int64))
    w.inline(localizer.graph, "localizer", {"image": image, "hand": "hand"})
    hand = _chosen(w, size)
    _contacts(w, hand, size)
    inverted = _inverted(w, hand, working)
    w.node("Reshape", inverted, FLAT, name="inverted")
    box = _box(w, hand, film, size)
    crop = _cut(w, film, box, hand.found, preprocessing.margin)
    crop_nodes(w, crop, inverted, preprocessing.image_size, equalize=preprocessing.equalize)
    w.inline(regressor.graph, "regressor", {n: n for n in ("image", "sex", "age_months")})
    specs = whole_specs(header.architecture, preprocessing, settings)
    return make_model(w.graph("whole", *specs), WHOLE)


class _Hand(NamedTuple):
    """The chosen region; names of tensors."""

    mask: str  # (1, 1, s, s) float32, 0 or 1; all 0 if there is no hand
    area: str  # its pixels, float32, at least 1
    found: str  # whether there is a hand, a boolean scalar


def _chosen(w: GraphWriter, size: int) -> _Hand:
    """Choose the hand among the regions of the map, as ``bakit.hand.locate`` does."""
    field = np.array([1, 1, size, size], np.int64)
    probability = w.node("Reshape", "hand", field)
    sure = w.node("GreaterOrEqual", probability, np.float32(locate.SURE))
    sure = w.node("Cast", sure, to=FLOAT)
    labels = _flood(w, w.node("Mul", sure, _names(size)), sure, _grown)
    index = w.node("Cast", w.node("Reshape", labels, FLAT), to=INT64)
    areas, sums = (
        _sums(w, index, w.node("Reshape", values, FLAT), size * size + 1)
        for values in (sure, probability)
    )
    means = w.node("Div", sums, w.node("Max", areas, np.float32(1)))
    large = w.node("GreaterOrEqual", areas, np.float32(locate.SMALLEST * size * size))
    certain = w.node("GreaterOrEqual", means, np.float32(locate.LEAST_CONFIDENCE))
    fit = w.node("Cast", w.node("And", large, certain), to=FLOAT)
    best = w.node("ArgMax", w.node("Mul", sums, fit), axis=0, keepdims=1)
    found = w.node("Gather", fit, best)
    w.node("Mul", w.node("Gather", means, best), found, name="hand_confidence")
    mask = w.node("Equal", w.node("Reshape", index, field), best)
    mask = w.node("Mul", w.node("Cast", mask, to=FLOAT), found)
    area = w.node("Max", w.node("Gather", areas, best), np.float32(1))
    others = w.node("Mul", w.node("Mul", areas, fit), _unlike(w, best, size * size + 1))
    second = w.node("ReduceMax", others, keepdims=1)
    w.node("Mul", w.node("Div", second, area), found, name="second")
    is_found = w.node("Greater", w.node("Squeeze", found), np.float32(0))
    return _Hand(mask, w.node("Squeeze", area), is_found)


def _names(size: int) -> npt.NDArray[np.float32]:
    """Return numbers from 1 for the pixels, ``(1, 1, size, size)``.

    They rise towards the middle: the largest of a hand floods it in half the steps.
    """
    away = np.abs(np.arange(size) - size / 2)
    order = np.argsort(-np.maximum(away[:, None], away).ravel(), kind="stable")
    names = np.empty(size * size, np.float32)
    names[order] = np.arange(1, size * size + 1)
    return names.reshape(1, 1, size, size)


def _unlike(w: GraphWriter, index: str, size: int) -> str:
    """Return ``(size,)``: 0 at an index, 1 elsewhere."""
    same = w.node("Equal", np.arange(size, dtype=np.int64), index)
    return w.node("Cast", w.node("Not", same), to=FLOAT)


def _sums(w: GraphWriter, index: str, values: str, size: int) -> str:
    """Return the sums of values by index, ``(size,)``; index 0, the background, has 0."""
    sums = added(w, index, values, size, np.float32)
    return w.node("Mul", sums, (np.arange(size) > 0).astype(np.float32))


def _flood(w: GraphWriter, seeds: str, mask: str, grown: Callable[[GraphWriter, str], str]) -> str:
    """Return the seeds' maximum in each connected region of a mask."""

    def step(body: GraphWriter, state: dict[str, str], _step: str) -> tuple[dict[str, str], str]:
        labels = state["labels"]
        for _ in range(_POOLS):
            labels = body.node("Mul", grown(body, labels), mask)
        moved = body.node("ReduceMax", body.node("Sub", labels, state["labels"]), keepdims=0)
        return {"labels": labels}, body.node("Greater", moved, np.float32(0))

    return w.loop({"labels": seeds}, step, prefix=f"{seeds}/flood/")["labels"]


def _grown(w: GraphWriter, labels: str, kernel: int = 3) -> str:
    """Return the maximum of each pixel's neighbourhood."""
    return w.node("MaxPool", labels, kernel_shape=[kernel] * 2, pads=[kernel // 2] * 4)


def _contacts(w: GraphWriter, hand: _Hand, size: int) -> None:
    """Write ``border``: the contact with the film's edges without the forearm's, in sides."""
    square = np.arange(size * size).reshape(size, size)
    around = [square[0], square[1:, -1], square[-1, -2::-1], square[-2:0:-1, 0]]
    path = np.concatenate(around).astype(np.int64)
    flat = w.node("Reshape", hand.mask, FLAT)
    touched = w.node("Reshape", w.node("Gather", flat, path), np.array([1, 1, -1], np.int64))
    names = np.arange(1, len(path) + 1, dtype=np.float32).reshape(1, 1, -1)
    reach = int(size * locate.GAP)

    def along(body: GraphWriter, labels: str) -> str:
        ends = np.arange(-reach, len(path) + reach, dtype=np.int64) % len(path)
        circle = body.node("Gather", labels, ends, axis=2)
        return body.node("MaxPool", circle, kernel_shape=[2 * reach + 1])

    labels = _flood(w, w.node("Mul", touched, names), touched, along)
    index = w.node("Cast", w.node("Reshape", labels, FLAT), to=INT64)
    runs = _sums(w, index, w.node("Reshape", touched, FLAT), len(path) + 1)
    forearm = w.node("ReduceMax", runs, keepdims=1)
    forearm = w.node("Min", forearm, np.float32(size * locate.FOREARM))
    contact = w.node("Sub", w.node("ReduceSum", runs, keepdims=1), forearm)
    w.node("Div", contact, np.float32(size), name="border")


def _inverted(w: GraphWriter, hand: _Hand, working: str) -> str:
    """Return whether the hand is darker than its surroundings, a boolean scalar."""
    shape = w.node("Shape", hand.mask)
    grey = w.node("Reshape", working, shape)
    ring = w.node("Sub", _grown(w, hand.mask, 7), _grown(w, hand.mask, 3))
    ring_area = w.node("ReduceSum", ring, keepdims=0)
    means = []
    for part, area in ((hand.mask, hand.area), (ring, w.node("Max", ring_area, np.float32(1)))):
        total = w.node("ReduceSum", w.node("Mul", grey, part), keepdims=0)
        means.append(w.node("Div", total, area))
    contrast = w.node("Mul", w.node("Sub", *means), np.float32(1e4))  # to four digits
    dark = w.node("Less", w.node("Round", contrast), np.float32(-1e4 * locate.DARKER))
    return w.node("And", dark, w.node("Greater", ring_area, np.float32(0)))


def _box(w: GraphWriter, hand: _Hand, film: Film, size: int) -> tuple[str, str]:
    """Write ``box``, the whole film without a hand; return its corners, ``(2,)`` int64 each."""
    near = w.node(
        "Mul", _grown(w, hand.mask), w.node("Reshape", "hand", w.node("Shape", hand.mask))
    )
    backwards = np.arange(size - 1, -1, -1, dtype=np.int64)
    columns, rows = (w.node("ReduceMax", near, axes=[0, 1, axis], keepdims=0) for axis in (2, 3))
    profiles = [columns, rows, *(w.node("Gather", name, backwards) for name in (columns, rows))]
    profiles = [w.node("Unsqueeze", name, np.array([0], np.int64)) for name in profiles]
    profile = w.node("Concat", *profiles, axis=0)  # left, top, right, bottom: (4, size)
    risen = w.node("GreaterOrEqual", profile, np.float32(locate.SURE))
    first = w.node("ArgMax", w.node("Cast", risen, to=FLOAT), axis=1, keepdims=1)
    earlier = w.node("Max", w.node("Sub", first, np.int64(1)), np.int64(0))
    before, after = (
        w.node("Cast", w.node("GatherElements", profile, at, axis=1), to=DOUBLE)
        for at in (earlier, first)
    )
    at_edge = w.node("Equal", first, np.int64(0))
    rise = w.node("Where", at_edge, np.float64(1), w.node("Sub", after, before))
    part = w.node("Div", w.node("Sub", np.float64(locate.SURE), before), rise)
    crossing = w.node("Sub", w.node("Cast", first, to=DOUBLE), np.float64(0.5))
    crossing = w.node("Where", at_edge, np.float64(0), w.node("Add", crossing, part))
    edges = w.node("Reshape", crossing, np.array([4], np.int64))
    edges = w.node("Mul", edges, np.array([1, 1, -1, -1], np.float64))
    edges = w.node("Add", edges, np.array([0, 0, size, size], np.float64))
    sides = [w.node("Reshape", name, FLAT) for name in (film.width, film.height)]
    ends = w.node("Concat", *sides, axis=0)
    both = w.node("Cast", w.node("Concat", ends, ends, axis=0), to=DOUBLE)
    edges = w.node("Div", w.node("Mul", edges, both), np.float64(size))
    pixels = w.node("Cast", w.node("Round", edges), to=INT64)
    low, high = w.nodes("Split", pixels, w.constant([2, 2], np.int64), outputs=["low", "high"])
    low = w.node("Min", low, w.node("Sub", ends, np.int64(1)))
    high = w.node("Max", w.node("Min", high, ends), w.node("Add", low, np.int64(1)))
    low = w.node("Where", hand.found, low, np.array([0, 0], np.int64))
    high = w.node("Where", hand.found, high, ends)
    w.node("Concat", low, high, axis=0, name="box")
    return low, high


def _cut(w: GraphWriter, film: Film, box: tuple[str, str], found: str, margin: float) -> Film:
    """Return the film inside the box grown by the margin, if a hand was found."""
    low, high = box
    side = w.node("Cast", w.node("Sub", high, low), to=DOUBLE)
    more = w.node("Cast", w.node("Round", w.node("Mul", side, np.float64(margin))), to=INT64)
    more = w.node("Where", found, more, np.int64(0))
    low = w.node("Max", w.node("Sub", low, more), np.int64(0))
    sides = [w.node("Reshape", name, FLAT) for name in (film.width, film.height)]
    high = w.node("Min", w.node("Add", high, more), w.node("Concat", *sides, axis=0))
    axes = np.array([1, 0], np.int64)
    return measured(w, w.node("Slice", film.pixels, low, high, axes))
