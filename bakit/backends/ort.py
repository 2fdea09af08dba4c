"""ONNX Runtime, on a CPU or with another of its providers."""

from __future__ import annotations

from functools import cached_property, partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import onnxruntime

from bakit import agent
from bakit.backends.providers import find_provider
from bakit.errors import BundleError, MissingProgramError
from bakit.sealed import refuse_external_data
from bakit.session import Closing, TensorSpec, executed_shares

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt

    from bakit.bundle import Artifact
    from bakit.sealed import SealedFiles
    from bakit.session import Executed, Tensors
    from bakit.targets import Backend

_DTYPES = {"tensor(float)": "float32", "tensor(float16)": "float16"}
"""NumPy's names of types; the others' names are in brackets."""

_GRAPH, _INITIALIZER, _DIMS, _TYPE, _NAME, _RAW = 0x3A, 0x2A, 0x08, 0x10, 0x42, 0x4A
"""Keys of fields in onnx.proto: 8 times the number, and 2 if the value is bytes."""

_TYPES = {1: "<f4", 3: "i1"}
_OUTSIDE = b"\x70\x01"
"""The field that says that a tensor's data are outside of the file."""

_LARGE_BYTES = 4096


class OrtSession(Closing):
    """An ONNX model, opened in ONNX Runtime (``bakit.agent.open_onnx``).

    Attributes:
        provider: The chosen one, with the number of its nodes if it did not take all.
        specs: Its inputs and outputs.

    Raises:
        BundleError: If the model cannot be loaded, or refers to another file.
        MissingProgramError: If the provider does not start.
    """

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
        provider: str = agent.CPU,
    ) -> None:
        graph, weights = _without_weights(model) if provider == agent.CPU else (model, {})
        refuse_external_data(graph, name)
        how: dict[str, Any] = {"prepack": prepack, "wide": wide, "weights": weights}
        try:
            self._session: Any = agent.open_onnx(graph, name, threads, provider, **how)
        except agent.ProviderError as error:
            raise _missing(error) from error
        except agent.AgentError as error:
            raise BundleError(str(error)) from error
        self.provider = agent.provider_words(self._session, model, provider)
        self._chosen = provider
        self._session._model_bytes = b""  # a copy of its weights
        self.specs = _specs(self._session.get_inputs()), _specs(self._session.get_outputs())
        self._inputs, self._outputs = ([spec.name for spec in side] for side in self.specs)

    def run(self, feeds: Tensors) -> Tensors:
        """Run one inference: input names to arrays, which may be more, output names to arrays."""
        fed = {name: feeds[name] for name in self._inputs}
        return dict(zip(self._outputs, self._session.run(None, fed), strict=True))

    @cached_property
    def executed(self) -> tuple[Executed, ...]:
        """Shares of the multiply-adds by provider and number format; empty if unknown."""
        if self.read is None:
            return ()
        return executed_shares(agent.layers_run(self.read(), self._chosen))

    def close(self) -> None:
        """Free the model."""
        self._session = None


def _missing(error: agent.ProviderError) -> MissingProgramError:
    need, _, remedy = str(error).partition("; ")
    return MissingProgramError(need, remedy)


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


def open_session(
    files: SealedFiles, artifact: Artifact, threads: int, provider: str = agent.CPU
) -> OrtSession:
    """Open an ONNX file without external data.

    Raises:
        BundleError: If it cannot be loaded, or refers to another file.
        MissingProgramError: If the provider does not start.
    """
    name, is_int8 = str(files.root / artifact.path), artifact.int8_share > 0
    session = OrtSession(
        files.read(artifact.path), threads, name=name, prepack=is_int8, provider=provider
    )
    session.read = partial(files.read, artifact.path)
    return session


def with_provider(name: str) -> Backend:
    """Return this backend with a provider (``bakit.backends.providers``).

    Raises:
        InputError: If it is unknown.
        MissingProgramError: If ONNX Runtime has it not here.
    """
    name = find_provider(name)
    try:
        agent.load_provider(name)
    except agent.ProviderError as error:
        raise _missing(error) from error
    opened = partial(open_session, provider=name)
    return cast("Backend", SimpleNamespace(onnxruntime=onnxruntime, open_session=opened))


def probe() -> str:
    """Return the providers in words."""
    return ", ".join(onnxruntime.get_available_providers())
