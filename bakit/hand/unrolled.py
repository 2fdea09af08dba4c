"""The unrolled localizer: SGD steps on one image, with the backward pass written by hand.

Interpretation of the paper (Li et al. 2021, eqs 1-4 and algorithm 1; Kim et al. 2020, its ref. 19):

* Network: conv 3x3 (1 -> p), ReLU, batch norm; conv 3x3 (p -> p), ReLU, batch norm; conv 1x1
  (p -> q), batch norm = the response y. Batch norm uses the image's own statistics.
* Labels c = argmax y over the q channels.
* Eq. 2 takes the logarithm of y, which can be negative: read as softmax cross-entropy of y against
  c (a constant), averaged over pixels. Eq. 4 is a sum: read as the mean over pixels *and* channels
  of the absolute differences, vertical plus horizontal. As sums, both diverge at the paper's
  learning rate.
* Loss = lambda * similarity + mu * continuity; SGD with momentum on every parameter, the affine
  ones of batch norm included; after the last update one more forward pass gives the labels.
* The initial weights are stored in the checkpoint, since random generators differ between runtimes.

Convolutions are matrix products over 3x3 patches U, so that with Z = W U the gradients are
dW = dZ Uᵀ and dU = Wᵀ dZ, folded back onto the image. ``bakit.export.onnx.unrolled`` writes it as a
graph; tests compare both with autograd. Only numpy is needed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from bakit.settings import UnrolledSettings

Array: TypeAlias = "npt.NDArray[np.floating]"
Weights: TypeAlias = "dict[str, Array]"

EPSILON = 1e-5
"""Added to the variance in batch norm, torch's default."""

LAYERS = ("conv1", "norm1", "conv2", "norm2", "conv3", "norm3")


def weight_shapes(settings: UnrolledSettings) -> dict[str, tuple[int, ...]]:
    """Return the shape of every parameter by name, in the order of storage."""
    p, q = settings.features, settings.labels
    convolutions = {"conv1": (p, 1, 3, 3), "conv2": (p, p, 3, 3), "conv3": (q, p, 1, 1)}
    shapes: dict[str, tuple[int, ...]] = {}
    for layer in LAYERS:
        shape = convolutions.get(layer, (q if layer == "norm3" else p,))
        shapes[f"{layer}.weight"] = shape
        shapes[f"{layer}.bias"] = shape[:1]
    return shapes


def initial_weights(settings: UnrolledSettings) -> Weights:
    """Draw the fixed initial weights: uniform in ±1/sqrt(fan in), batch norm at 1 and 0.

    Returns:
        float32 arrays by name, shapes as in ``weight_shapes``.
    """
    rng = np.random.default_rng(settings.seed)
    weights: Weights = {}
    bound = 1.0
    for name, shape in weight_shapes(settings).items():
        if name.startswith("norm"):
            value = np.full(shape, 1.0 if name.endswith("weight") else 0.0)
        else:
            if name.endswith("weight"):
                bound = 1 / np.sqrt(np.prod(shape[1:]))
            value = rng.uniform(-bound, bound, shape)
        weights[name] = value.astype(np.float32)
    return weights


def localize(
    image: Array,
    weights: Weights,
    settings: UnrolledSettings,
    on_step: Callable[[int, Weights], None] | None = None,
) -> npt.NDArray[np.int32]:
    """Cluster the pixels of one image.

    Args:
        image: ``(h, w)`` in 0..1; its dtype is the dtype of the arithmetic.
        weights: Initial weights, left untouched.
        settings: Steps, learning rate and loss weights.
        on_step: Called with the step's number, from 1, and the weights after it.

    Returns:
        ``(h, w)`` int32, the last label map with at least two labels (zeros if there was none).
    """
    shape = (image.shape[0], image.shape[1])
    weights = {name: value.astype(image.dtype) for name, value in weights.items()}
    velocity = {name: np.zeros_like(value) for name, value in weights.items()}
    patches = unfold(image.reshape(1, -1), shape)
    kept = np.zeros(shape, np.int32)
    for step in range(1, settings.steps + 1):
        response, gradients = loss_gradients(patches, shape, weights, settings)
        kept = _keep(response, shape, kept)
        for name, gradient in gradients.items():
            velocity[name] = settings.momentum * velocity[name] + gradient
            weights[name] = weights[name] - settings.learning_rate * velocity[name]
        if on_step:
            on_step(step, weights)
    response, _ = _forward(patches, shape, weights)
    return _keep(response, shape, kept)


def loss_gradients(
    patches: Array, shape: tuple[int, int], weights: Weights, settings: UnrolledSettings
) -> tuple[Array, Weights]:
    """Run one forward and one backward pass on ``unfold`` of an image, ``(9, h*w)``.

    Returns:
        The response y, ``(q, h*w)``, and the loss's gradient for every parameter.
    """
    response, saved = _forward(patches, shape, weights)
    gradients: Weights = {}
    upstream = _loss_gradient(response, shape, settings)
    for index in (3, 2, 1):
        normalized, deviation, activated, inputs = saved[index - 1]
        scale = weights[f"norm{index}.weight"]
        gradients[f"norm{index}.weight"] = (upstream * normalized).sum(1)
        gradients[f"norm{index}.bias"] = upstream.sum(1)
        upstream = _norm_backward(upstream * scale[:, None], normalized, deviation)
        if index < 3:
            upstream = upstream * (activated > 0)
        matrix = weights[f"conv{index}.weight"].reshape(len(upstream), -1)
        shape_of_weight = weights[f"conv{index}.weight"].shape
        gradients[f"conv{index}.weight"] = (upstream @ inputs.T).reshape(shape_of_weight)
        gradients[f"conv{index}.bias"] = upstream.sum(1)
        if index > 1:
            upstream = matrix.T @ upstream
            upstream = fold(upstream, shape) if index == 2 else upstream
    return response, gradients


def unfold(channels: Array, shape: tuple[int, int]) -> Array:
    """Return the 3x3 patches of zero-padded channels: ``(c, h*w)`` to ``(9*c, h*w)``."""
    h, w = shape
    padded = np.pad(channels.reshape(-1, h, w), ((0, 0), (1, 1), (1, 1)))
    taps = [padded[:, y : y + h, x : x + w] for y in range(3) for x in range(3)]
    return np.stack(taps, axis=1).reshape(-1, h * w)


def fold(patches: Array, shape: tuple[int, int]) -> Array:
    """Add patches back onto their pixels, the transpose of ``unfold``."""
    h, w = shape
    taps = patches.reshape(-1, 9, h, w)
    padded = np.zeros((len(taps), h + 2, w + 2), patches.dtype)
    for tap in range(9):
        y, x = divmod(tap, 3)
        padded[:, y : y + h, x : x + w] += taps[:, tap]
    folded: Array = padded[:, 1:-1, 1:-1].reshape(-1, h * w)
    return folded


def _forward(
    patches: Array, shape: tuple[int, int], weights: Weights
) -> tuple[Array, list[tuple[Array, Array, Array, Array]]]:
    """Return y and, per layer, the values for the backward pass."""
    saved = []
    inputs = patches
    output = patches
    for index in (1, 2, 3):
        matrix = weights[f"conv{index}.weight"]
        output = matrix.reshape(len(matrix), -1) @ inputs + weights[f"conv{index}.bias"][:, None]
        activated = np.maximum(output, 0) if index < 3 else output
        centred = activated - activated.mean(1, keepdims=True)
        deviation = np.sqrt((centred * centred).mean(1, keepdims=True) + EPSILON)
        normalized = centred / deviation
        output = normalized * weights[f"norm{index}.weight"][:, None]
        output = output + weights[f"norm{index}.bias"][:, None]
        saved.append((normalized, deviation, activated, inputs))
        if index == 1:
            inputs = unfold(output, shape)
        elif index == 2:
            inputs = output
    return output, saved


def _loss_gradient(response: Array, shape: tuple[int, int], settings: UnrolledSettings) -> Array:
    """Return the gradient of eq. 1 with respect to y, ``(q, h*w)``."""
    h, w = shape
    shifted = np.exp(response - response.max(0))
    gradient: Array = shifted / shifted.sum(0)
    gradient[response.argmax(0), np.arange(h * w)] -= 1
    gradient *= settings.similarity / (h * w)
    maps = response.reshape(-1, h, w)
    continuity = gradient.reshape(-1, h, w)
    vertical = np.sign(np.diff(maps, axis=1)) * (settings.continuity / (len(maps) * (h - 1) * w))
    horizontal = np.sign(np.diff(maps, axis=2)) * (settings.continuity / (len(maps) * h * (w - 1)))
    continuity[:, 1:] += vertical
    continuity[:, :-1] -= vertical
    continuity[:, :, 1:] += horizontal
    continuity[:, :, :-1] -= horizontal
    return gradient


def _norm_backward(upstream: Array, normalized: Array, deviation: Array) -> Array:
    """Return the gradient before batch norm with the image's own statistics."""
    mean = upstream.mean(1, keepdims=True)
    projection = (upstream * normalized).mean(1, keepdims=True)
    gradient: Array = (upstream - mean - normalized * projection) / deviation
    return gradient


def _keep(
    response: Array, shape: tuple[int, int], kept: npt.NDArray[np.int32]
) -> npt.NDArray[np.int32]:
    """Return the label map of ``response`` if it has two labels, else ``kept``."""
    labels = response.argmax(0).astype(np.int32).reshape(shape)
    return labels if labels.max() != labels.min() else kept
