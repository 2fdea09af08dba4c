"""One benchmark of several bundles, from their folders to the report."""

from __future__ import annotations

import contextlib
from datetime import datetime, timezone
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bakit.bench.drift.compare import choose_references
from bakit.bench.host import read_host
from bakit.bench.local.ages import AgeRun
from bakit.bench.local.latency import BLOCK, LatencyRun
from bakit.bench.local.process import Worker, WorkerError
from bakit.bench.report.document import SCHEMA_VERSION, BundleReport, Provenance, Report, Settings
from bakit.bench.statistics import RESAMPLES, SEED
from bakit.bench.task import (
    check_batch,
    check_settings,
    find_bundle,
    make_queries,
    model_sizes,
    read_bundles,
    read_data,
)
from bakit.data.images import refuse_calibration_images
from bakit.data.labels import ids_digest
from bakit.errors import BundleError, InputError
from bakit.targets import get_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.local.process import Query
    from bakit.bench.report.document import DriftReport, LatencyReport
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample


def run_bench(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    limit: int | None = None,
    min_queries: int = 100,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    on_stage: Callable[[str, float], None] | None = None,
    *,
    sweep_threads: Sequence[int] = (),
    batch: int = 1,
) -> Report:
    """Measure bundles on this machine.

    Footprint first, while the machine is quiet, then latency of all bundles in turns, then drift.
    Each bundle runs in a process of its own: one that fails is left out from there on, and the
    report says why. Ctrl-C ends the run, and the report has what was measured until then.

    Args:
        bundles: Bundles or their folders, at least one.
        data: A labelled folder, for drift; latency then runs on its first 32 images. Without it,
            latency runs on the bundles' golden images and drift is not measured.
        reference: A bundle that stands for the float model of its checkpoint. It is measured with
            the others. Chosen among the bundles when None (``bakit.bench.drift.compare``).
        limit: Use this many of the labelled images, spread evenly over ``labels.csv``.
        min_queries: Least number of queries of each bundle.
        min_duration_s: Least time spent in each bundle's queries; both leasts are met.
        warm_up: Predictions of each bundle before its first query.
        threads: Threads of the backends; their own choice when None.
        on_stage: Called with ``footprint``, ``latency`` or ``drift`` and the share of it that is
            done, 0..1, never while a query runs.
        sweep_threads: Other numbers of threads, whose latency is taken besides, in the same turns.
        batch: Images in a query; models with static shapes take the number of their export only.

    Raises:
        InputError: If a value is not possible, there is no bundle, two bundles have one name, or
            there is no reference.
        ImageError: If an image cannot be used.
        LabelsError: If the labels cannot be used.
        BundleError: If a bundle is damaged, or all of them fail to run.
        MissingBackendError: If a target's library is not installed.
    """
    tell = on_stage or (lambda stage, share: None)
    sweep = tuple(dict.fromkeys(number for number in sweep_threads if number != threads))
    settings = Settings(
        min_queries, min_duration_s, warm_up, BLOCK, threads, RESAMPLES, SEED, sweep
    )
    check_settings(settings, limit)
    if reference is not None and data is None:
        message = "a reference is of use for drift only, which needs labelled images: give --data"
        raise InputError(message)
    # The reference comes last, unless it is among the bundles anyway.
    chosen = read_bundles([*bundles, *([] if reference is None else [reference])])
    check_batch(batch, chosen)
    explicit = None if reference is None else find_bundle(chosen, reference)
    samples, info = ([], None) if data is None else read_data(Path(data), limit, chosen)
    references = choose_references(chosen, explicit) if samples else {}
    for bundle in chosen:
        get_target(bundle.manifest.target)  # an unknown one is said at once
    refuse_calibration_images([sample.path for sample in samples], chosen)
    queries = make_queries(chosen, samples)
    began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    with _Run(chosen, samples, references, settings) as run:
        try:
            run.measure(queries, tell)
        except KeyboardInterrupt:
            run.partial = True
        reports = run.reports()
        seen = run.seen
    if all(report.error and report.latency is None for report in reports):
        message = f"{reports[0].name}: {reports[0].error}; no bundle could be measured"
        raise BundleError(message)
    if info is not None:
        changes = {"samples": len(seen), "ids_sha256": ids_digest(seen)}
        info = msgspec.structs.replace(info, **changes) if seen else None
    return Report(
        schema_version=SCHEMA_VERSION,
        host=read_host(),
        settings=settings,
        data=info,
        bundles=reports,
        partial=run.partial,
        measured_at=began,
    )


class _Run:
    """The processes of one benchmark and what they have said so far; a context manager."""

    def __init__(
        self,
        bundles: Sequence[Bundle],
        samples: Sequence[Sample],
        references: dict[str, Bundle],
        settings: Settings,
    ) -> None:
        self._bundles = bundles
        self._samples = samples
        self._references = references
        self._settings = settings
        self._stack = contextlib.ExitStack()
        self._workers: list[Worker] = []
        self._latency: LatencyRun | None = None
        self._ages: AgeRun | None = None
        self.partial = False

    @property
    def seen(self) -> list[Sample]:
        """The labelled images that were used."""
        return self._ages.done if self._ages else []

    def measure(self, queries: Sequence[Query], tell: Callable[[str, float], None]) -> None:
        """Measure footprint, latency and drift, one after the other."""
        numbers = (self._settings.threads, *self._settings.sweep_threads)
        wanted = [(bundle, threads) for threads in numbers for bundle in self._bundles]
        for bundle, threads in wanted:
            worker = self._stack.enter_context(Worker(bundle, threads))
            self._workers.append(worker)
            with contextlib.suppress(WorkerError):  # the worker remembers why
                worker.load(queries)
            tell("footprint", len(self._workers) / len(wanted))
        self._latency = LatencyRun(self._workers, len(queries), self._settings)
        self._latency.measure(lambda share: tell("latency", share))
        if not self._samples:
            return
        done, total = count(1), len(self._samples)
        readers = self._workers[: len(self._bundles)]
        self._ages = AgeRun(readers, self._references, self._samples)
        self._ages.measure(lambda: tell("drift", next(done) / total))

    def reports(self) -> tuple[BundleReport, ...]:
        """Return what is known of each bundle."""
        drifts = self._ages.reports() if self._ages else [None] * len(self._bundles)
        return tuple(self._report(row, drift) for row, drift in enumerate(drifts))

    def _report(self, row: int, drift: DriftReport | None) -> BundleReport:
        bundle = self._bundles[row]
        manifest = bundle.manifest
        worker = self._workers[row] if row < len(self._workers) else None
        size_mb, total_size_mb = model_sizes(bundle)
        return BundleReport(
            name=bundle.name,
            target=manifest.target,
            precision=manifest.precision,
            provider=worker.provider if worker else "",
            bundle_sha256=bundle.sha256,
            checkpoint=manifest.checkpoint,
            checkpoint_sha256=manifest.checkpoint_sha256,
            size_mb=size_mb,
            total_size_mb=total_size_mb,
            int8_share=worker.int8_share if worker else bundle.artifact("regressor").int8_share,
            latency=self._latency_report(row),
            footprint=worker.footprint if worker else None,
            drift=drift,
            provenance=provenance(bundle),
            error=self._error(bundle, worker),
        )

    def _latency_report(self, row: int) -> LatencyReport | None:
        """Return the latency of a bundle, with that of the same bundle with other threads."""
        report = self._latency.report(row) if self._latency else None
        if report is None or self._latency is None:
            return None
        others = range(row + len(self._bundles), len(self._workers), len(self._bundles))
        entries = (self._latency.sweep_entry(other) for other in others)
        return msgspec.structs.replace(report, sweep=tuple(entry for entry in entries if entry))

    def _error(self, bundle: Bundle, worker: Worker | None) -> str | None:
        if worker is None or worker.error is not None or not self._samples:
            return worker.error if worker else None
        reference = self._references[bundle.manifest.checkpoint_sha256]
        for other in self._workers[: len(self._bundles)]:
            if other.bundle.name == reference.name and other.error is not None:
                return f"its reference {reference.name} failed, so its drift is not known"
        return None

    def __enter__(self) -> _Run:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


def provenance(bundle: Bundle) -> Provenance:
    """Return what a bundle was made of."""
    manifest = bundle.manifest
    return Provenance(
        checkpoint_sha256=manifest.checkpoint_sha256,
        calibration_sha256=manifest.calibration_sha256,
        calibration=manifest.calibration,
        files_sha256={
            path: digest for item in manifest.artifacts for path, digest in item.files.items()
        },
        tool_versions=manifest.tool_versions,
        training_data=manifest.training_data,
    )
