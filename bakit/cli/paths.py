"""Where commands look for bundles and checkpoints when none is named."""

from __future__ import annotations

from pathlib import Path

from bakit.errors import InputError

BUNDLES = "bakit-bundles"
"""Folder that ``bakit export`` writes to and other commands look into."""


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
        InputError: If the choice is not clear.
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
