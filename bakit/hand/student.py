"""The student localizer: a small segmentation network.

An encoder of strided 3x3 convolutions down to 4x4 cells, and a decoder with additive shortcuts. It
has only Conv, Relu, Resize (nearest, by 2), Add and Sigmoid, which every runtime supports, also in
INT8. Training's batch norms are folded into the convolutions before the weights are stored.

``run`` defines the topology once; torch and the ONNX writer provide the operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from bakit.settings import StudentSettings

Maps = TypeVar("Maps")


class Layer(NamedTuple):
    """One convolution with a bias, its padding half a kernel."""

    name: str  # weights are <name>.weight and <name>.bias
    inputs: int  # channels
    outputs: int
    kernel: int = 3  # 1 or 3
    stride: int = 1  # 2 halves the size
    relu: bool = True  # whether a ReLU follows


class Operations(Protocol[Maps]):
    """Operations of a runtime, for ``run``."""

    def convolution(self, maps: Maps, layer: Layer) -> Maps:
        """Convolve, add the bias, and apply the layer's ReLU."""
        ...

    def enlarge(self, maps: Maps) -> Maps:
        """Repeat every pixel twice in each direction."""
        ...

    def add(self, first: Maps, second: Maps) -> Maps:
        """Add two maps of one shape."""
        ...

    def sigmoid(self, maps: Maps) -> Maps:
        """Apply the sigmoid."""
        ...


def layers(settings: StudentSettings) -> dict[str, Layer]:
    """Return every convolution by name, in the order of computation."""
    widths = settings.widths
    found = [Layer("enter", 1, widths[0])]
    for level in range(1, len(widths)):
        found.append(Layer(f"down{level}", widths[level - 1], widths[level], stride=2))
        found.append(Layer(f"encode{level}", widths[level], widths[level]))
    for level in reversed(range(len(widths) - 1)):
        found.append(Layer(f"narrow{level}", widths[level + 1], widths[level], 1, relu=False))
        found.append(Layer(f"decode{level}", widths[level], widths[level]))
    found.append(Layer("leave", widths[0], 1, 1, relu=False))
    return {layer.name: layer for layer in found}


def weight_shapes(settings: StudentSettings) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by name."""
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in layers(settings).values():
        shapes[f"{layer.name}.weight"] = (layer.outputs, layer.inputs, layer.kernel, layer.kernel)
        shapes[f"{layer.name}.bias"] = (layer.outputs,)
    return shapes


def run(operations: Operations[Maps], image: Maps, settings: StudentSettings) -> Maps:
    """Compute the probability of the hand for every pixel of ``(N, 1, S, S)`` working images."""
    known = layers(settings)
    maps = operations.convolution(image, known["enter"])
    shortcuts = [maps]
    for level in range(1, len(settings.widths)):
        maps = operations.convolution(maps, known[f"down{level}"])
        maps = operations.convolution(maps, known[f"encode{level}"])
        shortcuts.append(maps)
    for level in reversed(range(len(settings.widths) - 1)):
        maps = operations.enlarge(operations.convolution(maps, known[f"narrow{level}"]))
        maps = operations.add(maps, shortcuts[level])
        maps = operations.convolution(maps, known[f"decode{level}"])
    return operations.sigmoid(operations.convolution(maps, known["leave"]))
