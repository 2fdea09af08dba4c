"""Every localizer as an ONNX graph, and opened by ONNX Runtime without a bundle."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from bakit.backends.ort import OrtSession
from bakit.export.onnx.student import student_model
from bakit.export.onnx.unrolled import unrolled_model
from bakit.export.onnx.writer import serialize
from bakit.hand.prepare import OpenLocalizer
from bakit.hand.weights import get_localizer
from bakit.processes import cpu_count
from bakit.settings import StudentSettings

if TYPE_CHECKING:
    from onnx import ModelProto

    from bakit.settings import LocalizerForm, LocalizerSettings
    from bakit.types import Weights


def localizer_model(
    weights: Weights, settings: LocalizerSettings, form: LocalizerForm = "loop"
) -> ModelProto:
    """Write a localizer.

    The method's numbers and the form of the SGD steps are fixed in the graph.
    """
    if isinstance(settings, StudentSettings):
        return student_model(weights, settings)
    return unrolled_model(weights, settings, form)


def open_localizer(
    weights: Weights, settings: LocalizerSettings, threads: int | None = None
) -> OpenLocalizer:
    """Write a localizer's graph and open it; one thread per CPU when None."""
    session = OrtSession(serialize(localizer_model(weights, settings)), threads or cpu_count())
    return OpenLocalizer(session, settings)


@cache
def shipped_localizer(method: str) -> OpenLocalizer:
    """Return a localizer of the package, opened once in a process.

    It has one thread, for work that is spread over processes.
    """
    found = get_localizer(method)
    return open_localizer(found.weights, found.settings, 1)
