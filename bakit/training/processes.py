"""Work that is spread over processes."""

from __future__ import annotations

import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from typing import TYPE_CHECKING, Any

import cv2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


def spread(
    function: Callable[..., object],
    items: Iterable[object],
    workers: int | None,
    on_done: Callable[[int], None],
    start: Callable[[], None] | None = None,
    chunk: int = 4,
) -> Iterator[Any]:
    """Map in processes, in order; with one worker in this process, since starting one takes long.

    Args:
        function: Takes an item; a function of a module, as processes need it.
        items: What it is called with.
        workers: Processes; one a core when None.
        on_done: Called with 1 after each item.
        start: Called once in each process, in which OpenCV has one thread: the processes are the
            parallelism.
        chunk: Items that a process takes at once.
    """
    items = list(items)
    processes = min(workers or os.cpu_count() or 1, max(len(items), 1))
    if processes == 1:
        threads = cv2.getNumThreads()
        try:
            _begin(start)
            for item in items:
                result = function(item)
                on_done(1)
                yield result
        finally:
            cv2.setNumThreads(threads)
        return
    context = multiprocessing.get_context("spawn")  # onnxruntime's threads do not survive fork
    with ProcessPoolExecutor(processes, context, _begin, (start,)) as pool:
        for result in pool.map(function, items, chunksize=chunk):
            on_done(1)
            yield result


def _begin(start: Callable[[], None] | None) -> None:
    cv2.setNumThreads(1)
    if start:
        start()
