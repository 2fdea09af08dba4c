"""The localizers in torch: the unrolled one by autograd, and the student."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fuse_conv_bn_eval

from bakit.hand import student
from bakit.hand.unrolled import EPSILON

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from bakit.hand.student import Layer
    from bakit.settings import StudentSettings, UnrolledSettings


def localize_autograd(
    image: Tensor,
    weights: Mapping[str, Tensor],
    settings: UnrolledSettings,
    on_step: Callable[[int, Mapping[str, Tensor]], None] | None = None,
) -> Tensor:
    """Run the unrolled localizer with torch's own convolutions, gradients and optimiser.

    The reference of the exported graphs; ``bakit.hand.unrolled`` documents the interpretation of
    the paper.

    Args:
        image: ``(h, w)`` in 0..1; its dtype is the dtype of the arithmetic.
        weights: Initial weights, left untouched.
        settings: Steps, learning rate and loss weights.
        on_step: Called with the step's number, from 1, and the weights after it.

    Returns:
        ``(h, w)`` int32, the last label map with at least two labels (zeros if there was none).
    """
    parameters = {
        name: value.detach().to(image.dtype).clone().requires_grad_()
        for name, value in weights.items()
    }
    optimizer = torch.optim.SGD(
        parameters.values(), lr=settings.learning_rate, momentum=settings.momentum
    )
    kept = torch.zeros_like(image, dtype=torch.int32)
    for step in range(1, settings.steps + 1):
        response = _response(image, parameters)
        target = response.argmax(1).detach()
        if target.min() != target.max():
            kept = target[0].int()
        similarity = functional.cross_entropy(response, target)
        vertical = (response[:, :, 1:] - response[:, :, :-1]).abs().mean()
        horizontal = (response[:, :, :, 1:] - response[:, :, :, :-1]).abs().mean()
        loss = settings.similarity * similarity + settings.continuity * (vertical + horizontal)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if on_step:
            on_step(step, parameters)
    with torch.no_grad():
        labels = _response(image, parameters).argmax(1)[0].int()
    return labels if labels.min() != labels.max() else kept


def _response(image: Tensor, parameters: Mapping[str, Tensor]) -> Tensor:
    """Return y, ``(1, q, h, w)``."""
    maps = image[None, None]
    for index in (1, 2, 3):
        weight, bias = parameters[f"conv{index}.weight"], parameters[f"conv{index}.bias"]
        maps = functional.conv2d(maps, weight, bias, padding=weight.shape[-1] // 2)
        if index < 3:
            maps = functional.relu(maps)
        scale, shift = parameters[f"norm{index}.weight"], parameters[f"norm{index}.bias"]
        maps = functional.batch_norm(maps, None, None, scale, shift, training=True, eps=EPSILON)
    return maps


class _Operations:
    """Operations without weights."""

    def enlarge(self, maps: Tensor) -> Tensor:
        """Repeat every pixel twice in each direction."""
        return functional.interpolate(maps, scale_factor=2, mode="nearest")

    def add(self, first: Tensor, second: Tensor) -> Tensor:
        """Add two maps."""
        return first + second


class _WeightOperations(_Operations):
    """``bakit.hand.student.run`` on folded weights."""

    def __init__(self, weights: Mapping[str, Tensor]) -> None:
        self.weights = weights

    def convolution(self, maps: Tensor, layer: Layer) -> Tensor:
        weight, bias = self.weights[f"{layer.name}.weight"], self.weights[f"{layer.name}.bias"]
        maps = functional.conv2d(maps, weight, bias, layer.stride, layer.kernel // 2)
        return functional.relu(maps) if layer.relu else maps

    def sigmoid(self, maps: Tensor) -> Tensor:
        return torch.sigmoid(maps)


def draw_hand(image: Tensor, weights: Mapping[str, Tensor], settings: StudentSettings) -> Tensor:
    """Return the student's probabilities for ``(N, 1, S, S)`` working images, same shape."""
    return student.run(_WeightOperations(weights), image, settings)


class StudentInTraining(_Operations, nn.Module):
    """The student with a batch norm behind every convolution except the last."""

    def __init__(self, settings: StudentSettings) -> None:
        super().__init__()
        self.settings = settings
        self.convolutions, self.norms = nn.ModuleDict(), nn.ModuleDict()
        for name, layer in student.layers(settings).items():
            shape = (layer.inputs, layer.outputs, layer.kernel, layer.stride, layer.kernel // 2)
            self.convolutions[name] = nn.Conv2d(*shape, bias=name == "leave")
            if name != "leave":
                self.norms[name] = nn.BatchNorm2d(layer.outputs)

    def forward(self, image: Tensor) -> Tensor:
        """Return the values of ``draw_hand`` before the sigmoid."""
        return student.run(self, image, self.settings)

    def convolution(self, maps: Tensor, layer: Layer) -> Tensor:
        """Convolve, normalize, and apply the layer's ReLU."""
        maps = self.convolutions[layer.name](maps)
        if layer.name in self.norms:
            maps = self.norms[layer.name](maps)
        return functional.relu(maps) if layer.relu else maps

    def sigmoid(self, maps: Tensor) -> Tensor:
        """Return the maps unchanged: the loss contains the sigmoid."""
        return maps

    def folded(self) -> dict[str, Tensor]:
        """Return the weights of ``draw_hand``, with batch norms folded in."""
        weights: dict[str, Tensor] = {}
        exact = copy.deepcopy(self).double().eval()
        for name, layer in exact.convolutions.items():
            assert isinstance(layer, nn.Conv2d)
            fused = layer
            if name in exact.norms:
                norm = exact.norms[name]
                assert isinstance(norm, nn.BatchNorm2d)
                fused = fuse_conv_bn_eval(layer, norm)
            assert fused.bias is not None
            weights[f"{name}.weight"] = fused.weight.detach().float()
            weights[f"{name}.bias"] = fused.bias.detach().float()
        return weights
