"""ONNX Runtime on a CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnxruntime

from bakit.errors import BundleError, first_line
from bakit.session import Closing, TensorSpec

if TYPE_CHECKING:
    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Tensors

PROVIDER = "CPUExecutionProvider"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""NumPy's names of types; the others' names are in brackets."""


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime.

    Args:
        model: The model's bytes.
        threads: Threads within an operator. ONNX Runtime's own choice (0) would pin them to CPUs
            outside of this process's affinity mask.
        name: The model in messages.

    Attributes:
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded.
    """

    provider = PROVIDER
    concurrent = True

    def __init__(self, model: bytes, threads: int = 1, *, name: str = "the model") -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: a library does not write to stderr
        options.intra_op_num_threads = threads
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
            version = onnxruntime.__version__
            message = f"{name}: ONNX Runtime {version} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        self.specs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        return dict(zip(self._outputs, self._session.run(None, dict(feeds)), strict=True))

    def close(self) -> None:
        """Free the model."""
        self._session = None


def _specs(arguments: list[Any]) -> tuple[TensorSpec, ...]:
    """Return inputs or outputs; a dimension without a number is -1."""
    return tuple(
        TensorSpec(
            item.name,
            tuple(size if isinstance(size, int) else -1 for size in item.shape),
            _DTYPES.get(item.type, item.type.removeprefix("tensor(").removesuffix(")")),
        )
        for item in arguments
    )


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> OrtSession:
    """Open an ONNX file without external data.

    Raises:
        BundleError: If it cannot be loaded, or refers to another file.
    """
    data = files.read_onnx(artifact.path)
    return OrtSession(data, threads, name=str(files.path(artifact.path)))
