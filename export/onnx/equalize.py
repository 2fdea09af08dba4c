"""Cross-layer equalization (Nagel et al., ICCV 2019, section 4.1), on the regressor's graph.

Between two convolutions with nothing but a ReLU in between, a channel can be made smaller and the
weights that read it larger by the same factor: ReLU(s x) = s ReLU(x). The function stays; ranges
of channels that share a scale come closer together.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import onnx
from onnx import numpy_helper

if TYPE_CHECKING:
    from collections.abc import Iterator

SWEEPS = 10
"""Passes over all pairs; the factors of a chain settle within a few."""


def equalize(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model with equalized weights; it computes the same ages."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    tensors = {item.name: item for item in copy.graph.initializer}
    values = {
        name: numpy_helper.to_array(item).astype(np.float64)
        for name, item in tensors.items()
        if name.endswith((".weight", ".bias"))
    }
    pairs = list(_pairs(copy))
    for _ in range(SWEEPS):
        for first, second in pairs:
            weight, bias, reader = (
                values[first.input[1]],
                values[first.input[2]],
                values[second.input[1]],
            )
            depthwise = reader.shape[1] == 1
            written = np.abs(weight).max((1, 2, 3))
            read = np.abs(reader).max((1, 2, 3) if depthwise else (0, 2, 3))
            live = (written > 0) & (read > 0)
            factor = np.ones(len(written))
            factor[live] = np.sqrt(read[live] / written[live])
            weight *= factor[:, None, None, None]
            bias *= factor
            shape = (-1, 1, 1, 1) if depthwise else (1, -1, 1, 1)
            reader /= factor.reshape(shape)
    for name, value in values.items():
        tensors[name].CopyFrom(numpy_helper.from_array(value.astype(np.float32), name))
    return copy


def _pairs(model: onnx.ModelProto) -> Iterator[tuple[onnx.NodeProto, onnx.NodeProto]]:
    """Yield convolutions whose output goes through a ReLU into one other convolution only."""
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    for node in model.graph.node:
        if node.op_type != "Conv":
            continue
        after = readers.get(node.output[0], [])
        if [item.op_type for item in after] != ["Relu"]:
            continue
        beyond = readers.get(after[0].output[0], [])
        if [item.op_type for item in beyond] == ["Conv"]:
            yield node, beyond[0]
