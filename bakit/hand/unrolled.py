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
graph; tests compare it with autograd (``bakit.model.localizers``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

if TYPE_CHECKING:
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
