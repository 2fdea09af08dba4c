"""The unrolled localizer's loss as ONNX nodes: labels and gradient of a response."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from onnx import TensorProto

from bakit.export.onnx.tiles import HORIZONTAL, VERTICAL, TileEmitter

if TYPE_CHECKING:
    from collections.abc import Sequence

SMALLEST: Final = 1e-30
"""Smallest number that counts as different from zero."""


class LossEmitter(TileEmitter):
    """Emits the nodes behind the response y, ``(phases, q, tiles)``."""

    def keep(self, response: str, kept: str) -> tuple[str, str]:
        """Return the label map to keep, and the labels of this response as int64.

        A response with a single label keeps the labels of the one before.
        """
        labels = self.op("ArgMax", response, axis=1, keepdims=1)
        narrow = self.op("Cast", labels, to=TensorProto.INT32)
        lowest = self.op("ReduceMin", narrow, axes=[0, 1, 2], keepdims=1)
        highest = self.op("ReduceMax", narrow, axes=[0, 1, 2], keepdims=1)
        return self.op("Where", self.op("Greater", highest, lowest), narrow, kept), labels

    def loss_gradient(self, response: str, labels: str) -> str:
        """Return the loss's gradient with respect to y."""
        settings, q, side = self.settings, self.settings.labels, self.settings.size
        # Softmax minus the labels, both times the sum of the exponentials: one pass.
        highest = self.op("ReduceMax", response, axes=[1], keepdims=1)
        exponentials = self.op("Exp", self.subtract(response, highest))
        total = self.product(self.floats(np.ones((1, q))), exponentials)
        numbers = self.op("Cast", labels, to=TensorProto.FLOAT)
        chosen = self.op("Equal", numbers, self.floats(np.arange(q)[None, :, None]))
        target = self.op("Where", chosen, self.scaled(total, -1.0), self.floats(0.0))
        weight = self.divide(self.floats(settings.similarity / self.pixels), total)
        similarity = self.multiply(self.add(target, exponentials), weight)

        step = settings.continuity / (q * (side - 1) * side)
        maps = self.split(response)
        across = [self.steps(row, HORIZONTAL, step) for row in maps]
        down = [self.steps(column, VERTICAL, step) for column in zip(*maps, strict=True)]
        continuity = []
        for rows in zip(across, zip(*down, strict=True), strict=True):
            for (left, right), (above, below) in zip(*rows, strict=True):
                behind = self.add(right, below)
                continuity.append(self.add(self.subtract(left, behind), above))
        return self.add(similarity, self.joined(continuity))

    def steps(self, phases: Sequence[str], tile_axis: int, step: float) -> list[tuple[str, str]]:
        """Return ``step`` with the sign of each pixel's differences to the one before and behind.

        At the image border it is zero.
        """
        inside = [
            self.clipped(self.subtract(phases[index + 1], phases[index]), -step, step)
            for index in range(self.phases - 1)
        ]
        following = self.cut(phases[0], tile_axis, 1, self.across)
        last = self.cut(phases[-1], tile_axis, 0, self.across - 1)
        between = self.clipped(self.subtract(following, last), -step, step)
        before = [self.padded(between, tile_axis, 1), *inside]
        behind = [*inside, self.padded(between, tile_axis, -1)]
        return list(zip(before, behind, strict=True))

    def clipped(self, value: str, lowest: float, highest: float) -> str:
        """Return ``lowest`` for negative numbers, ``highest`` for positive ones, 0 for 0.

        OpenVINO fuses these two operations with their neighbours, but not Sign.
        """
        grown = self.scaled(value, highest / SMALLEST)
        return self.op("Clip", grown, self.floats(lowest), self.floats(highest))
