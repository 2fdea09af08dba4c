"""Bundles: a folder with model files and the manifest that describes and seals them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Literal

import msgspec

from bakit.documents import read_versioned
from bakit.errors import BundleError
from bakit.files import check_folder, printable, read_regular, sha256
from bakit.image.box import Box
from bakit.model.intervals import Intervals
from bakit.quality.limits import QualityLimits
from bakit.sealed import SealedFiles, seal_files
from bakit.session import TensorSpec, describe_specs, specs_of
from bakit.settings import (
    Architecture,
    LocalizerForm,
    LocalizerSettings,
    Preprocessing,
    SplitRecord,
    upgraded,
)
from bakit.signature import SUFFIX, check_signature
from bakit.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 4
MANIFEST = "manifest.json"
SEAL = "manifest.json.sha256"
"""File with the manifest's digest, for ``sha256sum -c``; the manifest has those of other files."""

MAX_MANIFEST_BYTES = 16 * 2**20
MAX_ENTRIES = 256
"""Most golden images of a bundle, and most companions, builds, inputs or outputs of a model."""

Role = Literal["localizer", "regressor", "whole"]
"""``whole`` is an optional third model: both others, and the steps from a film to its age."""

_FEW = msgspec.Meta(max_length=MAX_ENTRIES)


class Companion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A further file of a model, such as its weights.

    Attributes:
        path: Path inside the bundle, with forward slashes.
        sha256: Digest of its bytes.
    """

    path: str
    sha256: str


class Build(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a range of TensorRT versions builds an engine, on the device itself.

    Attributes:
        path: The ONNX file to parse.
        min_version: Lowest version, inclusive, such as ``8.2``.
        max_version: Highest version, exclusive; None for no limit.
        flags: Number formats that the builder may use, with weak typing.
        strongly_typed: Whether the types in the file determine the number formats.
        calibration_cache: File with the activations' scales, for INT8 with weak typing.
    """

    path: str
    min_version: str
    max_version: str | None = None
    flags: tuple[Literal["fp16", "int8"], ...] = ()
    strongly_typed: bool = False
    calibration_cache: str | None = None


class Artifact(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One model.

    Attributes:
        role: ``localizer``, ``regressor`` or ``whole``.
        path: The file to open; a path inside the bundle, with forward slashes.
        sha256: Digest of its bytes.
        inputs: Its inputs.
        outputs: Its outputs.
        companions: Further files of the model.
        int8_share: Share of its multiply-adds that are written in INT8, 0..1.
        builds: How engines are built from it; the first build for a version is used. Empty if the
            files run as they are. Files of builds are among the companions.
    """

    role: Role
    path: str
    sha256: str
    inputs: Annotated[tuple[TensorSpec, ...], _FEW]
    outputs: Annotated[tuple[TensorSpec, ...], _FEW]
    companions: Annotated[tuple[Companion, ...], _FEW] = ()
    int8_share: float = 0.0
    builds: Annotated[tuple[Build, ...], _FEW] = ()

    @property
    def files(self) -> dict[str, str]:
        """Digest of each file by its path."""
        return {self.path: self.sha256} | {item.path: item.sha256 for item in self.companions}


class Golden(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A phantom with the age that the float model predicts.

    Attributes:
        path: Its image inside the bundle.
        sha256: Digest of the image's bytes.
        sex: ``M`` or ``F``.
        age_months: Age predicted by the float model.
        bundle_months: Age predicted by this bundle on the machine that exported it.
        box: The hand, in pixels of the image; None if the whole image was used.
        inverted: Whether bones are dark in the image; they were made bright for these ages.
        turn: Anticlockwise quarter turns that made the hand upright for these ages.
    """

    path: str
    sha256: str
    sex: Literal["M", "F"]
    age_months: float
    bundle_months: float
    box: Box | None
    inverted: bool = False
    turn: int = 0


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The contents of a bundle.

    It has no date: two exports of one checkpoint are the same bytes.

    Attributes:
        schema_version: Version of this document.
        target: Name of the target.
        precision: Number format of the regressor; the localizer is always float32.
        artifacts: The models.
        preprocessing: How images become the regressor's input.
        localizer: Settings of the localizer, fixed in its graph.
        localizer_form: How the SGD steps are written (``bakit.settings.LocalizerForm``).
        output_unit: Unit of the regressor's output.
        checkpoint: Name of the float checkpoint.
        checkpoint_sha256: Digest of the float checkpoint's file.
        calibration: Description of the origin of the INT8 ranges; None without INT8.
        calibration_sha256: Digest of the calibration set; None without INT8.
        calibration_images: Digests of its images, which benchmarks reject.
        calibration_ids: Short hashes of their ids (``bakit.data.overlap``), which are rejected too.
        float_layers: Layers of the regressor that stay float; None without INT8.
        golden: Phantoms with expected ages.
        tolerance_months: Largest allowed mean of the golden ages' absolute changes on a device,
            from the spread of correct evaluators of this model (``bakit.export.spread``).
        tool_versions: Versions of the libraries that wrote the files, by name.
        training_data: Description of the training data and its terms of use.
        split: Digests of the training split and hashes of its ids, so that benchmarks use images
            that the model has never seen.
        intervals: Prediction intervals, fitted on the float model; None if the checkpoint has none.
        parameters: Number of trained parameters of the regressor; None in older bundles.
        multiply_adds: Multiply-adds of one run of the regressor; None in older bundles.
        quality: Limits for review and rejection; None if the checkpoint has none: then nothing
            is rejected.
    """

    schema_version: Annotated[int, msgspec.Meta(ge=1)]
    target: str
    precision: Precision
    artifacts: Annotated[tuple[Artifact, ...], msgspec.Meta(max_length=3)]
    preprocessing: Preprocessing
    localizer: LocalizerSettings
    localizer_form: LocalizerForm
    output_unit: Literal["months"]
    checkpoint: str
    checkpoint_sha256: str
    calibration: str | None
    calibration_sha256: str | None
    golden: Annotated[tuple[Golden, ...], _FEW]
    tolerance_months: float
    tool_versions: dict[str, str]
    training_data: str
    split: SplitRecord | None
    intervals: Intervals | None = None
    calibration_images: tuple[str, ...] = ()
    calibration_ids: str = ""
    float_layers: tuple[str, ...] | None = None
    parameters: int | None = None
    multiply_adds: int | None = None
    quality: QualityLimits | None = None


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose files match the manifest.

    Attributes:
        root: Its folder.
        manifest: Its contents.
        sha256: Digest of the manifest, and thus of every file that it seals.
    """

    root: Path
    manifest: Manifest
    sha256: str

    @staticmethod
    def read(root: Path, public_key: Path | None = None, *, check_files: bool = True) -> Bundle:
        """Read a bundle and check every file's digest.

        Args:
            root: Its folder.
            public_key: Public key that must verify its signature (``bakit.signature``).
            check_files: Whether to check the digests now; if not, that of each file is checked when
                it is read, and ``files.check`` checks the others.

        Raises:
            BundleError: If it is not a bundle or a newer one, is not signed with the key, names a
                link or a path that is not canonical, contradicts itself, or a file is missing,
                changed or too large.
        """
        path = root / MANIFEST
        check_folder(root, BundleError, "a bundle is a folder that bakit export writes")
        inner = None if path.exists() else min(root.glob(f"*/{MANIFEST}"), default=None)
        lacks = f"{MANIFEST} is missing; bakit export writes one"
        manifest, data = read_versioned(
            path,
            Manifest,
            SCHEMA_VERSION,
            BundleError,
            max_bytes=MAX_MANIFEST_BYTES,
            missing=f"{root}: "
            + (f"holds bundles; name one: {inner.parent}" if inner else f"not a bundle: {lacks}"),
            wrong="not a manifest of this version",
            upgrade=upgraded,
        )
        _check_seal(root, data)
        if public_key is not None:
            check_signature(path, data, public_key)
        bundle = Bundle(root, manifest, sha256(data))
        files = bundle.files
        _check_models(root, manifest)
        if check_files:
            files.check()
        return bundle

    @cached_property
    def files(self) -> SealedFiles:
        """Every file that the manifest seals."""
        listed = [(item.path, item.sha256) for item in self.manifest.golden]
        for model in self.manifest.artifacts:
            listed.append((model.path, model.sha256))
            listed += [(item.path, item.sha256) for item in model.companions]
        return seal_files(self.root, listed)

    def files_of(self, artifact: Artifact) -> SealedFiles:
        """Return the files of one model, which its backend may open."""
        return SealedFiles(self.root, artifact.files, self.files.checked)

    def unsealed(self) -> list[str]:
        """Return files in the folder that the manifest does not seal; bakit never reads them."""
        return self.files.unsealed((MANIFEST, SEAL, MANIFEST + SUFFIX))

    def artifact(self, role: Role) -> Artifact:
        """Return the model of a role.

        Raises:
            BundleError: If the bundle has none.
        """
        for artifact in self.manifest.artifacts:
            if artifact.role == role:
                return artifact
        message = f"{self.root}: the bundle has no {role}"
        if role == "whole":
            message += " graph; export it with --whole"
        raise BundleError(message)

    @property
    def networks(self) -> list[Artifact]:
        """The localizer and the regressor."""
        return [item for item in self.manifest.artifacts if item.role != "whole"]

    @property
    def has_whole(self) -> bool:
        """Whether it has the whole graph."""
        return len(self.networks) < len(self.manifest.artifacts)

    @property
    def size_bytes(self) -> int:
        """Size of the model files, in bytes."""
        files = {path for item in self.manifest.artifacts for path in item.files}
        return sum((self.root / name).stat().st_size for name in files)

    @property
    def name(self) -> str:
        """Name of the bundle's folder, as valid UTF-8."""
        return printable(self.root.resolve().name)


def encode_manifest(manifest: Manifest) -> bytes:
    """Return a manifest's bytes, the same for the same manifest."""
    return msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"


def write_manifest(root: Path, manifest: Manifest) -> None:
    """Write a bundle's manifest and its seal, the last two files of a bundle."""
    (root / MANIFEST).write_bytes(encode_manifest(manifest))
    seal(root)


def seal(root: Path) -> None:
    """Seal the manifest in a folder."""
    (root / SEAL).write_bytes(_seal((root / MANIFEST).read_bytes()))


def _seal(data: bytes) -> bytes:
    return f"{sha256(data)}  {MANIFEST}\n".encode()


def _check_seal(root: Path, data: bytes) -> None:
    """Reject a manifest that differs from its seal."""
    try:
        sealed = read_regular(root / SEAL, 1 << 20)
    except FileNotFoundError as error:
        message = f"{root}: {SEAL} is missing; copy or export the bundle again"
        raise BundleError(message) from error
    except OSError as error:
        message = f"{root / SEAL}: cannot be read ({error.strerror or error})"
        raise BundleError(message) from error
    if sealed != _seal(data):
        message = f"{root / MANIFEST}: differs from {SEAL}; copy or export the bundle again"
        raise BundleError(message)


def _check_models(root: Path, manifest: Manifest) -> None:
    """Reject models that do not fit the settings, or are built from files that are not sealed."""
    roles = [item.role for item in manifest.artifacts]
    if len(set(roles)) < len(roles):
        message = f"{root}: the manifest lists two models of the role {roles[0]}"
        raise BundleError(message)
    for item in manifest.artifacts:
        architecture = Architecture(sex=len(item.inputs) > 1)
        expected = specs_of(item.role, architecture, manifest.preprocessing, manifest.localizer)
        if (item.inputs, item.outputs) != expected:
            message = (
                f"{root}: the {item.role}'s inputs and outputs in the manifest do not fit its "
                f"settings, which need {describe_specs(expected)}; export it again"
            )
            raise BundleError(message)
        used = {file for build in item.builds for file in (build.path, build.calibration_cache)}
        if missing := used - {None} - item.files.keys():
            message = f"{root}: {min(map(str, missing))!r} is built from but not sealed"
            raise BundleError(message)
