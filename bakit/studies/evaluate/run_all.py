"""Run a bundle on many labelled images, in one or several processes."""

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
        bundle: The bundle.
        samples: The images, at least one.
        work: Called with the open runtime and each sample; a module-level function with picklable
            results.
        workers: Processes; one per CPU when None, no extra process when 1. A script that uses more
            needs ``if __name__ == "__main__":``.
        threads: Threads of the backend in each process.
        on_progress: Called after each image.

    Returns:
        The samples with their results, and the unusable samples with the reason.

    Raises:
        InputError: If a value is not possible, no image can be used, a process crashed, or the
            bundle was calibrated on one of the images.
        BundleError: If the bundle is damaged or fails to run.
        MissingBackendError: If the target's library is not installed.
    """
    check_count("threads", threads)
    processes = worker_count(workers, len(samples))
    refuse_calibration_images(samples, [bundle])
    outcomes: Iterable[Result | Unreadable]
    # Open the bundle here first, so that errors are reported before processes start.
    with Runtime(bundle, threads) as runtime:
        if processes == 1:
            outcomes = [_work(work, runtime, s) for s in track(samples, "images", on_progress)]
    if processes > 1:
        start = partial(_open, bundle, threads)
        outcomes = in_processes(partial(_work, work, None), samples, processes, start, chunk=1)
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
    global _runtime  # one per worker process
    _runtime = Runtime(bundle, threads)


def _work(
    work: Callable[[Runtime, Sample], Result], runtime: Runtime | None, sample: Sample
) -> Result | Unreadable:
    try:
        return work(runtime or _runtime, sample)
    except ImageError as error:
        return unreadable(sample.path, error)
