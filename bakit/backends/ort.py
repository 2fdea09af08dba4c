"""ONNX Runtime on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime

from bakit.errors import BundleError, first_line
from bakit.session import Closing

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.session import Tensors

PROVIDER = "CPUExecutionProvider"


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime.

    Args:
        model: Path or bytes of the model.
        threads: Threads within an operator; ONNX Runtime's choice when None.

    Raises:
        BundleError: If the model cannot be loaded.
    """

    provider = PROVIDER
    concurrent = True

    def __init__(self, model: str | bytes, threads: int | None = None) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: a library does not write to stderr
        options.intra_op_num_threads = threads or 0
        options.inter_op_num_threads = 1
        # AVX2 without VNNI adds pairs of u8*s8 products in 16 bits, which saturate; with this,
        # ONNX Runtime uses u8*u8 kernels there and the numbers are the same everywhere.
        options.add_session_config_entry("session.x64quantprecision", "1")
        # Threads that spin between two runs slow down decoding and the other model: with two
        # threads on two virtual cores, both take twice as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, [PROVIDER])
        except Exception as error:  # onnxruntime's errors share no public base
            name = "the model" if isinstance(model, bytes) else model
            version = onnxruntime.__version__
            message = f"{name}: ONNX Runtime {version} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
        self._outputs = [output.name for output in self._session.get_outputs()]

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        """Free the model."""
        self._session = None


def open_session(path: Path, artifact: Artifact, threads: int | None) -> OrtSession:
    """Open an ONNX file."""
    del artifact
    return OrtSession(str(path), threads)
