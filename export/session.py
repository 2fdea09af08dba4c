"""Open a localizer by ONNX Runtime without a bundle around it."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from bakit.backends.ort import OrtSession
from bakit.export.onnx_localizer import localizer_model
from bakit.export.onnx_writer import serialize
from bakit.localizers import get_localizer

if TYPE_CHECKING:
    from bakit.localizers import Weights
    from bakit.settings import LocalizerSettings


def open_localizer(
    weights: Weights, settings: LocalizerSettings, threads: int | None = None
) -> OrtSession:
    """Write a localizer's graph and open it.

    Args:
        weights: As in ``bakit.localizers.weight_shapes``.
        settings: Method and its numbers.
        threads: Threads; ONNX Runtime's own choice when None.
    """
    return OrtSession(serialize(localizer_model(weights, settings)), threads=threads)


@cache
def shipped_localizer(method: str) -> tuple[OrtSession, LocalizerSettings]:
    """Return a localizer that comes along and its settings, opened once in a process.

    It has one thread: for work that is spread over processes.
    """
    found = get_localizer(method)
    return open_localizer(found.weights, found.settings, 1), found.settings
