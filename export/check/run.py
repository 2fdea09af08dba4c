"""The command ``bakit check``: read files and bundles, and check each graph in them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import onnx
from google.protobuf.message import DecodeError, Message
from onnx import external_data_helper

from bakit.bundle import Bundle
from bakit.errors import InputError, first_line
from bakit.export.check.findings import Finding
from bakit.export.check.isolated import prepare_apart
from bakit.export.check.judge import about_file, check_prepared, default_opset
from bakit.export.check.profiles import get_profile
from bakit.export.onnx.writer import walk

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from bakit.bundle import Artifact
    from bakit.export.check.judge import Prepared
    from bakit.export.check.profiles import Profile

MAX_BYTES = 2**31 - 1
"""Largest file, in bytes: protobuf's limit. Larger models store weights in further files."""


class Judged(msgspec.Struct, frozen=True):
    """A graph and its findings.

    Attributes:
        file: Its file.
        profile: Name of the profile.
        tensorrt: The profile's versions of TensorRT.
        opset: Version of the default operator set; 0 if none is imported.
        ir_version: Version of the file's format.
        nodes: Number of nodes, including those of bodies.
        findings: The findings, errors first.
    """

    file: str
    profile: str
    tensorrt: str
    opset: int
    ir_version: int
    nodes: int
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> int:
        """Number of errors."""
        return sum(finding.severity == "error" for finding in self.findings)


def check_paths(paths: Sequence[Path], profiles: Sequence[str]) -> list[Judged]:
    """Check every graph of ONNX files and bundles against profiles, given by name.

    In a bundle, the graphs that a profile's TensorRT builds from are checked.

    Raises:
        InputError: If a profile is unknown, or a file is missing, unreadable or not ONNX.
        BundleError: If a folder is not a bundle, or is damaged.
    """
    wanted = [get_profile(name) for name in dict.fromkeys(profiles)]
    judged = []
    for path in paths:
        bundle = Bundle.read(path) if path.is_dir() else None
        models: dict[Path, Prepared] = {}
        for profile in wanted:
            files = {path: []} if bundle is None else _bundle_files(bundle, profile)
            for file, further in files.items():
                if file not in models:
                    models[file] = prepare_apart(read_model(file))
                judged.append(_judge(file, models[file], profile, further))
    return judged


def read_model(path: Path) -> onnx.ModelProto:
    """Read an ONNX file and its external weights.

    Raises:
        InputError: If it is missing, too large, truncated, not ONNX, or its weights are missing.
    """
    if not path.is_file():
        message = f"{path}: no such file"
        raise InputError(message)
    if path.stat().st_size > MAX_BYTES:
        message = f"{path}: 2 GB or more, which ONNX files cannot have; store weights beside it"
        raise InputError(message)
    model = onnx.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except DecodeError:
        message = f"{path}: not an ONNX file, or a truncated one; export it again"
        raise InputError(message) from None
    if not model.ir_version or not model.HasField("graph"):
        message = f"{path}: not an ONNX file: it has no graph; give a file that ends in .onnx"
        raise InputError(message)
    if not _is_text(model):
        message = f"{path}: damaged: a name in it is not UTF-8; export it again"
        raise InputError(message)
    try:
        external_data_helper.load_external_data_for_model(model, str(path.parent))
    except (onnx.checker.ValidationError, ValueError, OSError) as error:
        message = f"{path}: its weights are in other files that cannot be read: {first_line(error)}"
        raise InputError(message) from None
    return model


def _is_text(message: Message) -> bool:
    """Return whether all strings in a message are UTF-8; protobuf returns bytes for others."""
    for field, value in message.ListFields():
        if field.type not in {field.TYPE_STRING, field.TYPE_MESSAGE}:
            continue
        items = (value,) if isinstance(value, (str, bytes, Message)) else value
        if any(isinstance(item, bytes) for item in items):
            return False
        if field.type == field.TYPE_MESSAGE and not all(_is_text(item) for item in items):
            return False
    return True


def _judge(file: Path, prepared: Prepared, profile: Profile, further: Sequence[Finding]) -> Judged:
    model = prepared.model
    return Judged(
        str(file),
        profile.name,
        profile.tensorrt,
        default_opset(model),
        model.ir_version,
        sum(1 for _ in walk(model.graph)),
        (*further, *check_prepared(prepared, profile)),
    )


def _bundle_files(bundle: Bundle, profile: Profile) -> dict[Path, list[Finding]]:
    """Return the graphs that a profile's TensorRT builds from, with findings on the bundle."""
    files: dict[Path, list[Finding]] = {}
    for artifact in bundle.networks:
        for name, findings in _artifact_files(artifact, profile):
            files.setdefault(bundle.root / name, []).extend(findings)
    if not files:
        message = f"{bundle.root}: a bundle for {bundle.manifest.target}, without ONNX graphs"
        raise InputError(message)
    return files


def _artifact_files(artifact: Artifact, profile: Profile) -> Iterator[tuple[str, list[Finding]]]:
    if not artifact.builds:
        if artifact.path.endswith(".onnx"):
            yield artifact.path, []
        return
    fitting = [build for build in artifact.builds if profile.uses(build)]
    if not fitting:
        message = f"the {artifact.role} has no build for TensorRT {profile.tensorrt}"
        yield artifact.path, [about_file("no-build", message)]
    for build in fitting:
        findings = []
        if "int8" in build.flags and not profile.int8:
            message = f"the {artifact.role} would be built in INT8, which {profile.name} lacks"
            findings.append(about_file("int8-hardware", message))
        yield build.path, findings
