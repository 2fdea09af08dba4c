"""The student localizer as an ONNX graph: ``bakit.hand.student``, node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.export.onnx.writer import GraphWriter, make_model
from bakit.hand import student
from bakit.session import localizer_specs

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.hand.student import Layer
    from bakit.settings import StudentSettings
    from bakit.types import Weights


def student_model(weights: Weights, settings: StudentSettings) -> ModelProto:
    """Write the student; ``weights`` as in ``bakit.hand.student.weight_shapes``."""
    operations = _Operations(weights)
    maps = student.run(operations, "image", settings)
    shape = operations.writer.constant([settings.size, settings.size], np.int64)
    operations.writer.node("Reshape", maps, shape, name="hand")
    return make_model(operations.writer.graph("localizer", *localizer_specs(settings)))


class _Operations:
    """Operations of ``bakit.hand.student.run`` as nodes; maps are names of tensors."""

    def __init__(self, weights: Weights) -> None:
        self.writer = GraphWriter()
        self.weights = weights

    def convolution(self, maps: str, layer: Layer) -> str:
        pad = layer.kernel // 2
        names = [f"{layer.name}.{part}" for part in ("weight", "bias")]
        maps = self.writer.node(
            "Conv",
            maps,
            *(self.writer.constant(self.weights[name], np.float32, name=name) for name in names),
            name=layer.name,
            kernel_shape=[layer.kernel, layer.kernel],
            pads=[pad] * 4,
            strides=[layer.stride, layer.stride],
        )
        return self.writer.node("Relu", maps, name=f"{layer.name}/relu") if layer.relu else maps

    def enlarge(self, maps: str) -> str:
        scales = self.writer.constant([1, 1, 2, 2], np.float32)
        return self.writer.node(
            "Resize",
            maps,
            "",  # no region of interest
            scales,
            mode="nearest",
            coordinate_transformation_mode="asymmetric",
            nearest_mode="floor",
        )

    def add(self, first: str, second: str) -> str:
        return self.writer.node("Add", first, second)

    def sigmoid(self, maps: str) -> str:
        return self.writer.node("Sigmoid", maps)
