"""The student localizer: a small network that draws the hand in one pass.

An encoder of strided 3x3 convolutions down to 4x4 cells, and back up with sums for shortcuts. Only
Conv, Relu, Resize (nearest, twice), Add and Sigmoid, so that every runtime has it and INT8 fits it.
Batch norms of the training are folded into the convolutions before the weights are stored.

The topology is written once, in ``run``; torch and the ONNX writer give the operations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

if TYPE_CHECKING:
    from bakit.settings import StudentSettings

Maps = TypeVar("Maps")


class Layer(NamedTuple):
    """One convolution with a bias.

    Attributes:
        name: Its name; weights are ``<name>.weight`` and ``<name>.bias``.
        inputs: Channels in.
        outputs: Channels out.
        kernel: Side of the kernel, 1 or 3; padded so that the size stays.
        stride: 1, or 2 to halve the size.
        relu: Whether a ReLU follows.
    """

    name: str
    inputs: int
    outputs: int
    kernel: int = 3
    stride: int = 1
    relu: bool = True


class Operations(Protocol[Maps]):
    """What a runtime gives to ``run``."""

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
        """Squeeze to 0..1."""
        ...


def layers(settings: StudentSettings) -> dict[str, Layer]:
    """Return every convolution by name, in the order they run."""
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
    """Draw the hand.

    Args:
        operations: The runtime's operations.
        image: ``(N, 1, S, S)`` in 0..1, the working image.
        settings: Widths of the levels.

    Returns:
        ``(N, 1, S, S)`` in 0..1: how sure each pixel is the hand's.
    """
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
