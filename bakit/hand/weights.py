"""Settings and weights of a localizer: the shipped ones, and files of ``bakit distill``."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from bakit.documents import UNREADABLE
from bakit.errors import CheckpointError, InputError, MissingBackendError
from bakit.files import read_regular, sha256, write_file
from bakit.hand import student, unrolled
from bakit.settings import METHODS, LocalizerSettings, StudentSettings, UnrolledSettings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy.typing as npt

    from bakit.types import Weights

MAX_BYTES = 2**31
"""Most bytes of a checkpoint or localizer; the shipped ones have less than 20 million."""

_DTYPES = {"F32": np.float32, "F16": np.float16, "U8": np.uint8}
FOLDER = Path(__file__).parents[1] / "weights"
_KEY = "bakit-localizer"
_OPTIONS = {"size": "working-size"}
"""Option names that differ from the setting's."""


class Localizer(NamedTuple):
    """Settings and weights of a localizer.

    Attributes:
        settings: Method and its numbers.
        weights: float32 arrays by name; initial ones of the unrolled localizer.
        origin: Description of the weights' origin.
    """

    settings: LocalizerSettings
    weights: Weights
    origin: str

    @property
    def method(self) -> str:
        """Name of the method."""
        return method_of(self.settings)

    @property
    def sha256(self) -> str:
        """Digest of settings and weights."""
        parts = [msgspec.json.encode(self.settings, order="sorted")]
        for name, value in sorted(self.weights.items()):
            parts += [name.encode(), np.ascontiguousarray(value, np.float32).tobytes()]
        return sha256(b"\0".join(parts))


def method_of(settings: LocalizerSettings) -> str:
    """Return the name of the method of some settings."""
    return str(type(settings).__struct_config__.tag)


def weight_shapes(settings: LocalizerSettings) -> dict[str, tuple[int, ...]]:
    """Return the shape of every weight by name."""
    if isinstance(settings, StudentSettings):
        return student.weight_shapes(settings)
    return unrolled.weight_shapes(settings)


def fits(settings: LocalizerSettings, weights: Weights) -> bool:
    """Return whether the weights' names and shapes are those of a localizer with these settings."""
    return {name: value.shape for name, value in weights.items()} == weight_shapes(settings)


def get_localizer(source: str) -> Localizer:
    """Return a localizer by its method, or from a ``.safetensors`` file of ``bakit distill``.

    Raises:
        InputError: If the method is unknown.
        CheckpointError: If the file is missing, damaged or not a localizer.
        MissingBackendError: If safetensors is not installed and a file has to be read.
    """
    if source == "unrolled":
        settings = UnrolledSettings()
        return Localizer(settings, unrolled.initial_weights(settings), "drawn from the seed")
    if source in METHODS:
        return read_localizer(FOLDER / f"localizer-{source}.safetensors")
    if source.endswith(".safetensors"):
        return read_localizer(Path(source))
    message = f"no localizer {source!r}; use {', '.join(METHODS)} or a .safetensors file"
    raise InputError(message)


def change(found: Localizer, changes: Mapping[str, Any]) -> Localizer:
    """Return a localizer with other settings; new initial weights are drawn if shapes change.

    Args:
        found: The localizer.
        changes: Settings of the unrolled localizer, by name.

    Raises:
        InputError: If the localizer has no such settings, or a number is not finite.
    """
    if not changes:
        return found
    given = ", ".join(f"--{_OPTIONS.get(name, name).replace('_', '-')}" for name in changes)
    if isinstance(found.settings, StudentSettings):
        message = f"{given}: the student localizer has no SGD steps; use --localizer unrolled"
        raise InputError(message)
    if not all(math.isfinite(value) for value in changes.values() if isinstance(value, float)):
        message = f"{given}: not a finite number"
        raise InputError(message)
    settings = msgspec.structs.replace(found.settings, **changes)
    fitting = fits(settings, found.weights)
    weights = found.weights if fitting else unrolled.initial_weights(settings)
    return Localizer(settings, weights, found.origin)


class _Document(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """JSON document in the header of a localizer's file."""

    settings: LocalizerSettings
    origin: str


def read_localizer(path: Path) -> Localizer:
    """Read a localizer's file.

    Raises:
        CheckpointError: If it is missing, damaged or not a localizer.
        MissingBackendError: If safetensors is not installed.
    """
    expected = "a localizer; bakit distill writes one"
    file = read_tensors(path, "localizer", _KEY, expected, ("F32",))
    try:
        header = msgspec.json.decode(file.document, type=_Document)
    except UNREADABLE as error:
        message = f"{path}: its header is not what this version expects ({error})"
        raise CheckpointError(message) from error
    if not fits(header.settings, file.arrays):
        message = f"{path}: the localizer's weights do not fit its settings"
        raise CheckpointError(message)
    return Localizer(header.settings, file.arrays, header.origin)


class TensorFile(NamedTuple):
    """Contents of a ``.safetensors`` file."""

    document: str  # JSON in its header
    arrays: dict[str, npt.NDArray[Any]]
    sha256: str


def read_tensors(
    path: Path, what: str, key: str, expected: str, types: Sequence[str] = tuple(_DTYPES)
) -> TensorFile:
    """Read a ``.safetensors`` file with a document in its header.

    Args:
        path: The file.
        what: Its kind, for errors.
        key: Key of the document in the metadata.
        expected: Description of such a file, for the error of a file without the key.
        types: Allowed types of tensors, as safetensors names them.

    Raises:
        CheckpointError: If it is missing, damaged, or has a tensor of another type or with NaN.
        MissingBackendError: If safetensors is not installed.
    """
    try:
        from safetensors import SafetensorError, deserialize  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        need = f"reading a {what}"
        raise MissingBackendError(need, "export") from error
    try:
        data = read_regular(path, MAX_BYTES)
    except OSError as error:
        message = f"{path}: the {what} cannot be read ({error.strerror or error})"
        if path.is_dir():
            message = f"{path}: a folder; name a {what} in it, such as best.safetensors"
        raise CheckpointError(message) from error
    try:
        tensors = dict(deserialize(data))  # type: ignore[no-untyped-call]
        size = int.from_bytes(data[:8], "little")
        metadata = msgspec.json.decode(data[8 : 8 + size]).get("__metadata__") or {}
    except (SafetensorError, *UNREADABLE) as error:
        message = f"{path}: not a .safetensors file, or damaged"
        raise CheckpointError(message) from error
    if key not in metadata:
        message = f"{path}: a .safetensors file, but not {expected}"
        raise CheckpointError(message)
    arrays = {}
    for name, tensor in sorted(tensors.items()):  # the order in the file is random
        if tensor["dtype"] not in types:
            message = f"{path}: tensor {name!r} has the unexpected type {tensor['dtype']}"
            raise CheckpointError(message)
        flat = np.frombuffer(tensor["data"], _DTYPES[tensor["dtype"]])
        if not np.isfinite(flat).all():
            message = f"{path}: tensor {name!r} contains NaN or infinite values"
            raise CheckpointError(message)
        arrays[name] = flat.reshape(tensor["shape"])
    return TensorFile(metadata[key], arrays, sha256(data))


def write_localizer(path: Path, found: Localizer) -> None:
    """Write a localizer's file."""
    from safetensors.numpy import save  # noqa: PLC0415  # an extra

    document = msgspec.json.encode(_Document(found.settings, found.origin), order="sorted").decode()
    tensors = {name: np.ascontiguousarray(value) for name, value in found.weights.items()}
    write_file(path, save(tensors, metadata={_KEY: document}))
