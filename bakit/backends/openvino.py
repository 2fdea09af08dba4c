"""OpenVINO on a CPU."""

from __future__ import annotations

import math
import sys
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any

import numpy as np

from bakit.errors import BundleError, install_command
from bakit.sealed import refuse_external_data
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Executed, Tensors

# Importing OpenVINO sends telemetry and writes an identifier to the home folder, unless a file
# there opts out. Without this package it does neither, and nothing else needs it.
_TELEMETRY = "openvino_telemetry"
_silenced = sys.modules.setdefault(_TELEMETRY, None) is None  # type: ignore[arg-type]
try:
    import openvino as openvino  # the exporter takes it from here
finally:
    if _silenced:
        del sys.modules[_TELEMETRY]

DEVICE = "CPU"

opens_at_once = True
"""It compiles each model on one core."""

_PRECISIONS = {"i8": "int8", "u8": "int8"}


class OpenVinoSession(Closing):
    """A model, opened on the CPU.

    The model is an ``.xml`` with ``weights``, or an ONNX model without external data.

    Attributes:
        provider: ``openvino-cpu-`` and the number format of the arithmetic: ``f32``, ``f16``, or
            ``int8`` if INT8 kernels run the quantized part (the rest is ``f32``).
        executed: Shares of the multiply-adds by number format, as the compiled graph has them.
        concurrent: Many threads may run it at once.
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded.
    """

    concurrent = True

    def __init__(
        self, model: bytes, weights: bytes | None, threads: int, *, name: str = "the model"
    ) -> None:
        is_xml = model.lstrip().startswith(b"<")
        if is_xml != (weights is not None):  # OpenVINO reads formats that name other files, too
            kind = "ONNX" if is_xml else "XML"
            message = f"{name}: OpenVINO cannot load it: it is not {kind}; export it again"
            raise BundleError(message)
        core = openvino.Core()
        try:
            network = core.read_model(model, *([] if weights is None else [weights]))
            # Loops' bodies, which are left out, contain no weights.
            constants = [n for n in network.get_ops() if n.get_type_name() == "Constant"]
            types = {node.get_element_type().get_type_name() for node in constants}
            half = "f16" in types and "FP16" in core.get_property(
                DEVICE, "OPTIMIZATION_CAPABILITIES"
            )
            options: dict[str, object] = {
                "PERFORMANCE_HINT": "LATENCY",
                # Explicit, since by default Arm computes float32 models in float16. float16 only
                # where the CPU has it: elsewhere OpenVINO uses bfloat16 instead, whose ages are
                # whole months.
                "INFERENCE_PRECISION_HINT": "f16" if half else "f32",
                # With pinning, every process would start on the same cores.
                "ENABLE_CPU_PINNING": False,
                "INFERENCE_NUM_THREADS": threads,
                "CACHE_DIR": "",  # no compiled models on disk, whatever the environment sets
            }
            compiled = core.compile_model(network, DEVICE, options)
        except Exception as error:  # OpenVINO's errors are plain RuntimeErrors
            version = openvino.get_version().split("-")[0]
            reason = str(error).strip().splitlines()[-1]  # before it: where in OpenVINO's source
            message = f"{name}: OpenVINO {version} cannot load it: {reason}"
            if "unsupported opset" in reason:
                upgrade = install_command("openvino", upgrade=True)
                message += f"; a newer OpenVINO wrote it: {upgrade}"
            raise BundleError(message) from error
        self.executed = executed(compiled)
        is_int8 = any(item.precision == "int8" for item in self.executed)
        computed = "int8" if is_int8 else ("f16" if half else "f32")
        self.provider = f"openvino-cpu-{computed}"
        # Of the model as it was read: compiling adds the names of nodes that change nothing.
        self._outputs = [output.any_name for output in network.outputs]
        self.specs = _specs(network.inputs), _specs(network.outputs)
        self._compiled: Any = compiled
        self._idle: SimpleQueue[Any] = SimpleQueue()
        self._idle.put(compiled.create_infer_request())

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, output names to arrays."""
        try:  # a request serves one thread at a time: there are as many as threads at once
            request = self._idle.get_nowait()
        except Empty:
            request = self._compiled.create_infer_request()
        try:
            results = request.infer(dict(feeds))
            return {name: np.array(results[i]) for i, name in enumerate(self._outputs)}
        finally:
            self._idle.put(request)

    def close(self) -> None:
        """Free the model."""
        self._idle = SimpleQueue()
        self._compiled = None


def executed(compiled: Any) -> tuple[Executed, ...]:  # noqa: ANN401  # OpenVINO has no types
    """Return which share of a compiled model's multiply-adds runs in which number format.

    It is read from the graph that will be executed on this machine, not from the file.
    Convolutions and matrix products are counted.
    """
    layers = []
    for node in compiled.get_runtime_model().get_ordered_ops():
        info = node.get_rt_info()
        kind = info["layerType"].astype(str)
        if kind in {"Convolution", "FullyConnected", "MatMul"}:
            name = info["runtimePrecision"].astype(str)
            products = _multiply_adds(node, kind)
            layers.append((f"openvino-{DEVICE.lower()}", _PRECISIONS.get(name, name), products))
    return executed_shares(layers)


def _multiply_adds(node: Any, kind: str) -> int:  # noqa: ANN401
    """Return the multiply-adds of one executed layer."""
    sizes = (node.input(0), node.output(0))
    if any(size.get_partial_shape().is_dynamic for size in sizes):
        return 0  # an image step of the whole graph
    data, weights = ([int(n) for n in node.input(i).get_shape()] for i in (0, 1))
    out = [int(n) for n in node.output(0).get_shape()]
    if kind == "Convolution":  # per output value: all weights of its channel
        return math.prod(out) * math.prod(weights) // out[1]
    return math.prod(out) * data[-1]


def _specs(ports: list[Any]) -> tuple[TensorSpec, ...]:
    """Return inputs or outputs; a dimension without a number is -1."""
    return tuple(
        TensorSpec(
            port.get_any_name(),
            tuple(size.get_length() if size.is_static else -1 for size in port.get_partial_shape()),
            np.dtype(port.get_element_type().to_dtype()).name,
        )
        for port in ports
    )


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> OpenVinoSession:
    """Open an IR, the ``.xml`` with the weights named in the manifest, or an ONNX file.

    Raises:
        BundleError: If it cannot be loaded, or the manifest names no weights.
    """
    model = files.root / artifact.path
    data = files.read(artifact.path)
    if artifact.path.endswith(".onnx"):
        refuse_external_data(data, str(model))
        return OpenVinoSession(data, None, threads, name=str(model))
    names = [item.path for item in artifact.companions]
    if len(names) != 1:
        message = f"{model}: the manifest names no .bin with its weights; export the bundle again"
        raise BundleError(message)
    return OpenVinoSession(data, files.read(names[0]), threads, name=str(model))
