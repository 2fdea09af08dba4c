"""TensorRT 8.2 to 11: builds an engine on this device at first use, then runs it.

TensorRT is called by the device agent (``bakit.agent``), which has to be one file.
This module uses the agent, so that a bundle runs in an app exactly as it was measured.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from bakit import agent
from bakit.errors import BundleError, MissingProgramError, UnsupportedTargetError
from bakit.session import Closing, TensorSpec

if TYPE_CHECKING:
    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Tensors

WORKSPACE_MB = 256
"""Memory of the builder, in MiB: what is free on a Jetson Nano."""


class TrtSession(Closing):
    """An engine, opened on this machine's GPU.

    ``info`` is this machine's hardware and software (``bakit.agent.device_info``).

    Raises:
        BundleError: If the engine cannot be built or opened.
        UnsupportedTargetError: If INT8 is requested and the GPU has no INT8 arithmetic.
    """

    def __init__(self, files: SealedFiles, artifact: Artifact, info: dict[str, Any]) -> None:
        place = [info[name] for name in agent.DEVICE]
        options = {"device": place, "workspace_mb": WORKSPACE_MB, "downgrade": False}
        options["cache"] = agent.ENGINES
        described = msgspec.to_builtins(artifact)
        try:
            self._model = agent.TensorRtModel(str(files.root), described, options)
        except agent.AgentError as error:
            message = f"{files.root}: {error}"
            raise BundleError(message) from error
        self.provider: str = self._model.provider
        inputs, outputs = (
            tuple(
                TensorSpec(name, array.shape, array.dtype.name)
                for name, is_input, array, _ in self._model.tensors
                if is_input == wanted
            )
            for wanted in (True, False)
        )
        self.specs = inputs, outputs
        self.layers: dict[str, int] = self._model.layers
        self.int8_share = artifact.int8_share if not self.layers or self.layers.get("int8") else 0.0

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        try:
            outputs: Tensors = self._model.run(dict(feeds))
        except agent.AgentError as error:
            raise BundleError(str(error)) from error
        return outputs

    def close(self) -> None:
        """Free the engine and its memory."""
        self._model.close()


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> TrtSession:
    """Build the engine, or take it from the cache, and open it.

    Raises:
        MissingProgramError: If TensorRT or a GPU's driver is missing.
        UnsupportedTargetError: If INT8 is requested and the GPU has no INT8 arithmetic.
        BundleError: If the engine cannot be built.
    """
    del threads  # a GPU has its own
    info = _device()
    asks_int8 = any("int8" in build.flags for build in artifact.builds)
    if asks_int8 and info["int8"] is False:
        raise UnsupportedTargetError(agent.NO_INT8 % (info["board"] or info["gpu"]))
    return TrtSession(files, artifact, info)


def probe() -> str:
    """Return TensorRT's version and the GPU, in words.

    Raises:
        MissingProgramError: If either is missing.
    """
    info = _device()
    int8 = "no INT8 unit: use fp16" if info["int8"] is False else "INT8"
    return f"TensorRT {info['tensorrt']}, {info['board'] or info['gpu']}, {int8}"


def _device() -> dict[str, Any]:
    """Return this machine's TensorRT and GPU (``bakit.agent.device_info``)."""
    info = agent.device_info()
    if not info["tensorrt"]:
        need = "TensorRT is not installed here"
        remedy = "a Jetson's JetPack brings it; from elsewhere, measure with: bakit bench --host"
        raise MissingProgramError(need, remedy)
    if agent.no_gpu(info):
        need, _, remedy = agent.no_gpu(info).partition("; ")
        raise MissingProgramError(need, remedy or "then run it again")
    return info
