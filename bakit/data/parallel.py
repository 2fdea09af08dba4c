"""One function on many items: in threads or in processes, in order."""

from __future__ import annotations

import multiprocessing
import signal
import threading
from collections import deque
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import cv2

from bakit.errors import InputError
from bakit.processes import cpu_count, safe_path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 8
"""Threads by default at most: an image at its largest takes some 60 MB."""


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Map in threads, by default one a CPU but at most ``MAX_THREADS``.

    Threads are enough where OpenCV or a backend does the work. Items are taken as they are needed,
    no more than two for each thread ahead.

    Raises:
        InputError: If ``threads`` is below 1.
    """
    check_count("threads", threads)
    number = threads or min(cpu_count(), MAX_THREADS)

    def results() -> Iterator[Result]:
        waiting: deque[Future[Result]] = deque()
        pool = ThreadPoolExecutor(number, "bakit")
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) >= 2 * number:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # who stops listening, or Ctrl-C, does not wait for the rest
            pool.shutdown(wait=True, cancel_futures=True)

    return results()


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    start: Callable[[], None] | None = None,
    chunk: int = 4,
) -> Iterator[Result]:
    """Map in processes; with one worker in this process, since starting one takes long.

    Args:
        function: Takes an item; a function of a module, as processes need it.
        items: What it is called with.
        workers: Processes; one a CPU when None.
        start: Called once in each process, in which OpenCV has one thread: the processes are the
            parallelism.
        chunk: Items that a process takes at once.

    Raises:
        InputError: If ``workers`` is below 1, or a process ended by itself.
    """
    processes = worker_count(workers, len(items))
    if processes == 1:
        threads = cv2.getNumThreads()
        try:
            _begin(start, interrupts=True)
            yield from map(function, items)
        finally:
            cv2.setNumThreads(threads)
        return
    context = multiprocessing.get_context("spawn")  # onnxruntime's threads do not survive fork
    with safe_path():
        pool = ProcessPoolExecutor(processes, context, _begin, (start,))
    try:
        with safe_path(), _interrupts_ignored():
            results = pool.map(function, items, chunksize=chunk)
        yield from results
    except BrokenProcessPool as error:
        message = (
            "a worker process ended by itself, perhaps for lack of memory; use fewer (--workers)"
        )
        raise InputError(message) from error
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the items in work, not for the rest


def worker_count(workers: int | None, items: int) -> int:
    """Return how many processes to start: one a CPU when None, and no more than items.

    Raises:
        InputError: If ``workers`` is below 1.
    """
    check_count("workers", workers)
    return min(workers or cpu_count(), max(items, 1))


def check_count(name: str, value: int | None) -> None:
    """Refuse a number of workers or threads below 1.

    Raises:
        InputError: If it is one.
    """
    if value is not None and value < 1:
        message = f"{name}={value} is not possible; use 1 or more"
        raise InputError(message)


def _begin(start: Callable[[], None] | None, *, interrupts: bool = False) -> None:
    if not interrupts:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers to Ctrl-C
    cv2.setNumThreads(1)
    if start:
        start()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Ignore Ctrl-C: processes that start meanwhile do so from their first moment.

    Otherwise each would print a traceback if it came while they import.
    """
    if threading.current_thread() is not threading.main_thread():  # Python allows it only there
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
