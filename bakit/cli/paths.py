"""Path arguments of the commands and their default folders."""

from __future__ import annotations

from pathlib import Path

import click

from bakit.errors import InputError

BUNDLES = "bakit-bundles"
"""Output folder of ``bakit export``, from which other commands read bundles."""

paths_argument = click.argument(
    "paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="[CHECKPOINT] DATA"
)
"""Argument of commands that take a checkpoint and its labelled folder."""

public_key_option = click.option(
    "--public-key",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Refuse bundles that the owner of this key did not sign (bakit sign).",
)
"""Option of commands that open bundles."""


def checkpoint_and_data(paths: tuple[Path, ...]) -> tuple[Path | None, Path]:
    """Return the checkpoint (None if omitted) and the folder of ``paths_argument``.

    Raises:
        click.UsageError: If there are more than two paths.
    """
    if len(paths) > 2:
        message = f"unexpected argument {str(paths[2])!r}"
        raise click.UsageError(message)
    return (paths[0] if len(paths) == 2 else None), paths[-1]


def all_bundles() -> list[Path]:
    """Return the bundles in the default folder, sorted by name.

    Raises:
        InputError: If there are none.
    """
    # A hidden folder is an export that is still being written.
    found = sorted(path.parent for path in Path(BUNDLES).glob("[!.]*/manifest.json"))
    if not found:
        message = f"no bundle in {BUNDLES}/; write one with: bakit export --target onnx"
        raise InputError(message)
    return found


def only_bundle() -> Path:
    """Return the one bundle in the default folder, or its only float32 ONNX one.

    Raises:
        InputError: If there are none, or several.
    """
    found = all_bundles()
    if len(found) > 1:
        floats = [path for path in found if path.name.endswith("-onnx-fp32")]
        if len(floats) != 1:
            names = ", ".join(path.name for path in found)
            message = f"{BUNDLES}/ holds several bundles; choose one with --bundle: {names}"
            raise InputError(message)
        found = floats
    return found[0]
