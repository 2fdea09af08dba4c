"""What INT8 is made by: ranges of activations and a recipe. They travel in the checkpoint."""

from __future__ import annotations

import msgspec


class Int8Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the regressor is quantized.

    Weights are symmetric INT8, activations UINT8 per tensor. The defaults are what
    ``bakit calibrate --search`` found for the shipped checkpoint: the two layers that see the bare
    image cost the most accuracy and have the fewest multiply-adds, and the last layer's output is
    months already.

    Attributes:
        float_layers: Names of convolutions and dense layers of the exported graph that stay float.
        per_channel: Whether each output channel of a weight has a scale of its own.
        equalize: Whether scales are moved between layers first (``bakit.export.equalize``).
    """

    float_layers: tuple[str, ...] = ("age_months", "block1/depthwise", "head/sex", "stem/conv")
    per_channel: bool = True
    equalize: bool = False


class Ranges(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Activation ranges for INT8, gathered on training images, and the recipe they are for.

    Attributes:
        method: How ranges were made of what was seen (``bakit.calib.methods``).
        samples: Calibration images.
        calibration_sha256: Digest of the calibration set.
        weights_sha256: Digest of the weights that they belong to.
        tensors: Lowest and highest value by tensor name of the exported regressor.
        recipe: How the regressor is quantized with them.
        biases: By layer, what is added to its bias to undo the mean error of INT8.
        images_sha256: Digests of the images (``bakit.preprocess.pixel_digest``), so that nothing is
            measured on them.
    """

    method: str
    samples: int
    calibration_sha256: str
    weights_sha256: str
    tensors: dict[str, tuple[float, float]]
    recipe: Int8Recipe = Int8Recipe()
    biases: dict[str, tuple[float, ...]] = {}
    images_sha256: tuple[str, ...] = ()
