"""Core ML itself, on a Mac. Not verified on Apple hardware: no such machine has run it yet."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.backends import coreml_remote
from bakit.backends.coreml_library import coremltools
from bakit.errors import BundleError, InputError
from bakit.session import Closing

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.session import Session, Tensors

COMPUTE_UNITS = {
    "all": "ALL",
    "cpu": "CPU_ONLY",
    "cpu-gpu": "CPU_AND_GPU",
    "cpu-ne": "CPU_AND_NE",
}
"""What Core ML may compute on, by the words of the environment variable below."""
VARIABLE = "BAKIT_COREML_COMPUTE_UNITS"
_PACKAGE_DEPTH = 2


class CoreMlSession(Closing):
    """An ``.mlpackage`` open in Core ML.

    Args:
        package: The ``.mlpackage``.
        dtypes: Dtype of each output.
        units: What Core ML may compute on, a key of ``COMPUTE_UNITS``.

    Attributes:
        provider: ``coreml-`` and the units that Core ML may use; it alone knows which it used.

    Raises:
        BundleError: If Core ML cannot load it.
    """

    def __init__(self, package: Path, dtypes: dict[str, str], units: str = "all") -> None:
        self.provider = f"coreml-{units}"
        self._dtypes = dtypes
        allowed = coremltools.ComputeUnit[COMPUTE_UNITS[units]]
        try:
            self._model: Any = coremltools.models.MLModel(str(package), compute_units=allowed)
        except Exception as error:  # Core ML's errors come as plain RuntimeErrors
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            message = f"{package}: Core ML cannot load it: {reason}"
            raise BundleError(message) from error

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        results = self._model.predict({name: np.asarray(v) for name, v in feeds.items()})
        return {name: np.asarray(results[name], dtype) for name, dtype in self._dtypes.items()}

    def close(self) -> None:
        """Free the model."""
        self._model = None


def compute_units() -> str:
    """Return the units that the environment asks for; all without a word.

    Raises:
        InputError: If there are no such units.
    """
    units = os.environ.get(VARIABLE, "all")
    if units not in COMPUTE_UNITS:
        message = f"{VARIABLE}={units!r} is not possible; use {', '.join(COMPUTE_UNITS)}"
        raise InputError(message)
    return units


def open_session(path: Path, artifact: Artifact, threads: int | None) -> Session:
    """Open the package that the model file at ``path`` lies in; Core ML decides on its threads.

    Raises:
        InputError: If the environment asks for units or a device that there are not.
        MissingProgramError: If the device cannot be used.
        BundleError: If Core ML cannot load it.
    """
    del threads
    dtypes = {spec.name: spec.dtype for spec in artifact.outputs}
    package, units = path.parents[_PACKAGE_DEPTH], compute_units()
    kind = coreml_remote.device_kind()
    if kind:
        allowed = coremltools.ComputeUnit[COMPUTE_UNITS[units]]
        return coreml_remote.RemoteSession(package, dtypes, allowed, kind)
    return CoreMlSession(package, dtypes, units)
