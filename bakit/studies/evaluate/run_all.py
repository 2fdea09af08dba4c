"""Run a bundle on many labelled images, in one or several processes."""

from __future__ import annotations

from contextlib import ExitStack, closing
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from bakit.data.images import refuse_calibration_images, unreadable
from bakit.data.parallel import check_count, worker_count
from bakit.errors import ImageError, InputError
from bakit.runtime import Runtime
from bakit.score.engine import LocalReaders, read_all
from bakit.types import track

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.score.engine import Known, Readers
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
    open_readers: Callable[..., Readers] = LocalReaders,
) -> tuple[list[tuple[Sample, Result]], list[tuple[Sample, str]]]:
    """Run a bundle on labelled images; the results do not depend on workers and readers.

    Args:
        bundle: The bundle.
        samples: The images, at least one.
        work: Called with the open runtime and each sample; a module-level function with picklable
            results.
        workers: Processes; one per CPU when None, no extra process when 1. A script that uses more
            needs ``if __name__ == "__main__":``.
        threads: Threads of the backend in each process.
        on_progress: Called after each image.
        open_readers: ``LocalReaders``, or ``RayReaders`` for the workers of a cluster.

    Returns:
        The samples with their results, and the unusable samples with the reason.

    Raises:
        InputError: If a value is not possible, no image can be used, processes cannot start, or
            the bundle was calibrated on one of the images.
        BundleError: If the bundle is damaged or fails to run.
        MissingBackendError: If the target's library is not installed.
    """
    check_count("threads", threads)
    here = open_readers is LocalReaders
    processes = worker_count(workers, len(samples)) if here else workers
    refuse_calibration_images(samples, [bundle])
    numbered = [(n, s._replace(path=s.path.absolute())) for n, s in enumerate(samples)]
    outcomes: dict[int, Result | ImageError] = {}
    with ExitStack() as stack:
        found: Iterable[tuple[int, Any]]
        if here and processes == 1:
            runtime = stack.enter_context(Runtime(bundle, threads))
            found = (_work(runtime, item, work=work) for item in numbered)
        else:
            how = {"workers": processes, "threads": threads}
            readers = open_readers(bundle, partial(_work, work=work), _unknown, **how)
            found = read_all(stack.enter_context(closing(readers)), numbered, _lost)
        for number, outcome in track(found, "images", on_progress, len(samples)):
            if isinstance(outcome, Exception) and not isinstance(outcome, ImageError):
                raise outcome
            outcomes[number] = outcome
    used: list[tuple[Sample, Result]] = []
    unused: list[tuple[Sample, str]] = []
    for (number, absolute), sample in zip(numbered, samples, strict=True):
        outcome = outcomes[number]
        if isinstance(outcome, ImageError):
            unused.append((sample, unreadable(absolute.path, outcome).reason))
        else:
            used.append((sample, outcome))
    if not used:
        message = f"{unused[0][0].path}: {unused[0][1]}; no other image can be used"
        raise InputError(message)
    return used, unused


def _work(
    runtime: Runtime,
    item: tuple[int, Sample],
    known: Known | None = None,
    *,
    work: Callable[[Runtime, Sample], Result],
) -> tuple[int, Result | Exception]:
    del known
    number, sample = item
    try:
        return number, work(runtime, sample)
    except Exception as error:  # raised in the process that reads the outcomes
        return number, error


def _unknown(_key: str) -> None: ...


def _lost(item: tuple[int, Sample], error: Exception) -> tuple[int, Any]:
    number, _ = item
    return number, ImageError(f"ends each process that reads it ({error})")
