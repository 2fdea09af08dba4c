"""Core ML on a Mac, or on an iPhone or iPad connected to it. Not yet run on Apple hardware.

On a device, coremltools builds a small app with Xcode, installs it and sends it the inputs;
coremltools calls that experimental.
"""

from __future__ import annotations

import asyncio
import atexit
import os
import threading
from contextlib import ExitStack
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.backends.coreml_library import WEIGHTS, copy_package, coremltools, remote_parts
from bakit.errors import BundleError, InputError, MissingProgramError, first_line
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Session, Specs, Tensors

VARIABLE = "BAKIT_COREML_COMPUTE_UNITS"
COMPUTE_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu-gpu": "CPU_AND_GPU", "cpu-ne": "CPU_AND_NE"}
"""``coremltools.ComputeUnit`` by the values of the environment variable ``VARIABLE``."""

DEVICE, TEAM = "BAKIT_COREML_DEVICE", "BAKIT_COREML_TEAM"
KINDS = ("iphone", "ipad")
"""Values of the environment variable ``DEVICE``."""


class CoreMlSession(Closing):
    """An ``.mlpackage``, opened in Core ML.

    Attributes:
        provider: ``coreml-`` and the allowed units, a key of ``COMPUTE_UNITS``; Core ML does not
            report which it used.

    Raises:
        BundleError: If Core ML cannot load it.
    """

    specs: Specs | None = None
    copy: ExitStack | None = None

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
        """Free the model and its copy."""
        self._model = None
        if self.copy is not None:
            self.copy.close()


class _Connection(NamedTuple):
    """The device with the app, and the event loop of its answers."""

    device: Any
    loop: asyncio.AbstractEventLoop
    lock: threading.Lock

    def wait(self, task: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  # coremltools has no types
        """Return the result of a task; two models share the device."""
        with self.lock:
            return self.loop.run_until_complete(task)


class RemoteSession(Closing):
    """An ``.mlpackage``, opened on a device, one of ``KINDS``.

    Raises:
        MissingProgramError: If no such device is connected, or the app cannot be installed.
        BundleError: If the device cannot load the model.
    """

    specs: Specs | None = None
    copy: ExitStack | None = None

    def __init__(self, package: Path, dtypes: dict[str, str], units: Any, kind: str) -> None:  # noqa: ANN401
        self._dtypes = dtypes
        self._connection = _connect(kind, os.environ.get(TEAM, ""))
        self.provider = f"coreml-{kind}"
        model = remote_parts()[0]
        try:
            self._model = model.from_spec_or_path(
                spec_or_path=str(package),
                weights_dir=str(package / WEIGHTS),
                compute_units=units,
                device=self._connection.device,
            )
            self._connection.wait(self._model.load())
        except Exception as error:  # the device's, Xcode's and coremltools' have no common base
            message = f"{package}: the {kind} cannot load it: {first_line(error)}"
            raise BundleError(message) from error

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        inputs = {name: np.asarray(value) for name, value in feeds.items()}
        results = self._connection.wait(self._model.predict(inputs))
        return {name: np.asarray(results[name], dtype) for name, dtype in self._dtypes.items()}

    def close(self) -> None:
        """Free the model on the device, and its copy here."""
        if self.copy is not None:
            self.copy.close()
        self._connection.wait(self._model.unload())


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


def device_kind() -> str:
    """Return the device that ``DEVICE`` names; empty for this Mac itself.

    Raises:
        InputError: If the value is unknown.
    """
    kind = os.environ.get(DEVICE, "")
    if kind and kind not in KINDS:
        message = f"{DEVICE}={kind!r} is not possible; use {' or '.join(KINDS)}"
        raise InputError(message)
    return kind


@lru_cache(maxsize=1)
def _connect(kind: str, team: str) -> _Connection:
    """Install the app on the first such device, once in a process: Xcode takes minutes."""
    _, credentials, devices, kinds = remote_parts()
    loop = asyncio.new_event_loop()
    atexit.register(loop.close)
    try:
        there = devices.get_connected_devices(kinds(kind))
        signing = credentials(development_team=team)
        ready = [
            loop.run_until_complete(device.prepare_for_model_debugging(signing))
            for device in there[:1]
        ]
    except Exception as error:  # see above
        need = f"the {kind} cannot be used: {first_line(error)}"
        remedy = f"install Xcode, and set {TEAM} to the developer team that signs its app"
        raise MissingProgramError(need, remedy) from error
    if not ready:
        need = f"no {kind} is connected"
        remedy = "plug it in, unlock it, trust this Mac and switch on its Developer Mode"
        raise MissingProgramError(need, remedy)
    return _Connection(ready[0], loop, threading.Lock())


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> Session:
    """Open a copy of the package that contains the model file; Core ML chooses its threads.

    Raises:
        InputError: If an environment variable names unknown compute units or an unknown device.
        MissingProgramError: If the device cannot be used.
        BundleError: If Core ML cannot load it, or a file in the package is not sealed.
    """
    del threads
    dtypes = {spec.name: spec.dtype for spec in artifact.outputs}
    units, kind = compute_units(), device_kind()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bakit-")))
        package, specs = copy_package(files, artifact.path, folder)
        session: CoreMlSession | RemoteSession
        if kind:
            allowed = coremltools.ComputeUnit[COMPUTE_UNITS[units]]
            session = RemoteSession(package, dtypes, allowed, kind)
        else:
            session = CoreMlSession(package, dtypes, units)
        session.specs, session.copy = specs, stack.pop_all()
        return session
