"""coremltools, imported without the warnings that it gives wherever Core ML itself is absent."""

from __future__ import annotations

import logging
import warnings

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

__all__ = ["Builder", "Function", "Program", "coremltools", "milproto", "types"]
