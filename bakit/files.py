"""Atomic writes of files and folders, and digests."""

from __future__ import annotations

import ctypes
import errno
import hashlib
import os
import platform
import secrets
import shutil
import stat
import tempfile
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from bakit.errors import BakitError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO, Any, BinaryIO

    from _typeshed import ReadableBuffer

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}
_NO_ROOM = 1 << 16
"""Free bytes below which a failed write is put down to a full disk."""

_HERE = -100  # AT_FDCWD: paths are relative to the working folder


def open_regular(path: Path) -> BinaryIO:
    """Open a regular file, or a link to one, to read it.

    A pipe could block its reader for ever, and a device has no end.

    Raises:
        OSError: If it is something else, or cannot be opened.
    """
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    mode = path.stat().st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if stat.S_ISREG(mode):  # opening a device alone can have effects
        file = os.fdopen(os.open(path, flags), "rb")
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # the path may be replaced meanwhile
            return file
        file.close()
    raise OSError(errno.EINVAL, "not a regular file", str(path))


def read_regular(path: Path, max_bytes: int) -> bytes:
    """Return the bytes of a regular file, or of a link to one.

    Raises:
        OSError: If it is something else, has more bytes, or cannot be read.
    """
    with open_regular(path) as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise OSError(errno.EFBIG, f"larger than {max_bytes >> 20} MiB, the limit", str(path))
    return data


def try_lock(file: IO[Any]) -> bool:
    """Lock an open file for this process; return False if another process has the lock.

    The lock ends with the file. On Windows there is none.
    """
    try:
        import fcntl  # noqa: PLC0415  # not on Windows
    except ModuleNotFoundError:
        return True
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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


def printable(name: str | Path) -> str:
    """Return a file name as valid UTF-8 text for documents; invalid bytes are replaced."""
    return os.fsencode(name).decode("utf-8", "replace")


def write_file(path: Path, data: bytes) -> None:
    """Write a file atomically; a pipe or a device gets the bytes directly."""
    if _is_stream(path):
        with path.open("wb") as file:
            file.write(data)
        return
    with new_file(path) as temporary:
        temporary.write_bytes(data)


def append_file(path: Path, data: bytes) -> None:
    """Add bytes at the end of a file.

    Raises:
        OSError: With ``path`` as its file name.
    """
    with full_disk(path), path.open("ab") as file:
        file.write(data)


@contextmanager
def full_disk(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Turn the errors of a full disk, of any library, into one that has its numbers.

    ``temporary`` is what was written meanwhile: ``path`` itself when None.

    Raises:
        OSError: With ``path`` as its file name.
    """
    try:
        yield
    except Exception as error:
        left = shutil.disk_usage(path.parent).free
        full = isinstance(error, OSError) and error.errno in _FULL
        # Libraries in C++ have no error of their own for it.
        if isinstance(error, BakitError) or (not full and left > _NO_ROOM):
            raise
        temporary = temporary or path
        files = temporary.rglob("*") if temporary.is_dir() else [temporary]
        written = sum(file.stat().st_size for file in files if file.is_file())
        message = (
            f"the disk or quota is full: {written / 1e6:.1f} MB were written, {left / 1e6:.1f} MB "
            "are left; free some space, or choose another folder"
        )
        raise OSError(errno.ENOSPC, message, str(path)) from error


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """Yield an empty temporary file; rename it to ``path`` at the end of the block.

    Links are followed. An existing file keeps its mode; a new one has the mode of the umask.
    """
    path = path.resolve()
    _make_folder(path.parent)
    temporary = _beside(path)
    try:  # from here on: a signal may come at any moment
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
        if path.is_file():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        with full_disk(path, temporary):
            yield temporary
        temporary.replace(path)
    finally:
        _remove(temporary)


def _is_stream(path: Path) -> bool:
    """Return whether a file must not be replaced: a pipe, a device, or a name of an open file."""
    if path.parts[:2] in {("/", "dev"), ("/", "proc")}:
        return True
    return path.exists() and not (path.is_file() or path.is_dir())


def _beside(path: Path) -> Path:
    """Return a new hidden name in the folder of ``path``, of a length that every system takes."""
    _sweep(path.parent)
    return path.parent / f"{_prefix()}{os.getpid()}-{secrets.token_hex(4)}"


@cache
def _prefix() -> str:
    """Return the start of temporary names: of this machine and its process numbers alone."""
    numbers = Path("/proc/self/ns/pid")
    space = numbers.readlink() if numbers.is_symlink() else ""
    return f".bakit-{sha256(f'{platform.node()} {space}'.encode())[:8]}-"


@cache
def _sweep(folder: Path) -> None:
    """Remove what killed processes of this machine have left in a folder; once in a process.

    At each write it would list a folder of many files as often as it has files.
    """
    if os.name != "posix":  # elsewhere, asking for a process can end it
        return
    for left in folder.glob(f"{_prefix()}*-*"):
        process = left.name.removeprefix(_prefix()).partition("-")[0]
        if process.isdecimal() and not _is_running(int(process)):
            _remove(left)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def check_folder(path: Path, error: type[BakitError], remedy: str = "") -> None:
    """Raise ``error``, with a remedy, if there is no folder of that name."""
    if not path.is_dir():
        what = "a file, not a folder" if path.exists() else "no such folder"
        message = f"{path}: {what}{remedy and f'; {remedy}'}"
        raise error(message)


def unwritable(folder: Path) -> Path | None:
    """Return what prevents files in a folder, which need not exist; None if nothing does."""
    home = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    return None if home.is_dir() and os.access(home, os.W_OK) else home


def _make_folder(folder: Path) -> None:
    """Make a folder to write into; an error names the folder, not a temporary file in it."""
    home = unwritable(folder)
    if home and home.is_dir():
        raise PermissionError(errno.EACCES, "not a writable folder", str(home))
    folder.mkdir(parents=True, exist_ok=True)


def check_outputs(*paths: Path | None, inputs: Iterable[Path] = ()) -> None:
    """Check before long work that files can be written, and that they replace no input.

    Args:
        paths: The files.
        inputs: Files, and folders such as bundles, that must stay as they are.

    Raises:
        InputError: If two outputs are one file, or an output is an input or lies in one.
        OSError: As ``check_writable`` does.
    """
    found: list[Path] = []
    kept = [path.resolve() for path in inputs]
    for path in filter(None, paths):
        check_writable(path)
        whole = path.resolve()
        if _is_stream(path):
            continue
        if whole in found or not {whole, *whole.parents}.isdisjoint(kept):
            what = "two outputs" if whole in found else "an output, but is or lies in an input"
            message = f"{path}: given for {what}; use another file"
            raise InputError(message)
        found.append(whole)


def check_writable(path: Path) -> None:
    """Check before long work that a file can be written.

    Raises:
        OSError: If the folder cannot be made or written to, or ``path`` is a folder.
    """
    if _is_stream(path):
        return
    _make_folder(path.parent)
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
    _make_folder(path.parent)
    temporary = _beside(path)
    try:  # from here on: a signal may come at any moment
        temporary.mkdir()
        with full_disk(path, temporary):
            yield temporary
        if path.exists():
            if not _swap(temporary, path):
                _replace(temporary, path)
        else:
            temporary.rename(path)
    finally:  # after a swap, this is the old folder or a link to one
        _remove(temporary)


def _replace(temporary: Path, path: Path) -> None:
    old = _beside(path)
    path.rename(old)
    try:
        temporary.rename(path)
    except BaseException:
        old.rename(path)
        raise
    _remove(old)


def _remove(path: Path) -> None:
    """Remove a file, a folder or the link to one, if it is there; a signal waits for it."""
    try:
        _delete(path)
    except BaseException:
        _delete(path)
        raise


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


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
