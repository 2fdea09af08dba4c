"""Ordered map over many items, in threads or processes."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

import cv2

from bakit.errors import InputError
from bakit.processes import begin_child, cpu_count, spawning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from concurrent.futures import Future

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_THREADS = 8
"""Default maximum of threads; one large image takes about 60 MB."""


def in_threads(
    function: Callable[[Item], Result], items: Iterable[Item], threads: int | None = None
) -> Iterator[Result]:
    """Map in threads, by default one per CPU and at most ``MAX_THREADS``.

    Use it if OpenCV or a backend does the work. Items are read lazily, two per thread ahead.

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
        finally:  # after a break or Ctrl-C, cancel the other items
            pool.shutdown(wait=True, cancel_futures=True)

    return results()


def beside(function: Callable[[Item], Result], item: Item) -> Callable[[], Result]:
    """Start a function in a thread of its own; return what waits for its result."""
    pool = ThreadPoolExecutor(1, "bakit")  # not kept: threads do not survive a fork
    future = pool.submit(function, item)
    pool.shutdown(wait=False)
    return future.result


def in_processes(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    workers: int | None,
    start: Callable[[], None] | None = None,
    chunk: int = 4,
) -> Iterator[Result]:
    """Map in processes; one worker runs in this process, because starting another is slow.

    The function is one of a module. ``start`` is called once in each process, and a task has
    ``chunk`` items. One process per CPU when ``workers`` is None, each with one OpenCV thread.

    Raises:
        InputError: If ``workers`` is below 1, or a process crashed.
    """
    import multiprocessing  # noqa: PLC0415  # with the next, 10 ms that a prediction does not need
    from concurrent.futures.process import BrokenProcessPool, ProcessPoolExecutor  # noqa: PLC0415

    processes = worker_count(workers, len(items))
    if processes == 1:
        threads = cv2.getNumThreads()
        try:
            _begin(start)
            yield from map(function, items)
        finally:
            cv2.setNumThreads(threads)
        return
    context = multiprocessing.get_context("spawn")  # onnxruntime's threads do not survive fork
    with spawning():
        pool = ProcessPoolExecutor(processes, context, _begin_child, (start,))
    try:
        with spawning():
            results = pool.map(function, items, chunksize=chunk)
        yield from results
    except BrokenProcessPool as error:
        message = "a worker process crashed, perhaps out of memory; use fewer processes (--workers)"
        raise InputError(message) from error
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, wait for running items only


def worker_count(workers: int | None, items: int) -> int:
    """Return the number of processes: one per CPU when None, at most ``items``.

    Raises:
        InputError: If ``workers`` is below 1.
    """
    check_count("workers", workers)
    return min(workers or cpu_count(), max(items, 1))


def check_count(name: str, value: int | None) -> None:
    """Raise ``InputError`` for a number of workers, threads or images below 1."""
    if value is not None and value < 1:
        message = f"{name}={value} is not possible; use 1 or more"
        raise InputError(message)


def _begin_child(start: Callable[[], None] | None) -> None:
    begin_child()
    _begin(start)


def _begin(start: Callable[[], None] | None) -> None:
    cv2.setNumThreads(1)
    if start:
        start()
