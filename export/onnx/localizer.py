"""Every localizer as an ONNX graph: which writer for which method."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.export.onnx.student import student_model
from bakit.export.onnx.unrolled import unrolled_model
from bakit.export.onnx.winograd import winograd_model
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.settings import LocalizerForm, LocalizerSettings
    from bakit.types import Weights


def localizer_model(
    weights: Weights, settings: LocalizerSettings, form: LocalizerForm = "loop"
) -> ModelProto:
    """Write a localizer.

    Args:
        weights: As in ``bakit.hand.weights.weight_shapes``.
        settings: Method and its numbers, fixed in the graph.
        form: How steps on the image are written, see ``bakit.settings.LocalizerForm``.
    """
    if isinstance(settings, StudentSettings):
        return student_model(weights, settings)
    if form == "winograd":
        return winograd_model(weights, settings)
    return unrolled_model(weights, settings, form)
