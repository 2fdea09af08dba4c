"""What goes into a model and what comes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from bakit.settings import Architecture, LocalizerSettings, Preprocessing


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Name, shape and dtype of one input or output.

    Attributes:
        name: Its name in the model file.
        shape: Static shape; images are ``(N, C, H, W)``.
        dtype: NumPy's name of the dtype, such as ``float32``.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"


def regressor_inputs(
    architecture: Architecture, preprocessing: Preprocessing
) -> tuple[TensorSpec, ...]:
    """Return the inputs: ``image (1, 1, S, S)`` in 0..1 and, if used, ``sex (1, 1)``, male 1."""
    size = preprocessing.image_size
    image = TensorSpec("image", (1, 1, size, size))
    return (image, TensorSpec("sex", (1, 1))) if architecture.sex else (image,)


def regressor_outputs() -> tuple[TensorSpec, ...]:
    """Return the output: ``age_months (1, 1)``."""
    return (TensorSpec("age_months", (1, 1)),)


def localizer_inputs(settings: LocalizerSettings) -> tuple[TensorSpec, ...]:
    """Return the input: the working image, ``(1, 1, h, w)`` in 0..1."""
    return (TensorSpec("image", (1, 1, settings.size, settings.size)),)


def localizer_outputs(settings: LocalizerSettings) -> tuple[TensorSpec, ...]:
    """Return the output: ``labels (h, w)`` int32, or the student's ``hand (h, w)`` float32."""
    if isinstance(settings, StudentSettings):
        return (TensorSpec("hand", (settings.size, settings.size)),)
    return (TensorSpec("labels", (settings.size, settings.size), "int32"),)
