"""The unrolled localizer as an ONNX graph: ``bakit.hand.unrolled``, with its backward pass.

Tests hold one step to autograd. There is no Conv, since TensorRT before 8.5 has none with run-time
weights, and every size is fixed.

* The 3x3 convolution from p to p channels is nearly all of the work: a product of matrices for
  each tap, or with Winograd's algorithm a quarter of the products (``bakit.export.onnx.tiles``).
  Both gradients reuse the transformed values.
* Batch norm is folded into the weights behind it. The statistics of the second and third over
  pixels, forward and backward, follow from products of channels: small matrices, no pass.
* The last channel of a layer's output is 1 on every pixel, so the same products give biases, also
  at the border, and sums over pixels.
* Sums are written so that a runtime can fuse them into one pass: each operation reads the result of
  the previous one and a stored value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.errors import InputError
from bakit.export.onnx.loss import LossEmitter
from bakit.export.onnx.writer import GraphWriter, make_model
from bakit.hand.unrolled import LAYERS
from bakit.session import localizer_specs

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.hand.unrolled import Array
    from bakit.settings import LocalizerForm, UnrolledSettings
    from bakit.types import Weights


CANCELLED = {"norm2.bias", "conv3.bias"}
"""Parameters without a gradient: batch norm cancels them."""

PARAMETERS = tuple(
    name
    for layer in LAYERS
    for name in (f"{layer}.weight", f"{layer}.bias")
    if name not in CANCELLED
)

CENTRE = 4
"""Index of the centre among nine taps."""


def unrolled_model(
    weights: Weights, settings: UnrolledSettings, form: LocalizerForm = "loop"
) -> ModelProto:
    """Write the localizer from its initial weights.

    ``form`` is ``"loop"`` for its steps as one ONNX Loop, ``"winograd"`` for one with Winograd's
    algorithm, and ``"unrolled"`` for separate nodes for each step.

    Raises:
        InputError: If the working size is odd, with Winograd's algorithm.
    """
    if form == "winograd" and settings.size % 2:
        message = f"localizer form winograd needs an even working size, not {settings.size}"
        raise InputError(message)
    writer = GraphWriter()
    emitter = _Emitter(writer, settings, form)
    patches = emitter.patches()
    turned = emitter.transposed(patches)
    state = {}
    for name in PARAMETERS:
        value = _as_matrix(weights[name])
        state[name] = writer.constant(value, np.float32, name=name)
        state[f"{name}.velocity"] = writer.constant(np.zeros_like(value), np.float32)
    zeros = np.zeros((emitter.phases**2, 1, emitter.tiles), np.int32)
    state["labels"] = writer.constant(zeros, name="labels.initial")
    if form == "unrolled":
        for _ in range(settings.steps):
            state = emitter.step(state, patches, turned)
    else:
        state = writer.loop(
            state,
            lambda body, entering, _: (
                _Emitter(body, settings, form).step(entering, patches, turned),
                "",
            ),
            settings.steps,
        )
    labels, _ = emitter.keep(emitter.forward(state, patches).response, state["labels"])
    emitter.image_of(labels, name="labels")
    return make_model(writer.graph("localizer", *localizer_specs(settings)))


def _as_matrix(value: Array) -> Array:
    """Return a parameter in the graph's layout: columns, and ``(taps, o, i)`` for conv2."""
    if value.ndim < 2:
        return value[:, None]
    outputs, inputs = value.shape[:2]
    if value.shape[2] == 1 or inputs == 1:
        return value.reshape(outputs, -1)
    return np.ascontiguousarray(value.transpose(2, 3, 0, 1)).reshape(9, outputs, inputs)


def _easily_multiplied(channels: int) -> int:
    """Return a number of channels up to a tenth larger that fills whole vectors of 16 numbers.

    As the last axis of a product of run-time values, 91 channels take OpenVINO 1.7 times as long
    as 96 with AVX-512, and a twentieth longer with AVX2.
    """
    whole = -(-channels // 16) * 16
    return whole if whole <= 1.1 * channels else channels


class _Norm(NamedTuple):
    """A batch norm: mean and SD of its input, and its factor on it."""

    mean: str
    deviation: str
    scale: str


class _Pass(NamedTuple):
    """Values of a forward pass for the backward pass; columns have one entry per channel."""

    response: str  # y, (phases, q, tiles)
    first: str  # conv1 after ReLU, (phases, p + 1, tiles)
    norm1: _Norm  # its output is first * scale + shift1
    shift1: str
    transformed: str  # first, transformed, by element
    kernels: str  # conv2 behind norm1, transformed, by element
    second: str  # conv2 after ReLU, (phases, wide, tiles); zeros behind the ones
    turned: str  # second with channels last
    norm2: _Norm
    matrix: str  # conv3 behind norm2, (q, p)
    spread: str  # matrix times the covariance of second
    norm3: _Norm  # without a mean, which nothing reads


class _Emitter(LossEmitter):
    """Emits the nodes of one step."""

    def __init__(
        self, writer: GraphWriter, settings: UnrolledSettings, form: LocalizerForm
    ) -> None:
        super().__init__(writer, settings, form)
        self.wide = _easily_multiplied(settings.features + 1)

    def forward(self, state: dict[str, str], patches: str) -> _Pass:
        p, elements = self.settings.features, self.phases + 2
        ones = self.floats(np.eye(10)[9:])
        matrix = self.join(state["conv1.weight"], state["conv1.bias"], axis=1)
        first = self.op("Relu", self.product(self.join(matrix, ones, axis=0), patches))
        means = self.mean_over_pixels(first)
        centred = self.subtract(first, means)
        variances = self.mean_over_pixels(self.multiply(centred, centred))
        mean1 = self.column(self.cut(means, 1, 0, p))
        deviation1 = self.root(self.column(self.cut(variances, 1, 0, p)))
        scale1 = self.divide(state["norm1.weight"], deviation1)
        shift1 = self.subtract(state["norm1.bias"], self.multiply(mean1, scale1))

        centre = self.floats(np.eye(9)[CENTRE][:, None, None])
        bias = self.add(
            self.product(state["conv2.weight"], shift1), self.multiply(centre, state["conv2.bias"])
        )
        scaled = self.multiply(state["conv2.weight"], self.reshape(scale1, 1, 1, p))
        rows = np.eye(9)[CENTRE][:, None, None] * np.eye(self.wide - p, p + 1, p)
        kernel = self.join(self.join(scaled, bias, axis=2), self.floats(rows), axis=1)
        kernel = self.product(self.floats(self.both), self.reshape(kernel, 9, -1))
        kernels = self.reshape(kernel, elements**2, self.wide, p + 1)
        transformed = self.transform(first)
        second = self.outputs(self.product(kernels, transformed), "Relu")
        turned = self.transposed(second)

        moments = self.scaled(self.over_pixels(second, turned), 1 / self.pixels)
        moments = self.cut(moments, 0, 0, p)
        mean2 = self.cut(moments, 1, p, p + 1)
        covariance = self.subtract(
            self.cut(moments, 1, 0, p), self.product(mean2, self.reshape(mean2, 1, p))
        )
        diagonal = self.sum(self.multiply(covariance, self.floats(np.eye(p))), 1)
        deviation2 = self.root(diagonal)
        scale2 = self.divide(state["norm2.weight"], deviation2)
        matrix = self.multiply(state["conv3.weight"], self.reshape(scale2, 1, p))
        spread = self.product(matrix, covariance)
        deviation3 = self.root(self.sum(self.multiply(spread, matrix), 1))
        scale3 = self.divide(state["norm3.weight"], deviation3)
        whole = self.multiply(scale3, matrix)
        shift3 = self.subtract(state["norm3.bias"], self.product(whole, mean2))
        pads = self.ints(0, 0, 0, self.wide - p - 1)
        whole = self.op("Pad", self.join(whole, shift3, axis=1), pads)
        response = self.product(whole, second)
        norms = _Norm(mean1, deviation1, scale1), _Norm(mean2, deviation2, scale2)
        norm3 = _Norm("", deviation3, scale3)
        conv2 = transformed, kernels, second, turned
        return _Pass(response, first, norms[0], shift1, *conv2, norms[1], matrix, spread, norm3)

    def line(self, value: str, slope: str, level: str) -> str:
        """Return ``value * slope + level``."""
        return self.add(self.multiply(value, slope), level)

    def where_active(self, activated: str, gradient: str) -> str:
        """Return the gradient before a ReLU; multiplying is faster than Where."""
        return self.multiply(self.clipped(activated, 0.0, 1.0), gradient)

    def with_zero_rows(self, matrix: str, count: int) -> str:
        return self.op("Pad", matrix, self.ints(0, 0, count, 0))

    def gradients(
        self, state: dict[str, str], patches: str, patches_turned: str
    ) -> tuple[dict[str, str], str]:
        """Return the gradient of every parameter, and the label map to keep."""
        p = self.settings.features
        result = self.forward(state, patches)
        kept, labels = self.keep(result.response, state["labels"])
        upstream = self.loss_gradient(result.response, labels)
        gradients: dict[str, str] = {}
        gradient = self._through_conv3(state, result, upstream, gradients)
        products = self.outputs_back(self.where_active(result.second, gradient))

        # conv2: dUᵀ = V dMᵀ by element, dV = Uᵀ dM.
        by_element = self.product(result.transformed, self.transposed(products))
        by_element = self.reshape(by_element, -1, (p + 1) * self.wide)
        kernel = self.product(self.floats(self.both.T), by_element)
        kernel = self.transposed(self.reshape(kernel, 9, p + 1, self.wide))
        kernel = self.cut(kernel, 1, 0, p)
        of_first, of_ones = self.cut(kernel, 2, 0, p), self.cut(kernel, 2, p, p + 1)
        gradients["conv2.weight"] = self.add(
            self.multiply(of_first, self.reshape(result.norm1.scale, 1, 1, p)),
            self.multiply(of_ones, self.reshape(result.shift1, 1, 1, p)),
        )
        gradients["conv2.bias"] = self.column(self.cut(of_ones, 0, CENTRE, CENTRE + 1))
        entering = self.product(self.transposed(result.kernels), products)

        # norm1: sums over the pixels of its output's gradient, alone and times `first`.
        weight = state["conv2.weight"]
        alone = self.column(self.sum(self.multiply(weight, of_ones), 0, 1))
        with_first = self.column(self.sum(self.multiply(weight, of_first), 0, 1))
        gradients["norm1.bias"] = alone
        gradients["norm1.weight"] = scale = self.divide(
            self.subtract(with_first, self.multiply(result.norm1.mean, alone)),
            result.norm1.deviation,
        )
        slope = self.divide(self.multiply(result.norm1.scale, scale), result.norm1.deviation)
        slope = self.scaled(slope, -1 / self.pixels)
        level = self.scaled(self.multiply(result.norm1.scale, alone), -1 / self.pixels)
        level = self.subtract(level, self.multiply(result.norm1.mean, slope))
        slope, level = (self.with_zero_rows(value, 1) for value in (slope, level))
        upstream = self.line(result.first, slope, level)
        upstream = self.add(upstream, self.transform_back(entering))
        upstream = self.where_active(result.first, upstream)
        matrix = self.cut(self.over_pixels(upstream, patches_turned), 0, 0, p)
        gradients["conv1.weight"] = self.cut(matrix, 1, 0, 9)
        gradients["conv1.bias"] = self.cut(matrix, 1, 9, 10)
        return gradients, kept

    def _through_conv3(
        self, state: dict[str, str], result: _Pass, upstream: str, gradients: dict[str, str]
    ) -> str:
        """Go back through norm3, conv3 and norm2; add their gradients, return ``second``'s."""
        p = self.settings.features
        padding = self.wide - p
        sums = self.over_pixels(upstream, result.turned)
        total = self.cut(sums, 1, p, p + 1)
        sums = self.subtract(
            self.cut(sums, 1, 0, p), self.product(total, self.reshape(result.norm2.mean, 1, p))
        )
        scale = self.divide(self.sum(self.multiply(sums, result.matrix), 1), result.norm3.deviation)
        gradients["norm3.weight"], gradients["norm3.bias"] = scale, total
        ratio = self.divide(scale, result.norm3.deviation)
        sums = self.subtract(sums, self.multiply(result.spread, ratio))
        sums = self.multiply(result.norm3.scale, sums)
        gradients["conv3.weight"] = self.multiply(sums, self.reshape(result.norm2.scale, 1, p))
        scale = self.column(self.sum(self.multiply(state["conv3.weight"], sums), 0))
        gradients["norm2.weight"] = scale = self.divide(scale, result.norm2.deviation)

        # Behind norm3, written with y in the place of conv3's output.
        slope = self.scaled(ratio, 1 / self.pixels)
        level = self.subtract(
            self.multiply(slope, state["norm3.bias"]),
            self.scaled(self.multiply(result.norm3.scale, total), 1 / self.pixels),
        )
        line = self.line(result.response, self.scaled(slope, -1.0), level)
        upstream = self.add(line, self.multiply(upstream, result.norm3.scale))
        across = self.op("Transpose", result.matrix, perm=[1, 0])
        upstream = self.product(self.with_zero_rows(across, padding), upstream)
        # Behind norm2.
        slope = self.divide(self.multiply(result.norm2.scale, scale), result.norm2.deviation)
        slope = self.scaled(slope, -1 / self.pixels)
        level = self.scaled(self.multiply(slope, result.norm2.mean), -1.0)
        slope, level = (self.with_zero_rows(value, padding) for value in (slope, level))
        return self.add(self.line(result.second, slope, level), upstream)

    def step(self, state: dict[str, str], patches: str, patches_turned: str) -> dict[str, str]:
        """Return the state after one SGD update."""
        gradients, kept = self.gradients(state, patches, patches_turned)
        after = {"labels": kept}
        for name in PARAMETERS:
            carried = self.scaled(state[f"{name}.velocity"], self.settings.momentum)
            velocity = self.add(carried, gradients[name])
            change = self.scaled(velocity, self.settings.learning_rate)
            after[name] = self.subtract(state[name], change)
            after[f"{name}.velocity"] = velocity
        return after
