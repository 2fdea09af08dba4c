"""A benchmark on this machine: ``bakit bench``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from bakit.bench.assemble import run_task
from bakit.bench.host import read_host
from bakit.bench.local.ages import AgeRun
from bakit.bench.local.latency import LatencyRun
from bakit.bench.local.process import Query, Worker, WorkerError
from bakit.bench.raw import Raw, RawBundle
from bakit.bench.task import MAX_IMAGES, make_settings, read_task
from bakit.errors import BundleError, InputError
from bakit.image.read import decode
from bakit.targets import get_target

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bench.report.document import Report
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.types import OnProgress


def run_bench(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    min_queries: int = 100,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    *,
    sweep_threads: Sequence[int] = (),
    batch: int = 1,
) -> Report:
    """Measure bundles on this machine.

    Footprint first, while the machine is quiet, then latency of all bundles in turns, then drift.
    Each bundle runs in a process of its own: one that fails is left out from there on, and the
    report gives the reason. Ctrl-C ends the run, and the report has what was measured until then.

    Args:
        bundles: Bundles or their folders, at least one.
        data: A labelled folder, for drift; latency then runs on its first 32 images. Without it,
            latency runs on the bundles' golden images and drift is not measured.
        reference: A bundle that stands for the float model of its checkpoint. It is measured with
            the others. Chosen among the bundles when None (``bakit.bench.drift.compare``).
        limit: Use this many of the labelled images, spread evenly over ``labels.csv``.
        min_queries: Minimum number of queries of each bundle.
        min_duration_s: Minimum time spent in each bundle's queries; both minimums are reached.
        warm_up: Predictions of each bundle before its first query.
        threads: Threads of the backends; their own choice when None.
        on_progress: Called with the step (``footprint``, ``latency`` or ``drift``), how much of it
            is done, and its total; never while a query runs.
        sweep_threads: Other numbers of threads to measure latency with, in the same turns.
        batch: Images in a query; models with static shapes take the number of their export only.

    Raises:
        InputError: If a value is not possible, there is no bundle, two bundles have one name, or
            there is no reference.
        ImageError: If an image cannot be used.
        LabelsError: If the labels cannot be used.
        BundleError: If a bundle is damaged, or all of them fail to run.
        MissingBackendError: If a target's library is not installed.
    """
    settings = make_settings(
        min_queries, min_duration_s, warm_up, threads, sweep_threads=sweep_threads
    )

    def check(chosen: Sequence[Bundle]) -> None:
        _check_batch(batch, chosen)
        for bundle in chosen:
            get_target(bundle.manifest.target)

    task = read_task(bundles, data, reference, limit, settings, with_reference=True, check=check)
    report = run_task(task, ThisMachine(), on_progress)
    if all(bundle.error and bundle.latency is None for bundle in report.bundles):
        first = report.bundles[0]
        message = f"{first.name}: {first.error}; no bundle could be measured"
        raise BundleError(message)
    return report


def _check_batch(batch: int, bundles: Sequence[Bundle]) -> None:
    """Refuse a number of images that the models do not take at once."""
    for bundle in bundles:
        exported = bundle.artifact("regressor").inputs[0].shape[0]
        if batch != exported:
            message = (
                f"batch={batch}: {bundle.name} was exported with static shapes for {exported} "
                "image at a time, as a device sees them; bench it without --batch"
            )
            raise InputError(message)


class ThisMachine:
    """The machine that measures (``bakit.bench.task.Device``)."""

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Measure footprint, latency and ages, one after the other; Ctrl-C ends it early.

        Raises:
            ImageError: If an image cannot be used.
            InputError: If there are neither labelled images nor golden ones.
        """
        queries, settings = _make_queries(task.bundles, task.samples), task.settings
        numbers = (settings.threads, *settings.sweep_threads)
        wanted = [(bundle, threads) for threads in numbers for bundle in task.bundles]
        workers: list[Worker] = []
        latency: LatencyRun | None = None
        ages: AgeRun | None = None
        partial = False
        with contextlib.ExitStack() as stack:
            try:
                for bundle, threads in wanted:
                    workers.append(stack.enter_context(Worker(bundle, threads)))
                    with contextlib.suppress(WorkerError):  # the worker remembers why
                        workers[-1].load(queries)
                    on_progress("footprint", len(workers), len(wanted))
                latency = LatencyRun(workers, len(queries), settings)
                latency.measure(on_progress)
                if task.samples:
                    ages = AgeRun(workers[: len(task.bundles)], task.samples)
                    ages.measure(on_progress)
            except KeyboardInterrupt:
                partial = True
        bundles = [
            _raw_bundle(worker, row, latency, ages, range(row, len(workers), len(task.bundles)))
            for row, worker in enumerate(workers[: len(task.bundles)])
        ]
        bundles += [RawBundle() for _ in task.bundles[len(bundles) :]]
        used = tuple(sample.id for sample in ages.done) if ages else ()
        return Raw(read_host(), tuple(bundles), used=used, partial=partial)


def _raw_bundle(
    worker: Worker, row: int, latency: LatencyRun | None, ages: AgeRun | None, same: range
) -> RawBundle:
    """Return what was measured of a bundle; ``same`` are its rows, the others' threads differ."""
    times = latency.raw(row) if latency else {}
    return RawBundle(
        provider=worker.provider,
        int8_share=worker.int8_share,
        footprint=worker.footprint,
        readings=ages.readings(row) if ages else (),
        error=worker.error,
        sweep=latency.sweep(same[1:]) if times and latency else (),
        **times,
    )


def _make_queries(bundles: Sequence[Bundle], samples: Sequence[Sample]) -> list[Query]:
    """Choose the images of the latency run, the same for every bundle.

    Raises:
        ImageError: If an image cannot be used.
        InputError: If there are neither labelled images nor golden ones.
    """
    if samples:
        for sample in samples[:MAX_IMAGES]:
            decode(sample.path)  # an error here names the file; in a worker there are only bytes
        return [Query(sample.path, "M" if sample.male else "F") for sample in samples[:MAX_IMAGES]]
    golden = {
        (item.sha256, item.sex): Query(bundle.root / item.path, item.sex)
        for bundle in bundles
        for item in bundle.manifest.golden
    }
    if not golden:
        message = f"{bundles[0].name}: no golden images in the bundle; give --data"
        raise InputError(message)
    return list(golden.values())
