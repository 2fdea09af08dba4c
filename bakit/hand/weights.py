"""Settings and weights of a localizer: the shipped ones, and files of ``bakit distill``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np

from bakit.errors import CheckpointError, InputError, MissingBackendError
from bakit.files import sha256, write_file
from bakit.hand import student, unrolled
from bakit.settings import METHODS, LocalizerSettings, StudentSettings, UnrolledSettings

if TYPE_CHECKING:
    from bakit.types import Weights


FOLDER = Path(__file__).parents[1] / "weights"
_KEY = "bakit-localizer"


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
    """Return a localizer by the name of its method, or from a file that ``bakit distill`` wrote.

    Args:
        source: ``student``, ``unrolled``, or a ``.safetensors`` file.

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
    try:
        from safetensors import SafetensorError, safe_open  # noqa: PLC0415  # an extra
    except ModuleNotFoundError as error:
        need = "reading a localizer"
        raise MissingBackendError(need, "export") from error
    try:
        with safe_open(path, "numpy") as file:
            document = (file.metadata() or {}).get(_KEY)
            types = {name: file.get_slice(name).get_dtype() for name in sorted(file.keys())}
            # NumPy does not support some other types.
            weights = {name: file.get_tensor(name) for name in types if types[name] == "F32"}
    except (OSError, SafetensorError) as error:
        message = f"{path}: the localizer cannot be read ({error})"
        raise CheckpointError(message) from error
    if document is None:
        message = f"{path}: a .safetensors file, but not a localizer; bakit distill writes one"
        raise CheckpointError(message)
    for name in sorted(types.keys() - weights.keys()):
        message = f"{path}: tensor {name!r} has the unexpected type {types[name]}"
        raise CheckpointError(message)
    try:
        header = msgspec.json.decode(document, type=_Document)
    except msgspec.MsgspecError as error:
        message = f"{path}: its header is not what this version expects ({error})"
        raise CheckpointError(message) from error
    if not fits(header.settings, weights):
        message = f"{path}: the localizer's weights do not fit its settings"
        raise CheckpointError(message)
    for name, value in weights.items():
        if not np.isfinite(value).all():
            message = f"{path}: tensor {name!r} contains NaN or infinite values"
            raise CheckpointError(message)
    return Localizer(header.settings, weights, header.origin)


def write_localizer(path: Path, found: Localizer) -> None:
    """Write a localizer's file."""
    from safetensors.numpy import save  # noqa: PLC0415  # an extra

    document = msgspec.json.encode(_Document(found.settings, found.origin), order="sorted").decode()
    tensors = {name: np.ascontiguousarray(value) for name, value in found.weights.items()}
    write_file(path, save(tensors, metadata={_KEY: document}))
