"""The student localizer as an ONNX graph: ``bakit.hand.student``, node by node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from bakit.export.onnx.writer import GraphWriter, make_model
from bakit.hand import student
from bakit.session import localizer_inputs, localizer_outputs

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.hand.student import Layer
    from bakit.settings import StudentSettings
    from bakit.types import Weights


def student_model(weights: Weights, settings: StudentSettings) -> ModelProto:
    """Write the student.

    Args:
        weights: As in ``bakit.hand.student.weight_shapes``.
        settings: Its shape.
    """
    operations = _Operations(weights)
    maps = student.run(operations, "image", settings)
    shape = operations.writer.constant([settings.size, settings.size], np.int64)
    operations.writer.node("Reshape", maps, shape, name="hand")
    inputs, outputs = localizer_inputs(settings), localizer_outputs(settings)
    return make_model(operations.writer.graph("localizer", inputs, outputs))


class _Operations:
    """Emits what ``bakit.hand.student.run`` asks for; maps are the names of tensors."""

    def __init__(self, weights: Weights) -> None:
        self.writer = GraphWriter()
        self.weights = weights

    def convolution(self, maps: str, layer: Layer) -> str:
        pad = layer.kernel // 2
        maps = self.writer.node(
            "Conv",
            maps,
            *(
                self.writer.constant(
                    self.weights[f"{layer.name}.{part}"], np.float32, name=f"{layer.name}.{part}"
                )
                for part in ("weight", "bias")
            ),
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
