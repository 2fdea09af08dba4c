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
from bakit.sealed import refuse_external_data
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Executed, Tensors

PROVIDER = "CPUExecutionProvider"
_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""NumPy's names of types; the others' names are in brackets."""

_GRAPH, _INITIALIZER, _DIMS, _TYPE, _NAME, _RAW = 0x3A, 0x2A, 0x08, 0x10, 0x42, 0x4A
"""Keys of fields in onnx.proto: 8 times the number, and 2 if the value is bytes."""

_TYPES = {1: "<f4", 3: "i1"}
_OUTSIDE = b"\x70\x01"
"""The field that says that a tensor's data are outside of the file."""

_LARGE_BYTES = 4096


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime.

    ONNX Runtime's own choice of threads (0) would pin them to CPUs outside of this process's
    affinity mask.

    Args:
        model: Bytes of an ONNX model.
        threads: Threads of one run.
        name: Its name in errors.
        prepack: Whether weights are copied into another layout at the start, for INT8 twice as
            fast. If not, float32 takes 2 % longer, and 20 ms and 4 MB less to open.
        wide: Whether INT8 weights use all 8 bits. AVX2 without VNNI adds pairs of u8*s8 products
            in 16 bits, which then saturate; u8*u8 kernels do not, and open in 60 ms more.

    Attributes:
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded, or refers to another file.
    """

    provider = PROVIDER
    concurrent = True

    read: Callable[[], bytes] | None = None
    """Returns the model's bytes again, for ``executed``."""

    def __init__(
        self,
        model: bytes,
        threads: int = 1,
        *,
        name: str = "the model",
        prepack: bool = True,
        wide: bool = False,
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3  # errors only: a library does not write to stderr
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.add_session_config_entry("session.x64quantprecision", str(int(wide)))
        # Threads that spin between two runs slow down decoding and the other model: with two
        # threads on two virtual cores, both take twice as long.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.disable_prepacking", str(int(not prepack)))
        graph, weights = _without_weights(model)
        refuse_external_data(graph, name)
        values = [onnxruntime.OrtValue.ortvalue_from_numpy(item) for item in weights.values()]
        options.add_external_initializers(list(weights), values)
        try:
            self._session: Any = onnxruntime.InferenceSession(graph, options, [PROVIDER])
        except Exception as error:  # onnxruntime's errors share no public base
            version = onnxruntime.__version__
            message = f"{name}: ONNX Runtime {version} cannot load it: {first_line(error)}"
            raise BundleError(message) from error
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
    options.enable_profiling, options.graph_optimization_level = True, level
    with TemporaryDirectory(prefix="bakit-") as folder:
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = onnxruntime.InferenceSession(model, options, [PROVIDER])
        session.run(None, {i.name: np.zeros(i.shape, np.float32) for i in session.get_inputs()})
        events = json.loads(Path(session.end_profiling()).read_bytes())
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            yield event["name"].removesuffix("_kernel_time"), event["args"]


def _without_weights(model: bytes) -> tuple[bytes, dict[str, npt.NDArray[Any]]]:
    """Return an ONNX model without its large weights, and these by name as views of it.

    ONNX Runtime copies all that is inside of a model twice more: 30 ms of 30 MB.
    """
    parts: list[bytes] = []
    weights: dict[str, npt.NDArray[Any]] = {}
    try:
        for key, value, field in _fields(model, slice(0, len(model))):
            if key == _GRAPH:  # protobuf merges the parts of one message
                inner = (_emptied(model, item, weights) for item in _fields(model, value))
                parts += (_field(_GRAPH, data) for data in inner)
            else:
                parts.append(model[field])
    except (IndexError, OverflowError, ValueError):  # not ONNX: ONNX Runtime says so
        return model, {}
    return b"".join(parts), weights


def _emptied(model: bytes, item: tuple[int, Any, slice], weights: dict[str, Any]) -> bytes:
    """Return a field of a graph; the data of a large tensor are moved to ``weights``."""
    key, value, field = item
    if key != _INITIALIZER or field.stop - field.start < _LARGE_BYTES:
        return model[field]
    fields = list(_fields(model, value))
    known = {key: value for key, value, _ in fields}
    if known.keys() != {_DIMS, _TYPE, _NAME, _RAW} or known[_TYPE] not in _TYPES:
        return model[field]
    data = np.frombuffer(memoryview(model)[known[_RAW]], _TYPES[known[_TYPE]])
    dims = [value for key, value, _ in fields if key == _DIMS]
    weights[model[known[_NAME]].decode()] = data.reshape(dims)
    kept = [model[field] for key, _, field in fields if key != _RAW]
    return _field(_INITIALIZER, b"".join([*kept, _OUTSIDE]))


def _fields(message: bytes, part: slice) -> Iterator[tuple[int, Any, slice]]:
    """Yield key, value and place of a protobuf message's fields.

    A value is a number, or the place of its bytes.
    """
    start = part.start
    while start < part.stop:
        key, at = _number(message, start)
        value: Any
        value, at = _number(message, at)
        if key & 7 == 2:
            value, at = slice(at, at + value), at + value
        elif key & 7:
            raise ValueError(key)
        yield key, value, slice(start, at)
        start = at


def _number(message: bytes, at: int) -> tuple[int, int]:
    """Return a protobuf number and the place behind it: 7 bits a byte, the lowest first."""
    number = shift = 0
    while (byte := message[at]) > 127:
        number, shift, at = number | (byte & 127) << shift, shift + 7, at + 1
    return number | byte << shift, at + 1


def _field(key: int, data: bytes) -> bytes:
    """Return bytes as a protobuf field."""
    length = bytes((len(data) >> 7 * i & 127) | 128 * (i < 4) for i in range(5))
    return bytes([key]) + length + data


def open_session(files: SealedFiles, artifact: Artifact, threads: int) -> OrtSession:
    """Open an ONNX file without external data.

    Raises:
        BundleError: If it cannot be loaded, or refers to another file.
    """
    name, is_int8 = str(files.root / artifact.path), artifact.int8_share > 0
    session = OrtSession(files.read(artifact.path), threads, name=name, prepack=is_int8)
    session.read = partial(files.read, artifact.path)
    return session
