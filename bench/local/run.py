"""Run a benchmark on this machine: ``bakit bench``."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bakit.bench.assemble import run_task
from bakit.bench.host import read_host
from bakit.bench.local.ages import AgeRun
from bakit.bench.local.latency import LatencyRun
from bakit.bench.local.process import Worker, WorkerError
from bakit.bench.raw import Raw, RawBundle
from bakit.bench.task import MAX_IMAGES, make_task
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
    from bakit.runtime import Sex
    from bakit.types import OnProgress


def run_bench(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    min_queries: int = 400,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    on_progress: OnProgress | None = None,
    *,
    sweep_threads: Sequence[int] = (),
    whole: bool = False,
    provider: str | None = None,
) -> Report:
    """Measure bundles on this machine: first footprint, then latency, then drift.

    Each bundle runs in a separate process. A bundle that fails is skipped from then on, and the
    report gives the reason. Ctrl-C ends the run; the report contains the results so far.

    Args:
        bundles: Bundles or their folders, at least one.
        data: A labelled folder, for drift; latency is measured on its first 32 images. Without
            it, latency is measured on the bundles' golden images, and drift is not measured.
        reference: A bundle used as the float model of its checkpoint, measured like the others.
            Default: chosen among the bundles (``bakit.bench.drift.compare``).
        limit: Use this many labelled images, spread evenly over ``labels.csv``.
        min_queries: Minimum number of queries of each bundle.
        min_duration_s: Minimum time spent in each bundle's queries; both minimums are reached.
        warm_up: Warm-up predictions of each bundle.
        threads: Threads of the backends. Default: chosen by each backend.
        on_progress: Called between queries with the step (``footprint``, ``latency`` or
            ``drift``), the work done, and the total.
        sweep_threads: Other numbers of threads to measure latency with, in the same rounds.
        whole: Whether the bundles that have a whole graph predict with it; at least one must.
        provider: Provider of ONNX Runtime for all bundles (``bakit.Runtime``); those of target
            ``torch``, the float model, run without.

    Raises:
        InputError: If a value is invalid, there is no bundle, two bundles have the same name, or
            there is no reference.
        ImageError: If an image cannot be used.
        LabelsError: If the labels cannot be used.
        BundleError: If a bundle is damaged, or all of them fail to run.
        MissingBackendError: If a target's library or the provider is not installed.
        UnsupportedTargetError: If a target is unknown, or has no providers.
    """

    def check(chosen: Sequence[Bundle]) -> None:
        if whole and not any(bundle.has_whole for bundle in chosen):
            message = f"{chosen[0].name}: no whole graph to measure; export it with --whole"
            raise InputError(message)
        for bundle in chosen:
            get_target(bundle.manifest.target)

    times = (min_queries, min_duration_s, warm_up, threads, sweep_threads)
    task = make_task(bundles, data, reference, limit, *times, with_reference=True, check=check)
    report = run_task(task, ThisMachine(whole, provider), on_progress)
    if all(bundle.error and bundle.latency is None for bundle in report.bundles):
        first = report.bundles[0]
        message = f"{first.name}: {first.error}; no bundle could be measured"
        raise BundleError(message)
    return report


def _check_provider(bundles: Sequence[Bundle], provider: str | None) -> None:
    """Refuse bundles that have no such provider, before anything is measured."""
    takers = [bundle for bundle in bundles if bundle.manifest.target != "torch"]
    for bundle in (takers or bundles) if provider else ():
        get_target(bundle.manifest.target).load_backend(provider)


@dataclass(frozen=True)
class ThisMachine:
    """This machine, as a ``bakit.bench.task.Device``.

    ``whole`` and ``provider`` are those of ``run_bench``.
    """

    whole: bool = False
    provider: str | None = None

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Measure footprint, latency and ages; Ctrl-C ends the run early.

        Raises:
            ImageError: If an image cannot be used.
            InputError: If there are neither labelled images nor golden images.
        """
        queries, settings = _make_queries(task.bundles, task.samples), task.settings
        numbers = (settings.threads, *settings.sweep_threads)
        wanted = [(bundle, threads) for threads in numbers for bundle in task.bundles]
        _check_provider(task.bundles, self.provider)
        workers: list[Worker] = []
        latency: LatencyRun | None = None
        ages: AgeRun | None = None
        partial = False
        with contextlib.ExitStack() as stack:
            try:
                for bundle, threads in wanted:
                    whole = self.whole and bundle.has_whole
                    provider = None if bundle.manifest.target == "torch" else self.provider
                    worker = Worker(bundle, threads, whole=whole, provider=provider)
                    workers.append(stack.enter_context(worker))
                    with contextlib.suppress(WorkerError):  # the worker stores the reason
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
    """Return a bundle's measurements; ``same`` are its rows, one for each number of threads."""
    times = latency.raw(row) if latency else {}
    return RawBundle(
        **worker.opened._asdict(),
        readings=ages.readings(row) if ages else (),
        error=worker.error,
        sweep=latency.sweep(same[1:]) if times and latency else (),
        **times,
    )


def _make_queries(bundles: Sequence[Bundle], samples: Sequence[Sample]) -> list[tuple[Path, Sex]]:
    """Return the images of the latency run, the same for every bundle."""
    if samples:
        for sample in samples[:MAX_IMAGES]:
            decode(sample.path)  # an error here names the file; a worker has only the bytes
        return [(sample.path, "M" if sample.male else "F") for sample in samples[:MAX_IMAGES]]
    golden = {
        (item.sha256, item.sex): (bundle.root / item.path, item.sex)
        for bundle in bundles
        for item in bundle.manifest.golden
    }
    if not golden:
        message = f"{bundles[0].name}: no golden images in the bundle; add --data"
        raise InputError(message)
    return list(golden.values())
