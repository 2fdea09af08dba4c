"""Winograd's convolution and its gradients as ONNX nodes, on tiles of the image.

A tile of 4x4 outputs of a 3x3 convolution takes 36 products where the definition takes 144 (Lavin
and Gray 2016). The transforms around the products are linear, so the gradients of input and weights
are the same products with the transforms transposed. Pixels are kept by phase, their place in their
tile: ``(phases, channels, tiles)``; a transform is then sums of whole planes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.localizer import EPSILON

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

    from bakit.export.onnx_writer import GraphWriter
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


class TileEmitter:
    """Emits arithmetic on maps ``(phases, channels, tiles)``, and the convolution's transforms.

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
        """Return ``first * second``, each by each."""
        return self.op("Mul", first, second)

    def divide(self, first: str, second: str) -> str:
        """Return ``first / second``, each by each."""
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
        """Return the parts one after the other along an axis."""
        return self.op("Concat", *parts, axis=axis)

    def cut(self, value: str, axis: int, start: int, end: int) -> str:
        """Return ``value[start:end]`` along an axis."""
        return self.op("Slice", value, self.ints(start), self.ints(end), self.ints(axis))

    def planes(self, value: str, axis: int, count: int) -> list[str]:
        """Return each index of an axis, the axis kept."""
        return [self.cut(value, axis, index, index + 1) for index in range(count)]

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
        # One pass over the tiles: a pad of -1 takes away the tile that is moved out.
        return self.padded(value, axis, by, others=-1)

    def padded(self, value: str, axis: int, side: int, others: int = 0) -> str:
        """Return a transformed map with a zero tile before (1) or behind (-1) the others.

        ``others`` tiles are added at the other end.
        """
        pads = [0] * 10
        near, far = (axis, axis + 5) if side > 0 else (axis + 5, axis)
        pads[near], pads[far] = 1, others
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
        """Return ``(rows, columns, C, across, across)`` of phases by tiles."""
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
