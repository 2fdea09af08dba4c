"""The rows of a run, line by line in a file, so that a killed run loses none and doubles none."""

from __future__ import annotations

import errno
import os
import time
from typing import TYPE_CHECKING

import msgspec

from bakit.documents import UNREADABLE
from bakit.errors import InputError
from bakit.files import try_lock
from bakit.score.row import Scored
from bakit.session import Closing

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.score.row import Options, Row
    from bakit.score.sources import Film

SUFFIX = ".journal"
SYNC_S = 10.0
"""Rows of this time are lost with the machine's power; with the process, none. All workers wait
while the disk syncs."""


class Journal(Closing):
    """An append-only file beside the table: what all rows have in common, then a row a line.

    Raises:
        InputError: If the table or the journal is of another bundle, other options or another
            program, or another process writes it.
    """

    def __init__(self, table: Path, bundle_sha256: str, options: Options) -> None:
        self.path = table.with_name(table.name + SUFFIX)
        for path, ours in ((table, self.path.exists()), (self.path, True)):
            if path.exists() and not (ours and path.is_file()):  # a pipe would be waited for
                message = f"{path}: exists, and was not written by bakit score; use another --out"
                raise InputError(message)
        self._done: dict[int, int] = {}
        self._keys: dict[str, int] = {}
        self._synced, self._end, self._first = 0.0, 0, -1
        self._file = self.path.open("a+b", buffering=0)
        self._reader = self.path.open("rb")
        try:
            if not try_lock(self._file):
                message = f"{self.path}: another bakit score writes it; use another --out"
                raise InputError(message)  # noqa: TRY301
            self._load({"schema_version": 2, "bundle_sha256": bundle_sha256, "options": options})
        except BaseException:
            self.close()
            raise

    def _load(self, header: dict[str, object]) -> None:
        """Read the lines; cut off what a kill left of the last one."""
        ours, theirs = msgspec.json.encode(header) + b"\n", self._reader.readline()
        if theirs != ours and ours.startswith(theirs):  # new, or killed when it was
            self._file.truncate(0)
            self._first = self._end  # nothing stays of a journal that cannot be begun
            self._write(ours)
            self._first = self._end
            return
        try:
            found = msgspec.json.decode(theirs, type=dict[str, object])
        except UNREADABLE:
            found = {}
        for name, value in msgspec.to_builtins(header).items():
            if found.get(name) != value:
                message = (
                    f"{self.path}: its rows have {name} {found.get(name)}, this run {value}; use "
                    "another --out, or remove it and the table to start again"
                )
                raise InputError(message)
        self._end = self._first = len(theirs)
        for line in self._reader:
            try:
                scored = msgspec.json.decode(line, type=Scored)
            except UNREADABLE:
                break
            if not line.endswith(b"\n"):
                break
            self._keep(scored, done=scored.row.status != "error")
            self._end += len(line)
        self._file.truncate(self._end)

    def _keep(self, scored: Scored, *, done: bool = True) -> None:
        if done:
            self._done[hash((scored.row.id, scored.origin))] = self._end
        if scored.key:
            self._keys[scored.key] = self._end

    def find(self, film: Film) -> int | None:
        """Return where the newest row of a film begins; errors of earlier runs are no rows.

        A film whose list gives another sex or place than before has no row.
        """
        return self._done.get(hash((film.id, film.origin)))

    def append(self, scored: Scored) -> None:
        """Add a row.

        Raises:
            OSError: If the disk is full.
        """
        self._keep(scored)
        self._write(msgspec.json.encode(scored) + b"\n")

    def _write(self, line: bytes) -> None:
        if self._file.write(line) != len(line):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        self._end += len(line)
        if time.monotonic() - self._synced > SYNC_S:
            os.fsync(self._file.fileno())
            self._synced = time.monotonic()

    def row(self, at: int) -> Row:
        """Return the row that begins at a byte."""
        self._reader.seek(at)
        return msgspec.json.decode(self._reader.readline(), type=Scored).row

    def known(self, key: str) -> Row | None:
        """Return an earlier row by its key (``Scored``)."""
        at = self._keys.get(key)
        return None if at is None else self.row(at)

    def forget_keys(self) -> None:
        """Free the memory of the keys."""
        self._keys.clear()

    def close(self) -> None:
        """Make the rows safe against a loss of power; leave no journal without any."""
        if self._end == self._first:
            self.path.unlink()
        os.fsync(self._file.fileno())
        self._file.close()
        self._reader.close()
