"""coremltools, imported without its warnings about missing parts, and the layout of packages."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

# Off a Mac it warns once for each native part that is missing, and of any torch newer than itself.
# Neither matters here: no torch model is converted, and missing parts raise errors where needed.
_disabled = logging.root.manager.disable
logging.disable(logging.WARNING)
try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import coremltools as coremltools
        from coremltools.converters.mil import Builder as Builder
        from coremltools.converters.mil.frontend.milproto import load as milproto
        from coremltools.converters.mil.mil import Function as Function
        from coremltools.converters.mil.mil import Program as Program
        from coremltools.converters.mil.mil import types as types
finally:
    logging.disable(_disabled)

__all__ = ["Builder", "Function", "Program", "coremltools", "milproto", "remote_parts", "types"]

MODEL = "Data/com.apple.CoreML/model.mlmodel"
"""Path of the model file in an ``.mlpackage``."""

WEIGHTS = "Data/com.apple.CoreML/weights"
"""Path of the weights' folder."""


def package_of(model: Path) -> Path:
    """Return the ``.mlpackage`` that contains the model file ``MODEL``."""
    return model.parents[MODEL.count("/")]


def remote_parts() -> tuple[Any, Any, Any, Any]:
    """Return coremltools' classes for devices: model, credentials, device and kinds of device.

    coremltools calls this part experimental, so it is imported only when it is used.
    """
    from coremltools.models.ml_program.experimental.async_wrapper import (  # noqa: PLC0415
        MLModelAsyncWrapper,
    )
    from coremltools.models.ml_program.experimental.remote_device import (  # noqa: PLC0415
        AppSigningCredentials,
        Device,
        DeviceType,
    )

    return MLModelAsyncWrapper, AppSigningCredentials, Device, DeviceType
