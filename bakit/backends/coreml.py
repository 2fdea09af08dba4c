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
    from collections.abc import Callable, Collection, Coroutine

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Specs, Tensors

    Predict = Callable[[Tensors], Any]

VARIABLE = "BAKIT_COREML_COMPUTE_UNITS"
COMPUTE_UNITS = {"all": "ALL", "cpu": "CPU_ONLY", "cpu-gpu": "CPU_AND_GPU", "cpu-ne": "CPU_AND_NE"}
"""``coremltools.ComputeUnit`` by the values of the environment variable ``VARIABLE``."""

DEVICE, TEAM = "BAKIT_COREML_DEVICE", "BAKIT_COREML_TEAM"
KINDS = ("iphone", "ipad")
"""Values of the environment variable ``DEVICE``; without it, the models run on this Mac."""


class CoreMlSession(Closing):
    """An ``.mlpackage``, opened in Core ML.

    Attributes:
        provider: ``coreml-`` and the device, one of ``KINDS``, or on this Mac the allowed units, a
            key of ``COMPUTE_UNITS``; Core ML does not report which it used.
        specs: Its inputs and outputs.
    """

    def __init__(
        self, provider: str, specs: Specs, dtypes: dict[str, str], predict: Predict, copy: ExitStack
    ) -> None:
        self.provider, self.specs = provider, specs
        self._dtypes, self._predict, self._copy = dtypes, predict, copy

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        results = self._predict({name: np.asarray(value) for name, value in feeds.items()})
        return {name: np.asarray(results[name], dtype) for name, dtype in self._dtypes.items()}

    def close(self) -> None:
        """Free the model and its copy."""
        del self._predict
        self._copy.close()


class _Connection(NamedTuple):
    """The device with the app, and the event loop of its answers."""

    device: Any
    loop: asyncio.AbstractEventLoop
    lock: threading.Lock

    def wait(self, task: Coroutine[Any, Any, Any]) -> Any:  # noqa: ANN401  # coremltools has no types
        """Return the result of a task; two models share the device."""
        with self.lock:
            return self.loop.run_until_complete(task)


def chosen(variable: str, options: Collection[str], default: str) -> str:
    """Return the value of an environment variable.

    Raises:
        InputError: If it is not one of the options.
    """
    value = os.environ.get(variable) or default
    if value not in {default, *options}:
        message = f"{variable}={value!r} is not possible; use {', '.join(options)}"
        raise InputError(message)
    return value


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


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> CoreMlSession:
    """Open a copy of the package that contains the model file; Core ML chooses its threads.

    Raises:
        InputError: If an environment variable names unknown compute units or an unknown device.
        MissingProgramError: If no such device is connected, or the app cannot be installed.
        BundleError: If Core ML cannot load it, or a file in the package is not sealed.
    """
    del threads
    units, kind = chosen(VARIABLE, COMPUTE_UNITS, "all"), chosen(DEVICE, KINDS, "")
    allowed = coremltools.ComputeUnit[COMPUTE_UNITS[units]]
    connection = _connect(kind, os.environ.get(TEAM, "")) if kind else None
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="bakit-")))
        package, specs = copy_package(files, artifact.path, folder)
        try:
            if connection is None:
                model = coremltools.models.MLModel(str(package), compute_units=allowed)
                predict: Predict = model.predict
            else:
                predict = _open_remote(connection, package, allowed, stack)
        except Exception as error:  # Core ML's, the device's and Xcode's have no common base
            library = f"the {kind}" if kind else "Core ML"
            message = f"{package}: {library} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
        dtypes = {spec.name: spec.dtype for spec in artifact.outputs}
        provider = f"coreml-{kind or units}"
        return CoreMlSession(provider, specs, dtypes, predict, stack.pop_all())


def _open_remote(
    connection: _Connection,
    package: Path,
    units: Any,  # noqa: ANN401
    stack: ExitStack,
) -> Predict:
    """Load a model on a device; ``stack`` unloads it."""
    model = remote_parts()[0].from_spec_or_path(
        spec_or_path=str(package),
        weights_dir=str(package / WEIGHTS),
        compute_units=units,
        device=connection.device,
    )
    connection.wait(model.load())
    stack.callback(lambda: connection.wait(model.unload()))
    return lambda feeds: connection.wait(model.predict(feeds))
