"""Predict many labelled images: in this process, or in several."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import cv2

from bakit.data.images import Unreadable
from bakit.errors import BundleError, ImageError, InputError
from bakit.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.runtime import Prediction

    Outcome: TypeAlias = Prediction | Unreadable

Result = TypeVar("Result")


def predict_all(
    bundle: Bundle,
    samples: Sequence[Sample],
    *,
    workers: int | None = None,
    threads: int = 1,
    on_image: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """Predict labelled images; the answers do not depend on the number of workers.

    Returns:
        A prediction for each sample, or why its image cannot be used. Arguments and errors are
        those of ``run_all``.
    """
    return run_all(bundle, samples, _predict, workers=workers, threads=threads, on_image=on_image)


def run_all(
    bundle: Bundle,
    samples: Sequence[Sample],
    work: Callable[[Runtime, Sample], Result],
    *,
    workers: int | None = None,
    threads: int = 1,
    on_image: Callable[[int], None] = lambda _: None,
) -> list[Result]:
    """Do something with a bundle and each labelled image.

    Args:
        bundle: What to run.
        samples: Whose images.
        work: What to do; other processes must be able to import it and to pickle its results.
        workers: Processes, one a core when None; 1 works in this one. A script that uses more
            needs Python's usual ``if __name__ == "__main__":``.
        threads: Threads of each process's backend.
        on_image: Called with the number of images done since the last call.

    Returns:
        A result for each sample.

    Raises:
        InputError: If a value is not possible.
        BundleError: If the bundle is damaged or fails to run.
        MissingBackendError: If the target's library is not installed.
    """
    for name, value in (("workers", workers), ("threads", threads)):
        if value is not None and value < 1:
            message = f"{name}={value} is not possible; use 1 or more"
            raise InputError(message)
    workers = min(workers or os.cpu_count() or 1, len(samples))
    # Opened here in any case: what is missing or damaged is said before processes start.
    with Runtime(bundle, threads) as runtime:
        if workers <= 1:
            results = []
            for sample in samples:
                results.append(work(runtime, sample))
                on_image(1)
            return results
    context = multiprocessing.get_context("spawn")  # onnxruntime's threads do not survive fork
    pool = ProcessPoolExecutor(workers, context, initializer=_start, initargs=(bundle, threads))
    try:
        with _deaf():
            found = pool.map(partial(_work_apart, work), samples)
        results = []
        for result in found:
            results.append(result)
            on_image(1)
    except BrokenProcessPool as error:
        message = (
            f"{bundle.name}: a process ended by itself, perhaps for lack of memory; "
            "try fewer (--workers)"
        )
        raise BundleError(message) from error
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C waits for the images in work, not for the rest
    return results


def _predict(runtime: Runtime, sample: Sample) -> Outcome:
    try:
        # The error of what would be rejected is part of the model's; its quality says so.
        return runtime.predict(sample.path, "M" if sample.male else "F", allow_rejected=True)
    except ImageError as error:
        return Unreadable(str(error).removeprefix(f"{sample.path}: "))


_runtime: Runtime


def _start(bundle: Bundle, threads: int) -> None:
    """Open the bundle once in a worker process."""
    global _runtime  # a worker's own
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent answers to Ctrl-C
    cv2.setNumThreads(1)  # the processes are the parallelism
    _runtime = Runtime(bundle, threads)


def _work_apart(work: Callable[[Runtime, Sample], Result], sample: Sample) -> Result:
    return work(_runtime, sample)


@contextmanager
def _deaf() -> Iterator[None]:
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
