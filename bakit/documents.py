"""JSON documents with a ``schema_version``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from bakit.errors import install_command
from bakit.files import read_regular

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bakit.errors import BakitError

Document = TypeVar("Document")

UNREADABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""Errors of decoding any JSON: not the document, not UTF-8, nested too deeply."""

MAX_BYTES = 64 * 2**20
"""Largest document, unless a kind of document needs more."""

UPGRADE = f"upgrade with {install_command(upgrade=True)}"


def read_versioned(
    path: Path,
    kind: type[Document],
    version: int,
    error: type[BakitError],
    *,
    wrong: str,
    missing: str = "{path}: cannot be read ({reason})",
    max_bytes: int = MAX_BYTES,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> tuple[Document, bytes]:
    """Read a JSON document and return it with its bytes.

    Args:
        path: The file.
        kind: Type of the document.
        version: Newest supported ``schema_version``.
        error: Exception to raise if the document cannot be used.
        wrong: Message for another kind of document, without the path.
        missing: Message for a missing file; ``{path}`` and ``{reason}`` are replaced.
        max_bytes: Maximum file size.
        upgrade: Converts an older document to the newest version.
    """
    try:
        data = read_regular(path, max_bytes)
    except OSError as cause:
        reason = cause.strerror or str(cause)
        message = missing.replace("{reason}", reason).replace("{path}", str(path))
        if path.exists():
            message = f"{path}: cannot be read ({reason}); {wrong}"
        raise error(message) from cause
    document = decode_versioned(data, path, kind, version, error, wrong=wrong, upgrade=upgrade)
    return document, data


def decode_versioned(
    data: bytes | str,
    path: Path,
    kind: type[Document],
    version: int,
    error: type[BakitError],
    *,
    wrong: str,
    upgrade: Callable[[dict[str, Any]], dict[str, Any]] = dict,
) -> Document:
    """Decode a JSON document inside a file; arguments as for ``read_versioned``."""
    try:
        content = msgspec.json.decode(data, type=dict[str, Any])
        found = content.get("schema_version")
        if isinstance(found, int) and found > version:
            message = (
                f"{path}: schema version {found} is newer than this bakit's {version}; {UPGRADE}"
            )
            raise error(message)
        return msgspec.convert(upgrade(content), kind)
    except UNREADABLE as cause:
        message = f"{path}: {wrong} ({cause})"
        raise error(message) from cause
