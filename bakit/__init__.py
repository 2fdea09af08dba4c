"""Export, calibrate, benchmark and run bone-age models on edge and mobile targets.

Names are imported on first use: ``import bakit`` itself loads nothing but this file.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bakit.bundle import Bundle
    from bakit.errors import (
        BakitError,
        BundleError,
        CheckpointError,
        ImageError,
        InputError,
        LabelsError,
        MissingBackendError,
        UnsupportedTargetError,
        VerificationError,
    )
    from bakit.image.box import Box
    from bakit.model.checkpoint import Checkpoint
    from bakit.runtime import Prediction, Quality, Runtime
    from bakit.targets import Target, get_target
    from bakit.types import Precision

__version__ = "0.2.0"

# ONNX Runtime from 1.3x on writes an identifier into the home folder and reports its use to its
# makers, unless this is set before it is imported.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

_HOME = {
    "BakitError": "errors",
    "Box": "image.box",
    "Bundle": "bundle",
    "BundleError": "errors",
    "Checkpoint": "model.checkpoint",
    "CheckpointError": "errors",
    "ImageError": "errors",
    "InputError": "errors",
    "LabelsError": "errors",
    "MissingBackendError": "errors",
    "Precision": "types",
    "Prediction": "runtime",
    "Quality": "runtime",
    "Runtime": "runtime",
    "Target": "targets",
    "UnsupportedTargetError": "errors",
    "VerificationError": "errors",
    "get_target": "targets",
}

__all__ = [
    "BakitError",
    "Box",
    "Bundle",
    "BundleError",
    "Checkpoint",
    "CheckpointError",
    "ImageError",
    "InputError",
    "LabelsError",
    "MissingBackendError",
    "Precision",
    "Prediction",
    "Quality",
    "Runtime",
    "Target",
    "UnsupportedTargetError",
    "VerificationError",
    "get_target",
]


def __getattr__(name: str) -> object:
    """Import a public name's module when the name is first used."""
    if name not in _HOME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"bakit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
