"""A convolution and its gradients as ONNX nodes, on tiles of the image.

A tile of 4x4 outputs of a 3x3 convolution needs 36 products instead of 144 (Lavin and Gray 2016).
The transforms around the products are linear, so the gradients of input and weights are the same
products with transposed transforms. Pixels are stored by phase, their place in the tile:
``(phases, channels, tiles)``; a transform is then sums of whole planes. On tiles of one pixel it is
the plain convolution: a product for each tap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.hand.unrolled import EPSILON

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.export.onnx.writer import GraphWriter
    from bakit.settings import LocalizerForm, UnrolledSettings

    Matrix = npt.NDArray[np.float64]


class Transforms(NamedTuple):
    """Winograd's matrices for tiles of m outputs of a filter of 3, in one dimension."""

    output: Matrix  # (m, m + 2)
    weight: Matrix  # (m + 2, 3)
    input: Matrix  # (m + 2, m + 2)


# For a constant input, all rows of `input` except the second give exactly zero, and that column of
# `output` is 1 for every phase: a flat background stays exactly flat, its differences have sign 0.
TRANSFORMS = {
    1: Transforms(np.ones((1, 3)), np.eye(3), np.eye(3)),
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


VERTICAL, HORIZONTAL = 2, 3
"""Axes of a plane."""


class TileEmitter:
    """Emits arithmetic on maps ``(phases, channels, tiles)``, and the convolution's transforms.

    While a map is transformed, its planes are ``(planes, channels, h, w)`` with one pixel per tile:
    first whole rows of planes are mixed, then the single planes of a row.
    """

    def __init__(
        self, writer: GraphWriter, settings: UnrolledSettings, form: LocalizerForm
    ) -> None:
        self.writer = writer
        self.settings = settings
        self.phases = 1 if form != "winograd" else 2 if settings.size % 4 else 4
        self.across = settings.size // self.phases
        self.tiles = self.across**2
        self.pixels = settings.size**2
        self.transforms = TRANSFORMS[self.phases]
        self.both = kron(self.transforms.weight)

    def op(self, operator: str, *inputs: str, **attributes: Any) -> str:
        """Add a node and return its output's name."""
        return self.writer.node(operator, *inputs, **attributes)

    def floats(self, value: npt.ArrayLike) -> str:
        """Return a float32 constant."""
        return self.writer.constant(value, np.float32)

    def ints(self, *values: int) -> str:
        """Return an int64 vector."""
        return self.writer.constant(values, np.int64)

    def add(self, first: str, second: str) -> str:
        """Return ``first + second``."""
        return self.op("Add", first, second)

    def subtract(self, first: str, second: str) -> str:
        """Return ``first - second``."""
        return self.op("Sub", first, second)

    def multiply(self, first: str, second: str) -> str:
        """Return ``first * second``, elementwise."""
        return self.op("Mul", first, second)

    def divide(self, first: str, second: str) -> str:
        """Return ``first / second``, elementwise."""
        return self.op("Div", first, second)

    def scaled(self, value: str, factor: float) -> str:
        """Return ``value * factor``."""
        return self.op("Mul", value, self.floats(factor))

    def product(self, first: str, second: str) -> str:
        """Return the matrix product."""
        return self.op("MatMul", first, second)

    def root(self, variance: str) -> str:
        """Return the standard deviation of a batch norm's variance."""
        return self.op("Sqrt", self.op("Add", variance, self.floats(EPSILON)))

    def reshape(self, value: str, *shape: int) -> str:
        """Return ``value`` in another shape."""
        return self.op("Reshape", value, self.ints(*shape))

    def join(self, *parts: str, axis: int) -> str:
        """Concatenate parts along an axis."""
        return self.op("Concat", *parts, axis=axis)

    def cut(self, value: str, axis: int, start: int, end: int) -> str:
        """Return ``value[start:end]`` along an axis."""
        return self.op("Slice", value, self.ints(start), self.ints(end), self.ints(axis))

    def sum(self, value: str, *axes: int, keep: bool = True) -> str:
        """Return the sum over axes."""
        return self.op("ReduceSum", value, self.ints(*axes), keepdims=int(keep))

    def column(self, value: str) -> str:
        """Return a vector as a column."""
        return self.reshape(value, -1, 1)

    def transposed(self, maps: str) -> str:
        """Return ``(K, A, B)`` as ``(K, B, A)``."""
        return self.op("Transpose", maps, perm=[0, 2, 1])

    def over_pixels(self, first: str, turned: str) -> str:
        """Return the sums over pixels of products of channels, ``(channels, channels)``."""
        return self.sum(self.product(first, turned), 0, keep=False)

    def mean_over_pixels(self, maps: str) -> str:
        """Return ``(1, C, 1)``, the mean of each channel over phases and tiles."""
        means = self.op("ReduceMean", maps, axes=[2], keepdims=1)
        return self.op("ReduceMean", means, axes=[0], keepdims=1)

    def mixture(self, factors: Matrix, values: Sequence[str]) -> str:
        """Return the sum of values times factors, as a chain that starts at the largest factors.

        5 is split into 4 and 1: then equal values cancel exactly.
        """
        terms: list[tuple[float, str]] = []
        for factor, value in zip(factors, values, strict=True):
            split = [0.8, 0.2] if abs(factor) == 5 else [1.0]
            terms += [(factor * share, value) for share in split if factor]
        terms.sort(key=lambda term: (-abs(term[0]), term[0] > 0))
        scale, total = terms[0]
        for factor, value in terms[1:]:
            if abs(scale) != abs(factor):
                total = self.scaled(total, abs(scale / factor))
            total = self.add(total, value) if scale * factor > 0 else self.subtract(value, total)
            scale = factor
        return total if scale == 1 else self.scaled(total, scale)

    def moved(self, value: str, axis: int, by: int) -> str:
        """Return tiles moved by one, down or right if ``by`` is 1, up or left if it is -1."""
        # One pass over the tiles: a pad of -1 removes the tile that leaves the image.
        return self.padded(value, axis, by, others=-1)

    def padded(self, value: str, axis: int, side: int, others: int = 0) -> str:
        """Pad with a zero tile before (``side`` 1) or behind (-1), ``others`` at the other end."""
        pads = [0] * 8
        near, far = (axis, axis + 4) if side > 0 else (axis + 4, axis)
        pads[near], pads[far] = 1, others
        return self.op("Pad", value, self.ints(*pads))

    def neighbourhood(self, phases: Sequence[str], axis: int) -> list[str]:
        """Return the inputs of a tile in one dimension: its phases and one more on each side."""
        return [self.moved(phases[-1], axis, 1), *phases, self.moved(phases[0], axis, -1)]

    def patches(self) -> str:
        """Return the image's 3x3 patches and a channel of ones, ``(phases, 10, tiles)``."""
        m, n = self.phases, self.across
        tiles = self.op("Transpose", self.reshape("image", n, m, n, m), perm=[1, 3, 0, 2])
        columns = [
            self.neighbourhood(column, VERTICAL) for column in zip(*self.split(tiles), strict=True)
        ]
        around = [self.neighbourhood(row, HORIZONTAL) for row in zip(*columns, strict=True)]
        ones = self.floats(np.ones((1, 1, self.tiles)))
        parts = []
        for y in range(m):
            for x in range(m):
                taps = [around[y + i][x + j] for i in range(3) for j in range(3)]
                flat = [self.reshape(tap, 1, 1, self.tiles) for tap in taps]
                parts.append(self.join(*flat, ones, axis=1))
        return self.join(*parts, axis=0)

    def image_of(self, maps: str, name: str) -> None:
        """Reorder maps of one channel as an image, the output ``name``."""
        m, n, side = self.phases, self.across, self.settings.size
        tiles = self.op("Transpose", self.reshape(maps, m, m, n, n), perm=[2, 0, 3, 1])
        self.op("Reshape", tiles, self.ints(side, side), name=name)

    def spatial(self, maps: str, planes: int) -> str:
        """Return ``(planes, C, across, across)`` of planes by tiles."""
        return self.reshape(maps, planes, -1, self.across, self.across)

    def planes_of(self, maps: str, count: int) -> list[str]:
        """Return each plane, ``(1, C, across, across)``.

        They are cut before they are reshaped: OpenVINO fuses no arithmetic with a cut.
        """
        flat = self.reshape(maps, count, -1, self.tiles)
        return [self.spatial(self.cut(flat, 0, index, index + 1), 1) for index in range(count)]

    def rows(self, maps: str, length: int) -> list[str]:
        """Return the planes by vertical place, ``(length, C, across, across)`` each."""
        starts = range(0, length * length, length)
        return [self.spatial(self.cut(maps, 0, row, row + length), length) for row in starts]

    def split(self, maps: str) -> list[list[str]]:
        """Return each phase's plane, by vertical and horizontal phase."""
        m = self.phases
        planes = self.planes_of(maps, m * m)
        return [planes[start : start + m] for start in range(0, m * m, m)]

    def mixtures(self, matrix: Matrix, planes: Sequence[str]) -> list[str]:
        """Return the product of a matrix and a column of planes."""
        return [self.mixture(factors, planes) for factors in matrix]

    def transform(self, maps: str) -> str:
        """Transform a convolution's input; ``(elements, C, tiles)``, in the order of ``both``.

        As sums, not as a product of matrices: only these are exact (see ``TRANSFORMS``).
        """
        matrix = self.transforms.input
        rows = self.mixtures(matrix, self.neighbourhood(self.rows(maps, self.phases), VERTICAL))
        elements = []
        for row in rows:
            columns = self.neighbourhood(self.planes_of(row, self.phases), HORIZONTAL)
            elements += self.mixtures(matrix, columns)
        return self.joined(elements)

    def transform_back(self, elements: str) -> str:
        """Return the gradient of ``transform``'s input from that of its result."""
        matrix, count = self.transforms.input.T, self.phases + 2
        planes = []
        for row in self.added_back(self.mixtures(matrix, self.rows(elements, count)), VERTICAL):
            columns = self.mixtures(matrix, self.planes_of(row, count))
            planes += self.added_back(columns, HORIZONTAL)
        return self.joined(planes)

    def added_back(self, around: Sequence[str], axis: int) -> list[str]:
        """Add the gradients outside each tile to its neighbours' phases."""
        before, *phases, behind = around
        phases[-1] = self.add(phases[-1], self.moved(before, axis, -1))
        phases[0] = self.add(phases[0], self.moved(behind, axis, 1))
        return phases

    def outputs(self, products: str, activation: str) -> str:
        """Return a convolution's output, activated, from its products ``(elements, C, tiles)``."""
        return self.combined(kron(self.transforms.output), products, activation)

    def outputs_back(self, gradient: str) -> str:
        """Return the gradient of ``outputs``' products from that of its result."""
        return self.combined(kron(self.transforms.output.T), gradient)

    def combined(self, matrix: Matrix, maps: str, activation: str = "") -> str:
        """Return the product of a matrix and maps, each map being one entry, activated."""
        rows, columns = matrix.shape
        product = self.product(self.floats(matrix), self.reshape(maps, columns, -1))
        if activation:
            product = self.op(activation, product)
        return self.reshape(product, rows, -1, self.tiles)

    def joined(self, planes: Sequence[str]) -> str:
        """Return planes as ``(planes, C, tiles)``."""
        return self.reshape(self.join(*planes, axis=0), len(planes), -1, self.tiles)


def kron(matrix: Matrix) -> Matrix:
    """Return the two-dimensional form of a one-dimensional transform, vertical first."""
    return np.kron(matrix, matrix).astype(np.float64)
