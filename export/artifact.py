"""Describe a written model file for the manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bundle import Artifact, Companion
from bakit.files import sha256
from bakit.session import (
    localizer_inputs,
    localizer_outputs,
    regressor_inputs,
    regressor_outputs,
)

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bundle import Build, Role
    from bakit.model.checkpoint import Header


def artifact(
    role: Role,
    folder: Path,
    name: str,
    header: Header,
    int8_share: float = 0.0,
    companions: tuple[str, ...] = (),
    builds: tuple[Build, ...] = (),
) -> Artifact:
    """Return the entry of a model whose files lie in ``folder``.

    Args:
        role: What it does.
        folder: The bundle's folder.
        name: The file to open.
        header: The checkpoint's; inputs and outputs follow from it.
        int8_share: Share of its multiply-adds that are written in INT8, 0..1.
        companions: Further files that the model consists of.
        builds: How engines are made of it.
    """
    inputs, outputs = (
        (localizer_inputs(header.localizer), localizer_outputs(header.localizer))
        if role == "localizer"
        else (regressor_inputs(header.architecture, header.preprocessing), regressor_outputs())
    )
    digest, *others = (sha256((folder / path).read_bytes()) for path in (name, *companions))
    beside = tuple(Companion(*pair) for pair in zip(companions, others, strict=True))
    return Artifact(role, name, digest, inputs, outputs, beside, round(int8_share, 4), builds)
