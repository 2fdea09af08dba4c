"""Cross-layer equalization (Nagel et al., ICCV 2019, section 4.1), on the regressor's graph.

Between two convolutions with only a ReLU between them, a channel can be scaled down and the weights
that read it scaled up by the same factor: ReLU(s x) = s ReLU(x). The function stays the same, and
channels that share a scale get similar ranges.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import numpy_helper

from bakit.export.onnx.writer import copy_of, readers_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from onnx import ModelProto, NodeProto

    from bakit.settings import Int8Recipe

SWEEPS = 10
"""Passes over all pairs; the factors converge within a few."""


def equalized_by(recipe: Int8Recipe, model: ModelProto) -> ModelProto:
    """Return the float model that a recipe quantizes, whose activations its ranges are of."""
    return equalize(model) if recipe.equalize else model


def equalize(model: ModelProto) -> ModelProto:
    """Return the model with equalized weights and the same outputs."""
    copy = copy_of(model)
    tensors = {item.name: item for item in copy.graph.initializer}
    values = {
        name: numpy_helper.to_array(item).astype(np.float64)
        for name, item in tensors.items()
        if name.endswith((".weight", ".bias"))
    }
    pairs = list(_pairs(copy))
    for _ in range(SWEEPS):
        for first, second in pairs:
            weight, bias = (values[name] for name in first.input[1:])
            reader = values[second.input[1]]
            depthwise = reader.shape[1] == 1
            written = np.abs(weight).max((1, 2, 3))
            read = np.abs(reader).max((1, 2, 3) if depthwise else (0, 2, 3))
            live = (written > 0) & (read > 0)
            factor = np.ones(len(written))
            factor[live] = np.sqrt(read[live] / written[live])
            weight *= factor[:, None, None, None]
            bias *= factor
            reader /= factor.reshape((-1, 1, 1, 1) if depthwise else (1, -1, 1, 1))
    for name, value in values.items():
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return copy


def _pairs(model: ModelProto) -> Iterator[tuple[NodeProto, NodeProto]]:
    """Yield pairs of convolutions with only a ReLU between them."""
    readers = readers_of(model.graph)
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        after = readers.get(node.output[0], [])
        if [item.op_type for item in after] != ["Relu"]:
            continue
        beyond = readers.get(after[0].output[0], [])
        if [item.op_type for item in beyond] == ["Conv"]:
            yield node, beyond[0]
