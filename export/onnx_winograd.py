"""The unrolled localizer as an ONNX graph for speed: fewer products, fewer passes over the pixels.

The function is that of ``bakit.localizer``; tests hold one step to autograd.

* The 3x3 convolution from p to p channels is nearly all of the work. Winograd's algorithm (Lavin
  and Gray 2016) computes a tile of 4x4 outputs from 36 products where the definition takes 144.
  Its transforms are linear, so the gradients of input and weights are the same products with the
  transforms transposed, on transformed values that are there already.
* Pixels are kept by phase, their place in their tile: ``(phases, channels, tiles)``. A transform
  is then sums of whole planes.
* Batch norm is folded into the weights behind it. Of the second and third, the statistics over
  pixels, forward and backward, are read off products of channels: small matrices, no pass.
* The last channel of a layer's output is 1 on every pixel: biases, borders included, and sums over
  pixels come out of the same products.

Like ``export.onnx_unrolled`` it has no Conv with run-time weights, and every size is fixed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.errors import InputError
from bakit.export.onnx_writer import GraphWriter, make_model, repeat
from bakit.localizer import EPSILON
from bakit.tensors import localizer_inputs, localizer_outputs

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt
    from onnx import ModelProto

    from bakit.localizer import Array, Weights
    from bakit.settings import UnrolledSettings

    Matrix = npt.NDArray[np.float64]


class Transforms(NamedTuple):
    """Winograd's matrices for tiles of m outputs of a filter of 3, in one dimension.

    Attributes:
        output: ``(m, m + 2)``.
        weight: ``(m + 2, 3)``.
        input: ``(m + 2, m + 2)``.
    """

    output: Matrix
    weight: Matrix
    input: Matrix


# Of a constant input all rows of `input` but the second make an exact zero, and that of `output`
# is 1 for every phase: a flat background stays flat to the bit, and its differences have sign 0.
TRANSFORMS = {
    2: Transforms(
        np.array([[1, 1, 1, 0], [0, 1, -1, -1]]),
        np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [0, 0, 1]]) / [[1], [2], [2], [1]],
        np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]]),
    ),
    4: Transforms(
        np.array(
            [[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]]
        ),
        np.array([[1, 0, 0], [1, 1, 1], [1, -1, 1], [1, 2, 4], [1, -2, 4], [0, 0, 1]])
        / [[4], [-6], [-6], [24], [24], [1]],
        np.array(
            [
                [4, 0, -5, 0, 1, 0],
                [0, -4, -4, 1, 1, 0],
                [0, 4, -4, -1, 1, 0],
                [0, -2, -1, 2, 1, 0],
                [0, 2, -1, -2, 1, 0],
                [0, 4, 0, -5, 0, 1],
            ]
        ),
    ),
}

# What batch norm takes away again (``norm2.bias``, ``conv3.bias``) has no gradient and is left out.
PARAMETERS = (
    "conv1.weight",
    "conv1.bias",
    "norm1.weight",
    "norm1.bias",
    "conv2.weight",
    "conv2.bias",
    "norm2.weight",
    "conv3.weight",
    "norm3.weight",
    "norm3.bias",
)

CENTRE = 4
"""The middle one of nine taps."""


def winograd_model(weights: Weights, settings: UnrolledSettings) -> ModelProto:
    """Write the localizer with its steps as one ONNX Loop.

    Args:
        weights: Initial weights (``bakit.localizer.initial_weights``).
        settings: Working size, channels, steps and loss weights, fixed in the graph.

    Raises:
        InputError: If the working size is odd.
    """
    if settings.size % 2:
        message = f"localizer form winograd needs an even working size, not {settings.size}"
        raise InputError(message)
    writer = GraphWriter()
    emitter = _Emitter(writer, settings)
    patches = emitter.patches()
    turned = emitter.transposed(patches)
    state = {}
    for name in PARAMETERS:
        value = _as_matrix(weights[name])
        state[name] = writer.constant(value, np.float32, name=name)
        state[f"{name}.velocity"] = writer.constant(np.zeros_like(value), np.float32)
    zeros = np.zeros((emitter.phases**2, 1, emitter.tiles), np.int32)
    state["labels"] = writer.constant(zeros, name="labels.initial")
    state = repeat(
        writer,
        settings.steps,
        state,
        lambda body, entering: _Emitter(body, settings).step(entering, patches, turned),
    )
    labels, _ = emitter.keep(emitter.forward(state, patches).response, state["labels"])
    emitter.image_of(labels, name="labels")
    graph = writer.graph("localizer", localizer_inputs(settings), localizer_outputs(settings))
    return make_model(graph)


def _as_matrix(value: Array) -> Array:
    """Return a parameter as the graph holds it: columns, and ``(taps, o, i)`` of conv2."""
    if value.ndim < 2:
        return value[:, None]
    outputs, inputs = value.shape[:2]
    if value.shape[2] == 1 or inputs == 1:
        return value.reshape(outputs, -1)
    return np.ascontiguousarray(value.transpose(2, 3, 0, 1)).reshape(9, outputs, inputs)


class _Pass(NamedTuple):
    """What the backward pass needs of a forward pass; columns are per channel.

    Attributes:
        response: y, ``(phases, q, tiles)``.
        first: conv1 after ReLU, ``(phases, p + 1, tiles)``.
        mean1: Mean of ``first``.
        deviation1: SD of ``first``.
        scale1: By which norm1 multiplies ``first``.
        shift1: What norm1 then adds.
        transformed: ``first`` by horizontal element of the transform.
        kernels: conv2 behind norm1, transformed, by horizontal element.
        second: conv2 after ReLU, ``(phases, p + 1, tiles)``.
        second_turned: ``second`` with channels last.
        mean2: Mean of ``second``.
        deviation2: SD of ``second``.
        scale2: By which norm2 multiplies ``second``.
        matrix: conv3 behind norm2, ``(q, p)``.
        spread: ``matrix`` times the covariance of ``second``.
        deviation3: SD of conv3's output.
        scale3: By which norm3 multiplies conv3's output.
    """

    response: str
    first: str
    mean1: str
    deviation1: str
    scale1: str
    shift1: str
    transformed: list[str]
    kernels: list[str]
    second: str
    second_turned: str
    mean2: str
    deviation2: str
    scale2: str
    matrix: str
    spread: str
    deviation3: str
    scale3: str


class _Emitter:
    """Emits the pieces of one step; maps are ``(phases, channels, tiles)``.

    While a map is transformed it is ``(rows, columns, channels, h, w)``: vertical and horizontal
    phase or element, and the tile's place.
    """

    def __init__(self, writer: GraphWriter, settings: UnrolledSettings) -> None:
        self.writer = writer
        self.settings = settings
        self.phases = 2 if settings.size % 4 else 4
        self.across = settings.size // self.phases
        self.tiles = self.across**2
        self.pixels = settings.size**2
        self.transforms = TRANSFORMS[self.phases]
        # Weights by horizontal element: the inverse order of np.kron, whose first is vertical.
        elements = self.phases + 2
        both = np.kron(self.transforms.weight, self.transforms.weight)
        self.both = both.reshape(elements, elements, 9).swapaxes(0, 1).reshape(-1, 9)

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        return self.writer.node(operator, *inputs, **attributes)

    def floats(self, value: npt.ArrayLike) -> str:
        return self.writer.constant(value, np.float32)

    def ints(self, *values: int) -> str:
        return self.writer.constant(values, np.int64)

    def add(self, first: str, second: str) -> str:
        return self.op("Add", first, second)

    def subtract(self, first: str, second: str) -> str:
        return self.op("Sub", first, second)

    def multiply(self, first: str, second: str) -> str:
        return self.op("Mul", first, second)

    def divide(self, first: str, second: str) -> str:
        return self.op("Div", first, second)

    def scaled(self, value: str, factor: float) -> str:
        return self.op("Mul", value, self.floats(factor))

    def product(self, first: str, second: str) -> str:
        return self.op("MatMul", first, second)

    def root(self, variance: str) -> str:
        return self.op("Sqrt", self.op("Add", variance, self.floats(EPSILON)))

    def reshape(self, value: str, *shape: int) -> str:
        return self.op("Reshape", value, self.ints(*shape))

    def join(self, *parts: str, axis: int) -> str:
        return self.op("Concat", *parts, axis=axis)

    def cut(self, value: str, axis: int, start: int, end: int) -> str:
        return self.op("Slice", value, self.ints(start), self.ints(end), self.ints(axis))

    def planes(self, value: str, axis: int, count: int) -> list[str]:
        return [self.cut(value, axis, index, index + 1) for index in range(count)]

    def sum(self, value: str, *axes: int, keep: bool = True) -> str:
        return self.op("ReduceSum", value, self.ints(*axes), keepdims=int(keep))

    def column(self, value: str) -> str:
        return self.reshape(value, -1, 1)

    def transposed(self, maps: str) -> str:
        return self.op("Transpose", maps, perm=[0, 2, 1])

    def over_pixels(self, first: str, turned: str) -> str:
        """Return the sums over pixels of products of channels, ``(channels, channels)``."""
        return self.sum(self.product(first, turned), 0, keep=False)

    def mean_over_pixels(self, maps: str) -> str:
        means = self.op("ReduceMean", maps, axes=[2], keepdims=1)
        return self.op("ReduceMean", means, axes=[0], keepdims=1)

    def mixture(self, factors: Matrix, values: Sequence[str]) -> str:
        """Return a sum of values times factors; equal factors are taken out."""
        groups: dict[float, list[tuple[float, str]]] = {}
        for factor, value in zip(factors, values, strict=True):
            if factor:
                groups.setdefault(abs(factor), []).append((factor, value))
        signed = []
        for size, members in groups.items():
            lead, total = members[0]
            for factor, value in members[1:]:
                total = self.op("Add" if factor * lead > 0 else "Sub", total, value)
            if size != 1:
                total, lead = self.scaled(total, lead), 1.0
            signed.append((lead, total))
        signed.sort(key=lambda item: item[0] < 0)
        lead, total = signed[0]
        if lead < 0:
            total = self.op("Neg", total)
        for factor, value in signed[1:]:
            total = self.op("Add" if factor > 0 else "Sub", total, value)
        return total

    def moved(self, value: str, axis: int, by: int) -> str:
        """Return tiles moved by one, down or right if ``by`` is 1, up or left if it is -1."""
        kept = (0, self.across - 1) if by > 0 else (1, self.across)
        return self.padded(self.cut(value, axis, *kept), axis, by)

    def padded(self, value: str, axis: int, side: int) -> str:
        """Return a transformed map with a zero tile before (1) or behind (-1) the others."""
        pads = [0] * 10
        pads[axis if side > 0 else axis + 5] = 1
        return self.op("Pad", value, self.ints(*pads))

    def neighbourhood(self, phases: Sequence[str], axis: int) -> list[str]:
        """Return what a tile's outputs look at in one dimension: its phases, one more a side."""
        return [self.moved(phases[-1], axis, 1), *phases, self.moved(phases[0], axis, -1)]

    def patches(self) -> str:
        """Return the image's 3x3 patches and a channel of ones, ``(phases, 10, tiles)``."""
        m, n = self.phases, self.across
        tiles = self.op("Transpose", self.reshape("image", n, m, n, m), perm=[1, 3, 0, 2])
        rows = self.neighbourhood(self.planes(self.reshape(tiles, m, m, 1, n, n), 0, m), 3)
        seen = [self.neighbourhood(self.planes(row, 1, m), 4) for row in rows]
        ones = self.floats(np.ones((1, 1, self.tiles)))
        parts = []
        for y in range(m):
            for x in range(m):
                taps = [seen[y + i][x + j] for i in range(3) for j in range(3)]
                flat = [self.reshape(tap, 1, 1, self.tiles) for tap in taps]
                parts.append(self.join(*flat, ones, axis=1))
        return self.join(*parts, axis=0)

    def image_of(self, maps: str, name: str) -> None:
        """Put maps of one channel back into the image's order, as the output ``name``."""
        m, n, side = self.phases, self.across, self.settings.size
        tiles = self.op("Transpose", self.reshape(maps, m, m, n, n), perm=[2, 0, 3, 1])
        self.op("Reshape", tiles, self.ints(side, side), name=name)

    def spatial(self, maps: str, rows: int, columns: int) -> str:
        return self.reshape(maps, rows, columns, -1, self.across, self.across)

    def transform(self, maps: str) -> list[str]:
        """Transform a convolution's input; a list by horizontal element."""
        m, matrix = self.phases, self.transforms.input
        rows = self.neighbourhood(self.planes(self.spatial(maps, m, m), 0, m), 3)
        vertical = self.join(*[self.mixture(factors, rows) for factors in matrix], axis=0)
        columns = self.neighbourhood(self.planes(vertical, 1, m), 4)
        return [
            self.reshape(self.mixture(factors, columns), m + 2, -1, self.tiles)
            for factors in matrix
        ]

    def transform_back(self, elements: Sequence[str]) -> str:
        """Return the gradient of ``transform``'s input from that of its result."""
        m = self.phases
        columns = [self.spatial(element, m + 2, 1) for element in elements]
        vertical = self.join(*self.added_back(columns, 4), axis=1)
        rows = self.added_back(self.planes(vertical, 0, m + 2), 3)
        return self.reshape(self.join(*rows, axis=0), m * m, -1, self.tiles)

    def added_back(self, elements: Sequence[str], axis: int) -> list[str]:
        """Return the gradients of the phases: what a tile saw of its neighbours is theirs."""
        before, *phases, behind = (
            self.mixture(factors, elements) for factors in self.transforms.input.T
        )
        phases[-1] = self.add(phases[-1], self.moved(before, axis, -1))
        phases[0] = self.add(phases[0], self.moved(behind, axis, 1))
        return phases

    def outputs(self, products: Sequence[str]) -> str:
        """Return a convolution's output from its products, given by horizontal element."""
        m, matrix = self.phases, self.transforms.output
        columns = [self.spatial(product, m + 2, 1) for product in products]
        vertical = self.join(*[self.mixture(factors, columns) for factors in matrix], axis=1)
        rows = self.planes(vertical, 0, m + 2)
        phases = [self.mixture(factors, rows) for factors in matrix]
        return self.reshape(self.join(*phases, axis=0), m * m, -1, self.tiles)

    def outputs_back(self, gradient: str) -> list[str]:
        """Return the gradient of ``outputs``' products from that of its result."""
        m, matrix = self.phases, self.transforms.output.T
        rows = self.planes(self.spatial(gradient, m, m), 0, m)
        vertical = self.join(*[self.mixture(factors, rows) for factors in matrix], axis=0)
        columns = self.planes(vertical, 1, m)
        return [
            self.reshape(self.mixture(factors, columns), m + 2, -1, self.tiles)
            for factors in matrix
        ]

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
        row = self.floats(np.eye(9)[CENTRE][:, None, None] * np.eye(p + 1)[p])
        kernel = self.join(self.join(scaled, bias, axis=2), row, axis=1)
        kernel = self.product(self.floats(self.both), self.reshape(kernel, 9, (p + 1) ** 2))
        kernel = self.reshape(kernel, elements, elements, p + 1, p + 1)
        kernels = [
            self.reshape(part, elements, p + 1, p + 1) for part in self.planes(kernel, 0, elements)
        ]
        transformed = self.transform(first)
        products = [self.product(*pair) for pair in zip(kernels, transformed, strict=True)]
        second = self.op("Relu", self.outputs(products))
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
        response = self.product(self.join(whole, shift3, axis=1), second)
        return _Pass(
            response,
            first,
            mean1,
            deviation1,
            scale1,
            shift1,
            transformed,
            kernels,
            second,
            turned,
            mean2,
            deviation2,
            scale2,
            matrix,
            spread,
            deviation3,
            scale3,
        )

    def keep(self, response: str, kept: str) -> tuple[str, str]:
        """Return the label map to keep, and this response's own as int64."""
        labels = self.op("ArgMax", response, axis=1, keepdims=1)
        narrow = self.op("Cast", labels, to=6)  # TensorProto.INT32
        lowest = self.op("ReduceMin", narrow, axes=[0, 1, 2], keepdims=1)
        highest = self.op("ReduceMax", narrow, axes=[0, 1, 2], keepdims=1)
        several = self.op("Greater", highest, lowest)
        return self.op("Where", several, narrow, kept), labels

    def loss_gradient(self, response: str, labels: str) -> str:
        """Return the loss's gradient with respect to y."""
        settings, q, side = self.settings, self.settings.labels, self.settings.size
        weight = self.floats(settings.similarity / self.pixels)
        highest = self.op("ReduceMax", response, axes=[1], keepdims=1)
        exponentials = self.op("Exp", self.subtract(response, highest))
        softmax = self.multiply(exponentials, self.divide(weight, self.sum(exponentials, 1)))
        channels = self.writer.constant(np.arange(q)[None, :, None], np.int64)
        target = self.op("Where", self.op("Equal", labels, channels), weight, self.floats(0.0))
        similarity = self.subtract(softmax, target)
        maps = self.spatial(response, self.phases, self.phases)
        signs = self.add(self.differences(maps, 0, 3), self.differences(maps, 1, 4))
        continuity = self.scaled(signs, settings.continuity / (q * (side - 1) * side))
        flat = self.reshape(continuity, self.phases**2, q, self.tiles)
        return self.add(similarity, flat)

    def differences(self, maps: str, axis: int, tile_axis: int) -> str:
        """Return the gradient of the sum of absolute differences along one dimension."""
        phases = self.planes(maps, axis, self.phases)
        inside = [
            self.op("Sign", self.subtract(phases[index + 1], phases[index]))
            for index in range(self.phases - 1)
        ]
        following = self.cut(phases[0], tile_axis, 1, self.across)
        last = self.cut(phases[-1], tile_axis, 0, self.across - 1)
        between = self.op("Sign", self.subtract(following, last))
        before = [self.padded(between, tile_axis, 1), *inside]
        behind = [*inside, self.padded(between, tile_axis, -1)]
        pairs = zip(before, behind, strict=True)
        return self.join(*[self.subtract(*pair) for pair in pairs], axis=axis)

    def where_active(self, activated: str, gradient: str) -> str:
        active = self.op("Greater", activated, self.floats(0.0))
        return self.op("Where", active, gradient, self.floats(0.0))

    def with_zero_row(self, matrix: str) -> str:
        return self.op("Pad", matrix, self.ints(0, 0, 1, 0))

    def gradients(
        self, state: dict[str, str], patches: str, patches_turned: str
    ) -> tuple[dict[str, str], str]:
        """Return the gradient of every parameter, and the label map to keep."""
        p = self.settings.features
        seen = self.forward(state, patches)
        kept, labels = self.keep(seen.response, state["labels"])
        upstream = self.loss_gradient(seen.response, labels)
        gradients: dict[str, str] = {}
        gradient = self._through_conv3(state, seen, upstream, gradients)
        products = self.outputs_back(self.where_active(seen.second, gradient))

        # conv2: dU = dM Vᵀ by element, dV = Uᵀ dM.
        by_element = [
            self.product(gradient, self.transposed(values))
            for gradient, values in zip(products, seen.transformed, strict=True)
        ]
        flat = [self.reshape(part, self.phases + 2, (p + 1) ** 2) for part in by_element]
        kernel = self.product(self.floats(self.both.T), self.join(*flat, axis=0))
        kernel = self.cut(self.reshape(kernel, 9, p + 1, p + 1), 1, 0, p)
        of_first, of_ones = self.cut(kernel, 2, 0, p), self.cut(kernel, 2, p, p + 1)
        gradients["conv2.weight"] = self.add(
            self.multiply(of_first, self.reshape(seen.scale1, 1, 1, p)),
            self.multiply(of_ones, self.reshape(seen.shift1, 1, 1, p)),
        )
        gradients["conv2.bias"] = self.column(self.cut(of_ones, 0, CENTRE, CENTRE + 1))
        entering = [
            self.product(self.transposed(kernel), gradient)
            for kernel, gradient in zip(seen.kernels, products, strict=True)
        ]

        # norm1: sums over the pixels of its output's gradient, alone and times `first`.
        weight = state["conv2.weight"]
        alone = self.column(self.sum(self.multiply(weight, of_ones), 0, 1))
        with_first = self.column(self.sum(self.multiply(weight, of_first), 0, 1))
        gradients["norm1.bias"] = alone
        gradients["norm1.weight"] = scale = self.divide(
            self.subtract(with_first, self.multiply(seen.mean1, alone)), seen.deviation1
        )
        slope = self.divide(self.multiply(seen.scale1, scale), seen.deviation1)
        slope = self.scaled(slope, -1 / self.pixels)
        level = self.scaled(self.multiply(seen.scale1, alone), -1 / self.pixels)
        level = self.subtract(level, self.multiply(seen.mean1, slope))
        upstream = self.add(self.transform_back(entering), self.with_zero_row(level))
        upstream = self.add(upstream, self.multiply(seen.first, self.with_zero_row(slope)))
        upstream = self.where_active(seen.first, upstream)
        matrix = self.cut(self.over_pixels(upstream, patches_turned), 0, 0, p)
        gradients["conv1.weight"] = self.cut(matrix, 1, 0, 9)
        gradients["conv1.bias"] = self.cut(matrix, 1, 9, 10)
        return gradients, kept

    def _through_conv3(
        self, state: dict[str, str], seen: _Pass, upstream: str, gradients: dict[str, str]
    ) -> str:
        """Go back through norm3, conv3 and norm2; add their gradients, return ``second``'s."""
        p = self.settings.features
        sums = self.over_pixels(upstream, seen.second_turned)
        total = self.cut(sums, 1, p, p + 1)
        sums = self.subtract(
            self.cut(sums, 1, 0, p), self.product(total, self.reshape(seen.mean2, 1, p))
        )
        scale = self.divide(self.sum(self.multiply(sums, seen.matrix), 1), seen.deviation3)
        gradients["norm3.weight"], gradients["norm3.bias"] = scale, total
        ratio = self.divide(scale, seen.deviation3)
        sums = self.subtract(sums, self.multiply(seen.spread, ratio))
        sums = self.multiply(seen.scale3, sums)
        gradients["conv3.weight"] = self.multiply(sums, self.reshape(seen.scale2, 1, p))
        scale = self.column(self.sum(self.multiply(state["conv3.weight"], sums), 0))
        gradients["norm2.weight"] = scale = self.divide(scale, seen.deviation2)

        # Behind norm3, written with y in the place of conv3's output.
        slope = self.scaled(ratio, 1 / self.pixels)
        level = self.subtract(
            self.multiply(slope, state["norm3.bias"]),
            self.scaled(self.multiply(seen.scale3, total), 1 / self.pixels),
        )
        upstream = self.subtract(
            self.multiply(upstream, seen.scale3), self.multiply(seen.response, slope)
        )
        across = self.op("Transpose", seen.matrix, perm=[1, 0])
        upstream = self.product(self.with_zero_row(across), self.add(upstream, level))
        # Behind norm2.
        slope = self.divide(self.multiply(seen.scale2, scale), seen.deviation2)
        slope = self.scaled(slope, -1 / self.pixels)
        level = self.multiply(slope, seen.mean2)
        upstream = self.subtract(upstream, self.with_zero_row(level))
        return self.add(upstream, self.multiply(seen.second, self.with_zero_row(slope)))

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
