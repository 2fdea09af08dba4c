"""Atomic writes of files and folders, and digests."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import shutil
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from _typeshed import ReadableBuffer

_HERE = -100  # AT_FDCWD: paths are relative to the working folder


def sha256(data: ReadableBuffer) -> str:
    """Return the hex SHA-256 of bytes."""
    return hashlib.sha256(data).hexdigest()


def file_sha256(path: Path) -> str:
    """Return the hex SHA-256 of a file, cached in this process until the file changes."""
    state = path.stat()
    return _file_sha256(path, state.st_size, state.st_mtime_ns)


@cache
def _file_sha256(path: Path, size: int, mtime_ns: int) -> str:
    del size, mtime_ns  # part of the cache key
    return sha256(path.read_bytes())


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically: under a temporary name, then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        temporary.chmod(0o644)  # mkstemp makes it private
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Check before long work that a file can be written.

    Raises:
        OSError: If the folder cannot be made or written to, or ``path`` is a folder.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.TemporaryFile(dir=path.parent):
        pass


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder; rename it to ``path`` at the end of the block.

    An existing folder is replaced; it is not changed if the block raises. On Linux and macOS the
    replacement is atomic.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    temporary.chmod(0o755)  # mkdtemp makes it private
    try:
        yield temporary
        if path.exists():
            if not _swap(temporary, path):
                _replace(temporary, path)
        else:
            temporary.rename(path)
    finally:  # after a swap, this is the old folder or a link to one
        if temporary.is_symlink():
            temporary.unlink()
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(temporary: Path, path: Path) -> None:
    old = Path(tempfile.mkdtemp(prefix=f".{path.name}.old.", dir=path.parent))
    path.rename(old / path.name)
    try:
        temporary.rename(path)
    except BaseException:
        (old / path.name).rename(path)
        old.rmdir()
        raise
    shutil.rmtree(old)


def _swap(first: Path, second: Path) -> bool:
    """Swap two folders atomically; return False if the system cannot."""
    if os.name != "posix":
        return False
    library = ctypes.CDLL(None)
    names = os.fsencode(first), os.fsencode(second)
    if hasattr(library, "renameat2"):  # Linux; RENAME_EXCHANGE
        status = library.renameat2(_HERE, names[0], _HERE, names[1], 2)
    elif hasattr(library, "renamex_np"):  # macOS; RENAME_SWAP
        status = library.renamex_np(*names, 2)
    else:
        return False
    return bool(status == 0)  # some file systems cannot
