"""Read films in several readers, which may die: processes of this machine, or a cluster's."""

from __future__ import annotations

import multiprocessing
from collections import deque
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2

from bakit.data.parallel import worker_count
from bakit.errors import InputError, first_line
from bakit.processes import begin_child, spawning
from bakit.runtime import Runtime
from bakit.score.row import Row, Scored, failed, score_film
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from bakit.bundle import Bundle
    from bakit.score.journal import Journal
    from bakit.score.row import Options
    from bakit.score.sources import Film

TRIES = 3
"""Times that films are read whose reader dies; then each is read alone, and then it is an error."""

STUCK_S = 300.0
"""Time without any result after which the processes are ended."""


class Readers(Protocol):
    """What reads films for ``read_films``; a reader is any object.

    ``number`` are readers at a time, ``chunk`` films that one gets at a time.
    """

    number: int
    chunk: int

    def start(self) -> object:
        """Return a new reader, which is busy until it is open."""

    def send(self, reader: object, films: list[Film]) -> None:
        """Let a reader read films."""

    def wait(self, busy: Collection[object]) -> tuple[object, list[Scored] | Exception]:
        """Return a reader that is done, with its rows, none if it was opened; or why it died."""

    def close(self) -> None:
        """End all readers."""


class _Task(NamedTuple):
    films: list[Film]
    tries: int = 0


def read_films(readers: Readers, films: Iterable[Film], bundle_sha256: str) -> Iterator[Scored]:
    """Yield the row of each film, in any order.

    The films of a reader that dies are read by the others.

    Raises:
        InputError: If readers cannot start.
    """
    films, failures = iter(films), 0
    idle: list[object] = []
    again: deque[_Task] = deque()
    busy: dict[object, _Task | None] = {readers.start(): None for _ in range(readers.number)}
    while True:
        while idle:
            task = again.popleft() if again else _Task(list(islice(films, readers.chunk)))
            if not task.films:
                break
            busy[idle[-1]] = task
            readers.send(idle.pop(), task.films)
        if idle and not any(busy.values()):
            return
        reader, found = readers.wait(busy)
        done = busy.pop(reader)
        if not isinstance(found, Exception):
            idle.append(reader)
            failures = 0
            yield from found
            continue
        busy[readers.start()] = None
        if done is None:
            failures += 1
            if failures > readers.number + TRIES:
                message = f"readers cannot start ({first_line(found)})"
                raise InputError(message) from found
        elif done.tries + 1 < TRIES:
            again.append(_Task(done.films, done.tries + 1))
        elif len(done.films) > 1:
            again.extend(_Task([film], 1) for film in done.films)
        else:
            film = done.films[0]
            yield Scored(failed(film, bundle_sha256, found), sex=film.sex)


class LocalReaders(Closing):
    """Processes of this machine, of one thread each, that read one film at a time.

    Films with the pixels of a row in the journal are not read again. One process per CPU when
    ``workers`` is None.

    Raises:
        InputError: If ``workers`` is below 1.
        BakitError: If the bundle cannot be run.
    """

    chunk = 1

    def __init__(
        self, bundle: Bundle, options: Options, journal: Journal, workers: int | None = None
    ) -> None:
        self.number = worker_count(workers, 1 << 30)
        with Runtime(bundle, 1):  # its errors are reported before processes start
            self._arguments = bundle, options
        self._journal = journal
        self._processes: dict[Connection, BaseProcess] = {}
        self._reading: dict[Connection, str] = {}
        self._waiting: list[tuple[Connection, str]] = []

    def start(self) -> Connection:
        """Start a process; the reader is the connection to it."""
        context = multiprocessing.get_context("spawn")
        reader, theirs = context.Pipe()
        with spawning():
            arguments = (theirs, *self._arguments)
            process = context.Process(target=_serve, args=arguments, daemon=True)
            process.start()
        theirs.close()
        self._processes[reader] = process
        return reader

    def send(self, reader: Any, films: object) -> None:  # noqa: ANN401  # of ``start``
        """Send films; if the process has ended, ``wait`` reports it."""
        with suppress(OSError):
            reader.send(films)

    def wait(self, busy: Collection[Any]) -> tuple[object, list[Scored] | Exception]:
        """Return a process that is done; answer those that ask for earlier films meanwhile."""
        waiting, self._waiting = self._waiting, []
        for item in waiting:
            self._answer(*item)
        while True:
            ready: list[Any] = wait(list(busy), STUCK_S)
            for reader in () if ready else busy:
                self._processes[reader].kill()
            for reader in ready:
                found: Any
                try:
                    found = reader.recv()
                except (EOFError, OSError):
                    message = f"its process ended, perhaps out of memory, or took {STUCK_S:g} s"
                    found = InputError(message)
                    self._end(reader)
                if isinstance(found, str):
                    self._answer(reader, found)
                    continue
                self._reading.pop(reader, None)
                return reader, found

    def _answer(self, reader: Connection, key: str) -> None:
        """Send the row of an earlier film; None if there is none; later if it is being read."""
        at = self._journal.keys.get(key)
        if at is None and key in self._reading.values():
            self._waiting.append((reader, key))
            return
        if at is None:
            self._reading[reader] = key
        self.send(reader, None if at is None else self._journal.row(at))

    def _end(self, reader: Connection) -> None:
        reader.close()
        process = self._processes.pop(reader)
        process.kill()
        process.join()

    def close(self) -> None:
        """End the processes."""
        for reader in list(self._processes):
            self._end(reader)


def _serve(link: Connection, bundle: Bundle, options: Options) -> None:
    """Read films until the other end is closed, also by the death of its process."""
    begin_child()
    cv2.setNumThreads(1)

    def known(key: str) -> Row | None:
        link.send(key)
        found: Row | None = link.recv()
        return found

    with Runtime(bundle, 1) as runtime, suppress(EOFError, OSError):
        link.send([])
        while True:
            link.send([score_film(runtime, film, options, known) for film in link.recv()])
