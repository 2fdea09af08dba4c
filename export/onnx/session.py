"""Open a localizer by ONNX Runtime without a bundle around it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from bakit.backends.ort import OrtSession
from bakit.export.onnx.localizer import localizer_model
from bakit.export.onnx.writer import serialize
from bakit.hand.prepare import OpenLocalizer
from bakit.hand.weights import get_localizer

if TYPE_CHECKING:
    from bakit.settings import LocalizerSettings
    from bakit.types import Weights


def open_localizer(
    weights: Weights, settings: LocalizerSettings, threads: int | None = None
) -> OpenLocalizer:
    """Write a localizer's graph and open it.

    Args:
        weights: As in ``bakit.hand.weights.weight_shapes``.
        settings: Method and its numbers.
        threads: Threads; ONNX Runtime's own choice when None.
    """
    session = OrtSession(serialize(localizer_model(weights, settings)), threads=threads)
    return OpenLocalizer(session, settings)


@cache
def shipped_localizer(method: str) -> OpenLocalizer:
    """Return a localizer that comes along, opened once in a process.

    It has one thread: for work that is spread over processes.
    """
    found = get_localizer(method)
    return open_localizer(found.weights, found.settings, 1)
