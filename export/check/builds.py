"""Which build of a bundle is for which profile, and what an export refuses to write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.errors import BundleError, VerificationError
from bakit.export.check.judge import check_prepared, prepare
from bakit.export.check.profiles import PROFILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from onnx import ModelProto

    from bakit.bundle import Build
    from bakit.export.check.profiles import Profile, Version


def check_builds(models: Mapping[str, ModelProto], builds: Sequence[Build]) -> None:
    """Judge each graph against every profile whose TensorRT would build from it.

    Args:
        models: The graphs by their path in the bundle.
        builds: How engines are made of them.

    Raises:
        VerificationError: If a graph would be refused, with the first reason.
    """
    for path, model in models.items():
        prepared = prepare(model)
        for profile in PROFILES.values():
            if not any(build.path == path and is_for(build, profile) for build in builds):
                continue
            for finding in check_prepared(prepared, profile):
                if finding.severity == "error":
                    message = (
                        f"{path} would be refused by {profile.name} (TensorRT {profile.tensorrt}): "
                        f"{finding.operator} {finding.node}: {finding.message} ({finding.rule}); "
                        f"{finding.remedy}"
                    )
                    raise VerificationError(message)


def is_for(build: Build, profile: Profile) -> bool:
    """Say whether a version of TensorRT that a profile stands for takes a build.

    Raises:
        BundleError: If the build's versions are none.
    """
    below = None if build.max_version is None else _version(build.max_version)
    return _version(build.min_version) <= profile.newest and (
        below is None or profile.oldest < below
    )


def _version(text: str) -> Version:
    parts = text.split(".")
    if len(parts) < 2 or not all(part.isdecimal() for part in parts):
        message = f"a build for TensorRT {text!r}, which is no version; export the bundle again"
        raise BundleError(message)
    return int(parts[0]), int(parts[1])
