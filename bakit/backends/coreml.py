"""Core ML on a Mac. Not yet run on Apple hardware."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.backends import coreml_remote
from bakit.backends.coreml_library import coremltools, package_of
from bakit.errors import BundleError, InputError, first_line
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
"""``coremltools.ComputeUnit`` by the values of the environment variable ``VARIABLE``."""

VARIABLE = "BAKIT_COREML_COMPUTE_UNITS"


class CoreMlSession(Closing):
    """An ``.mlpackage`` open in Core ML.

    Args:
        package: The ``.mlpackage``.
        dtypes: Dtype of each output.
        units: Compute units, a key of ``COMPUTE_UNITS``.

    Attributes:
        provider: ``coreml-`` and the allowed units; Core ML does not report which it used.

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
            message = f"{package}: Core ML cannot load it: {first_line(error)}"
            raise BundleError(message) from error

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        results = self._model.predict({name: np.asarray(v) for name, v in feeds.items()})
        return {name: np.asarray(results[name], dtype) for name, dtype in self._dtypes.items()}

    def close(self) -> None:
        """Free the model."""
        self._model = None


def compute_units() -> str:
    """Return the compute units that ``VARIABLE`` names, ``all`` by default.

    Raises:
        InputError: If the value is unknown.
    """
    units = os.environ.get(VARIABLE, "all")
    if units not in COMPUTE_UNITS:
        message = f"{VARIABLE}={units!r} is not possible; use {', '.join(COMPUTE_UNITS)}"
        raise InputError(message)
    return units


def open_session(path: Path, artifact: Artifact, threads: int | None) -> Session:
    """Open the package that contains the model file at ``path``; Core ML chooses its threads.

    Raises:
        InputError: If an environment variable names unknown compute units or an unknown device.
        MissingProgramError: If the device cannot be used.
        BundleError: If Core ML cannot load it.
    """
    del threads
    dtypes = {spec.name: spec.dtype for spec in artifact.outputs}
    package, units = package_of(path), compute_units()
    kind = coreml_remote.device_kind()
    if kind:
        allowed = coremltools.ComputeUnit[COMPUTE_UNITS[units]]
        return coreml_remote.RemoteSession(package, dtypes, allowed, kind)
    return CoreMlSession(package, dtypes, units)
