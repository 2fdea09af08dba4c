"""The node's spool: every radiograph and every report is a file until it is answered or delivered.

``in`` has radiographs that were acknowledged and not yet read, ``out`` reports that the peer has
not yet accepted, ``refused`` radiographs without a report, and ``done`` an empty file for each
delivered report. ``reading`` has a byte for each time that the node began to read a radiograph and
did not come to its end. Files are named after the SHA-256 of the radiograph's data set: a
radiograph that is sent twice is answered once, and no name identifies a patient.
"""

from __future__ import annotations

import errno
import os
import queue
import secrets
import shutil
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bakit.errors import InputError
from bakit.files import try_lock

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

FOLDERS = ("in", "out", "refused", "done")
READING = "reading"
DAY_S = 86400.0
CRASHES = 10
"""Crashes during one radiograph, after which it is put aside: a decoder could crash each time."""


class Spool:
    """A spool on disk, locked for this process; radiographs leave ``min_free_mb`` for the reports.

    What was acknowledged survives a crash at any moment: files are synced before they are renamed,
    and a rename before the next step.

    Attributes:
        waiting: Names of the radiographs to read. At the start, those that were being read at a
            crash come last: one that crashes the node does not stop the others.
        crashed: Names of radiographs that were put aside after ``CRASHES`` crashes.

    Raises:
        InputError: If another node uses it.
        OSError: If it cannot be written.
    """

    def __init__(self, root: Path, min_free_mb: float) -> None:
        self.root = root
        self._min_free = min_free_mb * 1e6
        self._lock = threading.Lock()
        self.waiting: queue.Queue[str | None] = queue.Queue()
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._owner = (root / "lock").open("w")
        if not try_lock(self._owner):
            self._owner.close()
            message = f"{root}: another node uses this spool; stop it, or choose another folder"
            raise InputError(message)
        for folder in (*FOLDERS, READING):
            (root / folder).mkdir(mode=0o700, exist_ok=True)
        self._recover()

    def _recover(self) -> None:
        """Finish the steps that a crash interrupted."""
        for left in self.root.glob("*/.*"):
            left.unlink()
        for folder, later in (("out", ("done",)), ("in", FOLDERS[1:])):
            for key in self.names(folder):
                if self._is_in(later, key):
                    self.path(folder, key).unlink()
        begun = {key: self.path(READING, key).stat().st_size for key in self.names(READING)}
        self.crashed = [key for key in self.names("in") if begun.get(key, 0) >= CRASHES]
        for key in self.crashed:
            self.refuse(key)
        waiting = sorted(self.names("in"), key=lambda key: begun.get(key, 0))
        for key in waiting:
            self.waiting.put(key)
        for key in begun.keys() - set(waiting):
            self.ended(key)

    def close(self) -> None:
        """Let another process use the spool."""
        self._owner.close()

    def path(self, folder: str, key: str) -> Path:
        """Return a file of the spool."""
        return self.root / folder / key

    def _is_in(self, folders: Sequence[str], key: str) -> bool:
        return any(self.path(folder, key).exists() for folder in folders)

    def names(self, folder: str) -> list[str]:
        """Return the names in a folder, oldest first."""
        found = []
        with os.scandir(self.root / folder) as entries:
            for entry in entries:
                with suppress(FileNotFoundError):  # another thread has moved it
                    if entry.name[0] != ".":
                        found.append((entry.stat().st_mtime_ns, entry.name))
        return [name for _, name in sorted(found)]

    def free_mb(self) -> float:
        """Return the room that is left for radiographs, in 10^6 bytes; below 0 if there is none."""
        return (shutil.disk_usage(self.root).free - self._min_free) / 1e6

    def take(self, key: str, data: bytes) -> bool:
        """Keep a radiograph and queue it; when this returns, it is on the disk.

        Returns:
            False if it is known already.

        Raises:
            OSError: If the disk is full, or cannot be written.
        """
        with self._lock:  # not between the rename and the sync of another thread
            if self._is_in(FOLDERS, key):
                return False
        if self.free_mb() * 1e6 < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.root))
        with _written(self.root / "in", data) as temporary, self._lock:
            if self._is_in(FOLDERS, key):
                return False
            _rename(temporary, self.path("in", key))
        self.waiting.put(key)
        return True

    def read(self, key: str) -> bytes:
        """Return a radiograph that waits; ``ended`` follows unless the node crashes."""
        with self.path(READING, key).open("ab") as begun:
            begun.write(b".")
        return self.path("in", key).read_bytes()

    def ended(self, key: str) -> None:
        """Note that reading a radiograph crashed nothing, whatever came of it."""
        with suppress(OSError):
            self.path(READING, key).unlink()

    def answer(self, key: str, report: bytes) -> None:
        """Replace a radiograph by its report."""
        with _written(self.root / "out", report) as temporary:
            _rename(temporary, self.path("out", key))
        self.path("in", key).unlink()

    def refuse(self, key: str) -> None:
        """Put a radiograph aside that gets no report."""
        _rename(self.path("in", key), self.path("refused", key))

    def delivered(self, key: str) -> None:
        """Remove a report that the peer has accepted."""
        done = self.path("done", key)
        done.touch(mode=0o600)
        _sync(done.parent)
        self.path("out", key).unlink()

    def sweep(self, keep_days: float) -> None:
        """Forget refused radiographs and delivered reports after some days."""
        oldest = time.time() - keep_days * DAY_S
        for folder in ("refused", "done"):
            for key in self.names(folder):
                if self.path(folder, key).stat().st_mtime < oldest:
                    self.path(folder, key).unlink()


@contextmanager
def _written(folder: Path, data: bytes) -> Iterator[Path]:
    """Yield a temporary file with synced bytes; remove it at the end unless it was renamed."""
    path = folder / f".{secrets.token_hex(8)}"
    try:
        with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield path
    finally:
        path.unlink(missing_ok=True)


def _rename(old: Path, new: Path) -> None:
    old.rename(new)
    _sync(new.parent)


def _sync(folder: Path) -> None:
    number = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
