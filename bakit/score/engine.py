"""Read films in several readers, which may die: processes of this machine, or a cluster's."""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from contextlib import suppress
from itertools import islice
from multiprocessing.connection import wait
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import cv2

from bakit.data.parallel import worker_count
from bakit.errors import BakitError, InputError, first_line
from bakit.processes import begin_child, spawning
from bakit.runtime import Runtime
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

    from bakit.bundle import Bundle

    Known = Callable[[str], Any]
    """Returns an earlier result by its key, None if there is none."""

    Work = Callable[[Runtime, Any, Known], Any]
    """Returns the result of one item, such as a film; a function of a module, or a partial."""

TRIES = 3
"""Times that films are read whose reader dies; then each is read alone, and then it is lost."""

QUEUED = 2
"""Tasks of a reader: the one that it reads, and the next, for which it need not wait."""

STUCK_S = 300.0
"""Time without any result after which the processes are ended."""


class Readers(Protocol):
    """What reads items for ``read_all``; a reader is any object, and does its tasks in their order.

    ``number`` are readers at a time, ``chunk`` items of a task.
    """

    number: int
    chunk: int

    def start(self) -> object:
        """Return a new reader, which is busy until it is open."""

    def send(self, reader: object, items: list[Any]) -> None:
        """Give a reader a task."""

    def wait(self, busy: Collection[object]) -> tuple[object, list[Any] | Exception]:
        """Return a reader with the results of a task, none if it was opened; or why it died."""

    def close(self) -> None:
        """End all readers."""


class _Task(NamedTuple):
    items: list[Any]
    tries: int = 0


_OPEN = _Task([])
"""The first task of a reader, until which it gets no other."""


def read_all(
    readers: Readers, items: Iterable[Any], lost: Callable[[Any, Exception], Any]
) -> Iterator[Any]:
    """Yield the result of each item, in any order.

    The items of a reader that dies are read by the others; ``lost`` makes the result of one that
    ends each of its readers.

    Raises:
        InputError: If readers cannot start.
    """
    items, failures = iter(items), 0
    again: deque[_Task] = deque()
    busy = {readers.start(): deque([_OPEN]) for _ in range(readers.number)}
    while True:
        opened = [(reader, tasks) for reader, tasks in busy.items() if _OPEN not in tasks]
        for depth in range(QUEUED):  # each has a task before one has two
            for reader, tasks in opened:
                if len(tasks) > depth:
                    continue
                task = again.popleft() if again else _Task(list(islice(items, readers.chunk)))
                if task.items:
                    tasks.append(task)
                    readers.send(reader, task.items)
        if opened and not any(tasks for _, tasks in opened):
            return
        reader, found = readers.wait([reader for reader, tasks in busy.items() if tasks])
        if not isinstance(found, Exception):
            busy[reader].popleft()
            failures = 0
            yield from found
            continue
        begun, *others = busy.pop(reader)
        again.extend(others)
        busy[readers.start()] = deque([_OPEN])
        if begun is _OPEN:
            failures += 1
            if failures > readers.number + TRIES:
                message = f"readers cannot start ({first_line(found)})"
                raise InputError(message) from found
        elif begun.tries + 1 < TRIES:
            again.append(_Task(begun.items, begun.tries + 1))
        elif len(begun.items) > 1:
            again.extend(_Task([item], 1) for item in begun.items)
        else:
            yield lost(begun.items[0], found)


class LocalReaders(Closing):
    """Processes of this machine, with one item a task and ``threads`` of the backend.

    ``known`` is asked in this process, for one key only when no other reader is at it: an item
    that equals another is done once. One process per CPU when ``workers`` is None.

    Raises:
        InputError: If ``workers`` is below 1.
    """

    chunk = 1

    def __init__(
        self,
        bundle: Bundle,
        work: Work,
        known: Known,
        *,
        workers: int | None = None,
        threads: int = 1,
    ) -> None:
        self.number = worker_count(workers, 1 << 30)
        self._arguments = bundle, work, threads
        self._known = known
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

    def send(self, reader: Any, message: object) -> None:  # noqa: ANN401  # of ``start``
        """Send a task, or an answer; if the process has ended, ``wait`` reports it."""
        with suppress(OSError):
            reader.send(message)

    def wait(self, busy: Collection[Any]) -> tuple[object, list[Any] | Exception]:
        """Return a process that is done; answer those that ask for earlier results meanwhile.

        Raises:
            BakitError: If a process cannot run the bundle.
        """
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
                else:
                    if isinstance(found, BakitError):
                        raise found
                if isinstance(found, str):
                    self._answer(reader, found)
                    continue
                self._reading.pop(reader, None)
                return reader, found

    def _answer(self, reader: Connection, key: str) -> None:
        """Send an earlier result; None if there is none; later if it is being made."""
        found = self._known(key)
        if found is None and key in self._reading.values():
            self._waiting.append((reader, key))
            return
        if found is None:
            self._reading[reader] = key
        self.send(reader, found)

    def _end(self, reader: Connection) -> None:
        reader.close()
        process = self._processes.pop(reader)
        process.kill()
        process.join()

    def close(self) -> None:
        """End the processes."""
        for reader in list(self._processes):
            self._end(reader)


def _serve(link: Connection, bundle: Bundle, work: Work, threads: int) -> None:
    """Do tasks until the other end is closed, also by the death of its process."""
    begin_child()
    cv2.setNumThreads(1)
    tasks: SimpleQueue[list[Any]] = SimpleQueue()
    answers: SimpleQueue[Any] = SimpleQueue()

    def receive() -> None:  # the next task while one is done: the other end never waits
        with suppress(EOFError, OSError):
            while True:
                message = link.recv()
                (tasks if isinstance(message, list) else answers).put(message)
        os._exit(1)

    def known(key: str) -> Any:  # noqa: ANN401
        link.send(key)
        return answers.get()

    Thread(target=receive, daemon=True).start()
    with suppress(OSError):
        try:
            runtime = Runtime(bundle, threads)
        except BakitError as error:
            link.send(error)
            return
        link.send([])
        while True:
            link.send([work(runtime, item, known) for item in tasks.get()])
