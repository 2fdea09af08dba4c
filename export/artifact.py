"""Describe a written model file for the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit import session
from bakit.bundle import Artifact, Companion
from bakit.files import sha256

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Build, Role
    from bakit.model.checkpoint import Header
    from bakit.session import Specs


def specs_of(role: Role, header: Header) -> Specs:
    """Return inputs and outputs of a checkpoint's model."""
    return session.specs_of(role, header.architecture, header.preprocessing, header.localizer)


def artifact(
    role: Role,
    folder: Path,
    name: str,
    header: Header,
    int8_share: float = 0.0,
    companions: tuple[str, ...] = (),
    builds: tuple[Build, ...] = (),
) -> Artifact:
    """Return the manifest's entry of a model.

    ``name`` is the file to open inside the folder; ``companions`` are its further files.
    """
    inputs, outputs = specs_of(role, header)
    digest, *others = (sha256((folder / path).read_bytes()) for path in (name, *companions))
    beside = tuple(Companion(*pair) for pair in zip(companions, others, strict=True))
    return Artifact(role, name, digest, inputs, outputs, beside, round(int8_share, 4), builds)
