"""Export, calibrate, benchmark and run bone-age models on edge and mobile targets.

Names are imported on first use: ``import bakit`` itself loads nothing but this file.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the same names again, for type checkers
    from bakit.bundle import Bundle as Bundle
    from bakit.errors import BakitError as BakitError
    from bakit.errors import BundleError as BundleError
    from bakit.errors import CheckpointError as CheckpointError
    from bakit.errors import ImageError as ImageError
    from bakit.errors import InputError as InputError
    from bakit.errors import LabelsError as LabelsError
    from bakit.errors import MissingBackendError as MissingBackendError
    from bakit.errors import UnsupportedTargetError as UnsupportedTargetError
    from bakit.errors import VerificationError as VerificationError
    from bakit.image.box import Box as Box
    from bakit.model.checkpoint import Checkpoint as Checkpoint
    from bakit.runtime import Prediction as Prediction
    from bakit.runtime import Quality as Quality
    from bakit.runtime import Runtime as Runtime
    from bakit.targets import Target as Target
    from bakit.targets import get_target as get_target
    from bakit.types import Precision as Precision

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

__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    """Import a public name's module when the name is first used."""
    if name not in _HOME:
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message)
    return getattr(importlib.import_module(f"bakit.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    """List the public names."""
    return [*__all__, "__version__"]
