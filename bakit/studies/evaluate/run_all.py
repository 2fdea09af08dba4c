"""Run a bundle on many labelled images: in this process, or in several."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeVar

from bakit.data.images import Unreadable, refuse_calibration_images, unreadable
from bakit.data.parallel import check_count, in_processes, worker_count
from bakit.errors import ImageError, InputError
from bakit.runtime import Runtime
from bakit.types import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import OnProgress

Result = TypeVar("Result")


def run_all(
    bundle: Bundle,
    samples: Sequence[Sample],
    work: Callable[[Runtime, Sample], Result],
    *,
    workers: int | None,
    threads: int,
    on_progress: OnProgress,
) -> tuple[list[tuple[Sample, Result]], list[tuple[Sample, str]]]:
    """Run a bundle on labelled images; the results do not depend on the number of workers.

    Args:
        bundle: What to run.
        samples: Whose images; at least one.
        work: What to do with each; other processes must be able to import it and to pickle its
            results.
        workers: Processes, one a CPU when None; 1 works in this one. A script that uses more
            needs Python's usual ``if __name__ == "__main__":``.
        threads: Threads of each process's backend.
        on_progress: Called after each image.

    Returns:
        The samples with their results, and those whose image cannot be used with the reason.

    Raises:
        InputError: If a value is not possible, no image can be used, a process ended by itself, or
            the bundle's INT8 ranges were gathered on one of the images.
        BundleError: If the bundle is damaged or fails to run.
        MissingBackendError: If the target's library is not installed.
    """
    check_count("threads", threads)
    processes = worker_count(workers, len(samples))
    refuse_calibration_images([sample.path for sample in samples], [bundle])
    outcomes: Iterable[Result | Unreadable]
    # Opened here in any case: errors are reported before processes start.
    with Runtime(bundle, threads) as runtime:
        if processes == 1:
            outcomes = [_work(work, runtime, s) for s in track(samples, "images", on_progress)]
    if processes > 1:
        start = partial(_open, bundle, threads)
        outcomes = in_processes(partial(_work_in_process, work), samples, processes, start, chunk=1)
        outcomes = track(outcomes, "images", on_progress, len(samples))
    used: list[tuple[Sample, Result]] = []
    unused: list[tuple[Sample, str]] = []
    for sample, outcome in zip(samples, outcomes, strict=True):
        if isinstance(outcome, Unreadable):
            unused.append((sample, outcome.reason))
        else:
            used.append((sample, outcome))
    if not used:
        message = f"{unused[0][0].path}: {unused[0][1]}; no other image can be used"
        raise InputError(message)
    return used, unused


_runtime: Runtime


def _open(bundle: Bundle, threads: int) -> None:
    """Open the bundle once in a worker process."""
    global _runtime  # a worker's own
    _runtime = Runtime(bundle, threads)


def _work_in_process(
    work: Callable[[Runtime, Sample], Result], sample: Sample
) -> Result | Unreadable:
    return _work(work, _runtime, sample)


def _work(
    work: Callable[[Runtime, Sample], Result], runtime: Runtime, sample: Sample
) -> Result | Unreadable:
    try:
        return work(runtime, sample)
    except ImageError as error:
        return unreadable(sample.path, error)
