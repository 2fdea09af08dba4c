"""The unrolled localizer as an ONNX graph: ``bakit.hand.unrolled``'s arithmetic, node by node.

Every convolution is a matrix product over shifted copies of its input, because TensorRT before 8.5
has no Conv whose weights are computed at run time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto

from bakit.export.onnx.writer import GraphWriter, make_model
from bakit.hand.unrolled import EPSILON, weight_shapes
from bakit.session import localizer_specs

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.hand.unrolled import Array
    from bakit.settings import LocalizerForm, UnrolledSettings
    from bakit.types import Weights

# Batch norm cancels these two, so their gradient is zero and they never change.
CONSTANT = ("norm2.bias", "conv3.bias")


def unrolled_model(
    weights: Weights, settings: UnrolledSettings, form: LocalizerForm = "loop"
) -> ModelProto:
    """Write the localizer from its initial weights.

    ``form`` is ``"loop"`` for one ONNX Loop, ``"unrolled"`` for separate nodes for each step.
    """
    writer = GraphWriter()
    emitter = _Emitter(writer, settings)
    flat = writer.node("Reshape", "image", writer.constant([1, -1], np.int64))
    patches = emitter.unfold(flat, 1)
    state = {}
    for name in weight_shapes(settings):
        if name in CONSTANT:
            continue
        value = weights[name]
        matrix = _tap_major(value) if name.startswith("conv") and value.ndim > 1 else value
        matrix = matrix if matrix.ndim > 1 else matrix[:, None]
        state[name] = writer.constant(matrix, np.float32, name=name)
        state[f"{name}.velocity"] = writer.constant(np.zeros_like(matrix), np.float32)
    zeros = np.zeros((1, settings.size * settings.size), np.int32)
    state["labels"] = writer.constant(zeros, name="labels.initial")
    if form == "loop":
        state = writer.loop(
            state,
            lambda body, entering, _: (_Emitter(body, settings).step(entering, patches), ""),
            settings.steps,
        )
    else:
        for _ in range(settings.steps):
            state = emitter.step(state, patches)
    response, _ = emitter.forward(state, patches)
    labels, _ = emitter.keep(response, state["labels"])
    shape = writer.constant([settings.size, settings.size], np.int64)
    writer.node("Reshape", labels, shape, name="labels")
    return make_model(writer.graph("localizer", *localizer_specs(settings)))


def _tap_major(weight: Array) -> Array:
    """Return a convolution's weight ``(o, i, k, k)`` as a matrix ``(o, k*k*i)``."""
    matrix: Array = weight.transpose(0, 2, 3, 1).reshape(len(weight), -1)
    return matrix


class _Emitter:
    """Emits the nodes of one step; values are ``(channels, h*w)``."""

    def __init__(self, writer: GraphWriter, settings: UnrolledSettings) -> None:
        self.writer = writer
        self.settings = settings
        self.side = settings.size
        self.pixels = settings.size**2

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.writer.node(operator, *inputs, **attributes)

    def scalar(self, value: float) -> str:
        return self.writer.constant(value, np.float32)

    def ints(self, *values: int) -> str:
        return self.writer.constant(values, np.int64)

    def image_shape(self, flat: str, channels: int) -> str:
        return self.op("Reshape", flat, self.ints(channels, self.side, self.side))

    def crop(self, image: str, y0: int, x0: int, height: int, width: int) -> str:
        """Cut a window out of ``(c, H, W)``."""
        return self.op(
            "Slice", image, self.ints(y0, x0), self.ints(y0 + height, x0 + width), self.ints(1, 2)
        )

    def unfold(self, flat: str, channels: int, *, reverse: bool = False) -> str:
        """Return the 3x3 patches, tap-major: ``(c, h*w)`` to ``(9*c, h*w)``."""
        image = self.image_shape(flat, channels)
        padded = self.op("Pad", image, self.ints(0, 1, 1, 0, 1, 1))
        taps = [self.crop(padded, y, x, self.side, self.side) for y in range(3) for x in range(3)]
        stacked = self.op("Concat", *(reversed(taps) if reverse else taps), axis=0)
        return self.op("Reshape", stacked, self.ints(9 * channels, self.pixels))

    def mean(self, flat: str) -> str:
        return self.op("ReduceMean", flat, axes=[1], keepdims=1)

    def sum(self, flat: str) -> str:
        return self.op("ReduceSum", flat, self.ints(1), keepdims=1)

    def forward(self, state: dict[str, str], patches: str) -> tuple[str, list[tuple[str, ...]]]:
        """Return y and, per layer, (normalized, deviation, mask, inputs)."""
        saved: list[tuple[str, ...]] = []
        inputs = patches
        output = ""
        for index in (1, 2, 3):
            output = self.op("MatMul", state[f"conv{index}.weight"], inputs)
            if index < 3:
                output = self.op("Add", output, state[f"conv{index}.bias"])
                output = self.op("Relu", output)
            activated = output
            centred = self.op("Sub", output, self.mean(output))
            variance = self.mean(self.op("Mul", centred, centred))
            deviation = self.op("Sqrt", self.op("Add", variance, self.scalar(EPSILON)))
            normalized = self.op("Div", centred, deviation)
            output = self.op("Mul", normalized, state[f"norm{index}.weight"])
            if index != 2:
                output = self.op("Add", output, state[f"norm{index}.bias"])
            saved.append((normalized, deviation, activated, inputs))
            if index == 1:
                inputs = self.unfold(output, self.settings.features)
            elif index == 2:
                inputs = output
        return output, saved

    def keep(self, response: str, kept: str) -> tuple[str, str]:
        """Return the label map to keep, and the labels of this response as int64 ``(1, h*w)``."""
        return keep_labels(self.writer, response, kept, channels=0, axes=[1])

    def loss_gradient(self, response: str, labels: str) -> str:
        """Return the loss's gradient with respect to y."""
        settings, side, q = self.settings, self.side, self.settings.labels
        highest = self.op("ReduceMax", response, axes=[0], keepdims=1)
        exponentials = self.op("Exp", self.op("Sub", response, highest))
        total = self.op("ReduceSum", exponentials, self.ints(0), keepdims=1)
        channels = self.writer.constant(np.arange(q)[:, None], np.int64)
        target = self.op("Cast", self.op("Equal", labels, channels), to=TensorProto.FLOAT)
        error = self.op("Sub", self.op("Div", exponentials, total), target)
        similarity = self.op("Mul", error, self.scalar(settings.similarity / self.pixels))
        image = self.image_shape(response, q)
        weight = self.scalar(settings.continuity / (q * (side - 1) * side))
        parts = []
        for axis in (1, 2):
            size = [side, side]
            size[axis - 1] -= 1
            first = self.crop(image, 0, 0, *size)
            second = self.crop(image, *((1, 0) if axis == 1 else (0, 1)), *size)
            sign = self.op("Sign", self.op("Sub", second, first))
            before, after = [0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0]
            before[axis], after[3 + axis] = 1, 1
            padded = [self.op("Pad", sign, self.ints(*pads)) for pads in (before, after)]
            parts.append(self.op("Sub", *padded))
        continuity = self.op("Mul", self.op("Add", *parts), weight)
        flat = self.op("Reshape", continuity, self.ints(q, self.pixels))
        return self.op("Add", similarity, flat)

    def gradients(self, state: dict[str, str], patches: str) -> tuple[dict[str, str], str]:
        """Return the gradient of every parameter, and the label map to keep."""
        response, saved = self.forward(state, patches)
        kept, labels = self.keep(response, state["labels"])
        upstream = self.loss_gradient(response, labels)
        gradients: dict[str, str] = {}
        for index in (3, 2, 1):
            normalized, deviation, activated, inputs = saved[index - 1]
            gradients[f"norm{index}.weight"] = self.sum(self.op("Mul", upstream, normalized))
            if index != 2:
                gradients[f"norm{index}.bias"] = self.sum(upstream)
            upstream = self.op("Mul", upstream, state[f"norm{index}.weight"])
            centred = self.op("Sub", upstream, self.mean(upstream))
            projection = self.mean(self.op("Mul", upstream, normalized))
            centred = self.op("Sub", centred, self.op("Mul", normalized, projection))
            upstream = self.op("Div", centred, deviation)
            if index < 3:
                active = self.op("Greater", activated, self.scalar(0.0))
                active = self.op("Cast", active, to=TensorProto.FLOAT)
                upstream = self.op("Mul", upstream, active)
                gradients[f"conv{index}.bias"] = self.sum(upstream)
            gradients[f"conv{index}.weight"] = self.op("Gemm", upstream, inputs, transB=1)
            if index == 3:
                upstream = self.op("Gemm", state["conv3.weight"], upstream, transA=1)
            elif index == 2:
                upstream = self.fold(upstream, state["conv2.weight"])
        return gradients, kept

    def fold(self, upstream: str, weight: str) -> str:
        """Return dU folded back: the correlation of dZ with the weights, taps reversed."""
        p = self.settings.features
        taps = self.op("Reshape", weight, self.ints(p, 9, p))
        turned = self.op("Reshape", self.op("Transpose", taps, perm=[2, 1, 0]), self.ints(p, 9 * p))
        return self.op("MatMul", turned, self.unfold(upstream, p, reverse=True))

    def step(self, state: dict[str, str], patches: str) -> dict[str, str]:
        """Return the state after one SGD update."""
        gradients, kept = self.gradients(state, patches)
        after = {}
        for name in state:
            if name == "labels":
                after[name] = kept
            elif not name.endswith(".velocity"):
                momentum = self.scalar(self.settings.momentum)
                carried = self.op("Mul", state[f"{name}.velocity"], momentum)
                velocity = self.op("Add", carried, gradients[name])
                change = self.op("Mul", velocity, self.scalar(self.settings.learning_rate))
                after[name] = self.op("Sub", state[name], change)
                after[f"{name}.velocity"] = velocity
        return after


def keep_labels(
    writer: GraphWriter, response: str, kept: str, channels: int, axes: list[int]
) -> tuple[str, str]:
    """Return the label map to keep, and the labels of this response as int64.

    Args:
        writer: The graph.
        response: The response y.
        kept: The label map to keep if this response has a single label.
        channels: Axis of the channels, which stays with length 1.
        axes: All other axes longer than 1.
    """
    labels = writer.node("ArgMax", response, axis=channels, keepdims=1)
    narrow = writer.node("Cast", labels, to=TensorProto.INT32)
    lowest = writer.node("ReduceMin", narrow, axes=axes, keepdims=1)
    highest = writer.node("ReduceMax", narrow, axes=axes, keepdims=1)
    several = writer.node("Greater", highest, lowest)
    return writer.node("Where", several, narrow, kept), labels
