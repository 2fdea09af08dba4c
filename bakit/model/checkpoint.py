"""The float checkpoint: a ``.safetensors`` file with weights and a JSON document in its header."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import numpy as np

from bakit.documents import decode_versioned
from bakit.errors import CheckpointError
from bakit.files import printable, write_file
from bakit.hand.weights import fits, read_tensors
from bakit.model.intervals import Intervals
from bakit.quality.limits import QualityLimits
from bakit.settings import (
    Architecture,
    LocalizerSettings,
    Preprocessing,
    Ranges,
    SplitRecord,
    StudentSettings,
    upgraded,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy.typing as npt

    from bakit.hand.weights import Localizer
    from bakit.types import Weights


SCHEMA_VERSION = 2
SHIPPED = Path(__file__).parents[1] / "weights" / "bakit-rsna299.safetensors"
"""The checkpoint in the package."""

RUN_FILES = {"best": "", "last": "-last"}
"""Stems of the checkpoints that every run has, and what they add to the run's name."""

_KEY = "bakit"
_HALVES = (".weight", ".bias", ".running_mean")
"""Ends of the names of the regressor's tensors that are stored as float16."""


def is_checkpoint(metadata: Mapping[str, str] | None) -> bool:
    """Return whether a ``.safetensors`` file with this metadata is a checkpoint of bakit."""
    return _KEY in (metadata or {})


class Metrics(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Scores of the float model on one part of the data.

    Attributes:
        samples: Number of images.
        mae_months: Mean absolute error.
        bias_months: Mean of predicted minus true age.
        interval_coverage: Share of the true ages inside their intervals; None without intervals.
    """

    samples: int
    mae_months: float
    bias_months: float
    interval_coverage: float | None = None


class TrainingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Origin of the weights.

    Attributes:
        data: Description of the images.
        terms: Terms of use of the weights.
        recipe: Every number of the recipe, by name.
        split: Images of each part.
        metrics: Scores by part.
        best_epoch: The epoch of the weights, from 1.
        tool_versions: Versions of the libraries, by name.
    """

    data: str
    terms: str
    recipe: dict[str, str | int | float | bool | None]
    split: SplitRecord
    metrics: dict[str, Metrics]
    best_epoch: int
    tool_versions: dict[str, str]


class Header(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The document in the header of a checkpoint.

    Attributes:
        schema_version: Version of this document.
        architecture: Shape of the regressor.
        mean_months: Mean age of the training set, eq. 7 of the paper.
        sd_months: Standard deviation of the ages of the training set.
        preprocessing: How images become the regressor's input.
        localizer: Settings of the localizer.
        training: Origin of the weights.
        ranges: INT8 activation ranges, if there are any.
        intervals: Prediction intervals, if there are any.
        quality: Limits for review and rejection, if there are any.
    """

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    architecture: Architecture
    mean_months: float
    sd_months: float
    preprocessing: Preprocessing
    localizer: LocalizerSettings
    training: TrainingRecord | None = None
    ranges: Ranges | None = None
    intervals: Intervals | None = None
    quality: QualityLimits | None = None


@dataclass(frozen=True)
class FloatReference:
    """Inputs with the ages that torch predicted at the end of training.

    Exports are compared with them where torch is not installed.

    Attributes:
        images: ``(N, S, S)`` uint8, 255 times the regressor's input; ``(1, S, S)`` if all
            predictions are of one image.
        sexes: ``(N,)`` float32, male 1.
        ages_months: ``(N,)`` float32.
    """

    images: npt.NDArray[np.uint8]
    sexes: npt.NDArray[np.float32]
    ages_months: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Checkpoint:
    """Float weights with everything that is needed to use them.

    Attributes:
        header: Settings and records.
        regressor: float32 weights of ``bakit.model.regressor.Regressor`` by name.
        localizer: float32 weights of the localizer by name; initial ones, if it makes SGD steps.
        reference: Inputs and outputs of the float model; None before training ends.
        sha256: Digest of the file; empty before it is written.
        path: The file.
    """

    header: Header
    regressor: Weights
    localizer: Weights
    reference: FloatReference | None = None
    sha256: str = ""
    path: Path = Path("unsaved.safetensors")

    @property
    def weights_sha256(self) -> str:
        """Digest of the regressor's weights, independent of the file."""
        state = hashlib.sha256()
        for name, value in sorted(self.regressor.items()):
            state.update(name.encode())
            state.update(np.ascontiguousarray(value, np.float32).tobytes())
        return state.hexdigest()

    @property
    def parameters(self) -> int:
        """Number of trained parameters of the regressor, without running statistics."""
        trained = (v for name, v in self.regressor.items() if name.endswith((".weight", ".bias")))
        return sum(value.size for value in trained)

    @property
    def name(self) -> str:
        """The file's stem, as valid UTF-8; in a run's folder, the name of the run."""
        stem, run = self.path.stem, self.path.resolve().parent.name
        if stem in RUN_FILES and run:
            stem = run + RUN_FILES[stem]
        return printable(stem)

    @staticmethod
    def read(path: Path) -> Checkpoint:
        """Read a checkpoint.

        Raises:
            CheckpointError: If it is missing, damaged, not written by bakit, or newer than this
                bakit reads.
            MissingBackendError: If safetensors is not installed.
        """
        file = read_tensors(path, "checkpoint", _KEY, "one that bakit train wrote")
        header = decode_versioned(
            file.document,
            path,
            Header,
            SCHEMA_VERSION,
            CheckpointError,
            wrong="its header is not what this version expects",
            upgrade=upgraded,
        )
        arrays = file.arrays
        parts = {part: _part(arrays, part) for part in ("regressor", "localizer", "reference")}
        if arrays:
            message = f"{path}: unexpected tensor {min(arrays)!r}"
            raise CheckpointError(message)
        localizer = {name: value.astype(np.float32) for name, value in parts["localizer"].items()}
        if not fits(header.localizer, localizer):
            message = f"{path}: the localizer's weights do not fit its settings"
            raise CheckpointError(message)
        for name in ("mean_months", "sd_months"):
            if parts["regressor"].get(name) != np.float32(getattr(header, name)):
                message = f"{path}: {name} differs between weights and header"
                raise CheckpointError(message)
        try:
            reference = FloatReference(**parts["reference"]) if parts["reference"] else None
        except TypeError as error:
            message = f"{path}: the float reference is incomplete"
            raise CheckpointError(message) from error
        return Checkpoint(
            header,
            {name: value.astype(np.float32) for name, value in parts["regressor"].items()},
            localizer,
            reference,
            file.sha256,
            path,
        )

    def write(self, path: Path, *, half: bool = True) -> Checkpoint:
        """Write the checkpoint and return it as read back.

        Args:
            path: The file, ``.safetensors``.
            half: Store the regressor's weights, biases and running means as float16. Running
                variances stay float32: small ones would lose digits.
        """
        from safetensors.numpy import save  # noqa: PLC0415  # an extra

        # SGD steps amplify rounding; the student's weights are rounded to float16 already.
        is_student = isinstance(self.header.localizer, StudentSettings)
        tensors: dict[str, npt.NDArray[Any]] = {}
        for name, value in self.localizer.items():
            halved = is_student and value.ndim > 1
            tensors[f"localizer.{name}"] = value.astype(np.float16) if halved else value
        for name, value in self.regressor.items():
            halved = half and name.endswith(_HALVES)
            tensors[f"regressor.{name}"] = value.astype(np.float16) if halved else value
        for name, value in vars(self.reference).items() if self.reference else ():
            tensors[f"reference.{name}"] = value
        tensors = {name: np.ascontiguousarray(value) for name, value in tensors.items()}
        document = msgspec.json.encode(self.header, order="sorted").decode()
        write_file(path, save(tensors, metadata={_KEY: document}))
        return Checkpoint.read(path)

    def with_header(self, **changes: object) -> Checkpoint:
        """Return a copy with other header fields; digest and path stay those of the file."""
        return replace(self, header=msgspec.structs.replace(self.header, **changes))

    def with_localizer(self, found: Localizer) -> Checkpoint:
        """Return a copy with another localizer; digest and path stay those of the file."""
        return replace(self.with_header(localizer=found.settings), localizer=found.weights)


def _part(arrays: dict[str, npt.NDArray[Any]], part: str) -> dict[str, npt.NDArray[Any]]:
    """Remove the tensors ``part.*`` from ``arrays`` and return them."""
    names = sorted(
        name for name in arrays if name.startswith(f"{part}.")
    )  # the file's order is random
    return {name.removeprefix(f"{part}."): arrays.pop(name) for name in names}
