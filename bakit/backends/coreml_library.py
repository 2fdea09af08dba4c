"""coremltools, imported without the warnings that it gives wherever Core ML itself is absent."""

from __future__ import annotations

import logging
import warnings
from typing import Any

# Off a Mac it warns once for each native part that it lacks, and of any torch that is newer than
# itself. Neither matters here: no torch model is converted, and the parts are asked for by name.
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


def remote_parts() -> tuple[Any, Any, Any, Any]:
    """Return what drives a device at a Mac: model, credentials, device and its kinds.

    coremltools calls this part experimental, so it is imported only when it is asked for.
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
