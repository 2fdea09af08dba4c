"""ONNX Runtime on a CPU."""

from __future__ import annotations

import json
import math
from functools import cached_property, partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import onnxruntime

from bakit.errors import BundleError, first_line
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Executed, Tensors

PROVIDER = "CPUExecutionProvider"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""NumPy's names of types; the others' names are in brackets."""


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime.

    ONNX Runtime's own choice of threads (0) would pin them to CPUs outside of this process's
    affinity mask.

    Weights are copied into another layout at the start, for INT8 twice as fast. Without ``prepack``
    they are not: float32 then takes 2 % longer, and 20 ms and 4 MB less to open.

    Attributes:
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded.
    """

    provider = PROVIDER
    concurrent = True

    read: Callable[[], bytes] | None = None
    """Returns the model's bytes again, for ``executed``."""

    def __init__(
        self, model: bytes, threads: int = 1, *, name: str = "the model", prepack: bool = True
    ) -> None:
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
        options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
        try:
            self._session: Any = onnxruntime.InferenceSession(model, options, [PROVIDER])
        except Exception as error:  # onnxruntime's errors share no public base
            version = onnxruntime.__version__
            message = f"{name}: ONNX Runtime {version} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
        self._session._model_bytes = b""  # a copy of its weights
        self.specs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        self._inputs, self._outputs = ([spec.name for spec in side] for side in self.specs)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, which may be more, output names to arrays."""
        fed = {name: feeds[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, fed), strict=True))

    @cached_property
    def executed(self) -> tuple[Executed, ...]:
        """Shares of the multiply-adds by provider and number format; empty if unknown.

        Two profiles in a temporary folder tell it: of the graph as written, for the shapes of each
        layer, and as optimized, for its kernel, whose name begins with the layer's or with that of
        an activation behind it.
        """
        if self.read is None:
            return ()
        model, level = self.read(), onnxruntime.GraphOptimizationLevel
        products: dict[str, int] = {}
        layers: dict[str, str] = {}  # by node, the last layer up to it
        for name, args in _profile(model, level.ORT_DISABLE_ALL):
            if args["op_name"] in {"Conv", "Gemm"}:
                weight = next(iter(args["input_type_shape"][1].values()))
                output = next(iter(args["output_type_shape"][0].values()))
                products[name] = math.prod(output[2:]) * math.prod(weight)
            layers[name] = next(reversed(products), "")
        ran = {}
        for name, args in _profile(model, level.ORT_ENABLE_ALL):
            kind = args["op_name"]
            if "Conv" in kind or "Gemm" in kind:
                own = [node for node in layers if name.removeprefix("fused ").startswith(node)]
                precision = "int8" if kind.startswith("Q") or "Integer" in kind else "f32"
                ran[layers.get(max(own, key=len, default=""), "")] = args["provider"], precision
        if ran.keys() != products.keys():  # kernels of another kind or name
            return ()
        return executed_shares((*ran[layer], products[layer]) for layer in products)

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


def _profile(model: bytes, level: Any) -> Iterator[tuple[str, dict[str, Any]]]:  # noqa: ANN401
    """Yield name and facts of each kernel of one run on zeros."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.enable_profiling, options.graph_optimization_level = True, level
    with TemporaryDirectory(prefix="bakit-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, [PROVIDER])
        session.run(None, {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            yield event["name"].removesuffix("_kernel_time"), event["args"]


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> OrtSession:
    """Open an ONNX file without external data.

    Raises:
        BundleError: If it cannot be loaded, or refers to another file.
    """
    data = files.read_onnx(artifact.path)
    name, is_int8 = str(files.root / artifact.path), artifact.int8_share > 0
    session = OrtSession(data, threads, name=name, prepack=is_int8)
    session.read = partial(files.read_onnx, artifact.path)
    return session
