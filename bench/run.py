"""One benchmark of several bundles, from their folders to the report."""

from __future__ import annotations

import math
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bakit.bench.drift import RESAMPLES, SEED, choose_references, measure_drift
from bakit.bench.footprint import measure_footprint
from bakit.bench.host import read_host
from bakit.bench.latency import BLOCK, Query, measure_latency
from bakit.bench.report import SCHEMA_VERSION, BundleReport, DataInfo, Report, Settings
from bakit.bundle import Bundle
from bakit.dataset import ids_digest, read_samples, take_part, thin
from bakit.errors import InputError
from bakit.images import refuse_calibration_images
from bakit.preprocess import decode
from bakit.runtime import Runtime
from bakit.targets import get_target

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report import DriftReport, Footprint, LatencyReport
    from bakit.dataset import Sample

MAX_IMAGES = 32
"""Different images in the latency run; all of them are kept in memory."""


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
) -> Report:
    """Measure bundles on this machine.

    Footprint first, while the machine is quiet, then latency of all bundles in turns, then drift.

    Args:
        bundles: Bundles or their folders, at least one.
        data: A labelled folder, for drift; latency then runs on its first 32 images. Without it,
            latency runs on the bundles' golden images and drift is not measured.
        reference: A bundle that stands for the float model of its checkpoint. It is measured with
            the others. Chosen among the bundles when None (``bakit.bench.drift``).
        limit: Use this many of the labelled images, spread evenly over ``labels.csv``.
        min_queries: Least number of queries of each bundle.
        min_duration_s: Least time spent in each bundle's queries; both leasts are met.
        warm_up: Predictions of each bundle before its first query.
        threads: Threads of the backends; their own choice when None.
        on_stage: Called with ``footprint``, ``latency`` or ``drift`` and the share of it that is
            done, 0..1, never while a query runs.

    Raises:
        InputError: If a value is not possible, there is no bundle, two bundles have one name, or
            there is no reference.
        ImageError: If an image cannot be used.
        LabelsError: If the labels cannot be used.
        BundleError: If a bundle is damaged or fails to run.
        MissingBackendError: If a target's library is not installed.
        VerificationError: If a bundle answers with something that is no number.
    """
    tell = on_stage or (lambda stage, share: None)
    settings = Settings(min_queries, min_duration_s, warm_up, BLOCK, threads, RESAMPLES, SEED)
    _check(settings, limit)
    if reference is not None and data is None:
        message = "a reference is of use for drift only, which needs labelled images: give --data"
        raise InputError(message)
    # The reference comes last, unless it is among the bundles anyway.
    chosen = _read_all([*bundles, *([] if reference is None else [reference])])
    explicit = None if reference is None else _among(chosen, reference)
    samples, info = ([], None) if data is None else _read_data(Path(data), limit, chosen)
    references = choose_references(chosen, explicit) if samples else {}
    for bundle in chosen:
        get_target(bundle.manifest.target).load_backend()  # what is missing is said at once
    refuse_calibration_images([sample.path for sample in samples], chosen)
    queries = _queries(chosen, samples)
    footprints = []
    for bundle in chosen:
        footprints.append(measure_footprint(bundle, threads))
        tell("footprint", len(footprints) / len(chosen))
    with ExitStack() as stack:
        runtimes = [stack.enter_context(Runtime(bundle, threads)) for bundle in chosen]
        latencies = measure_latency(
            runtimes, queries, settings, lambda share: tell("latency", share)
        )
        drifts: list[DriftReport] = []
        if samples:
            done = count(1)
            drifts = measure_drift(
                runtimes, references, samples, lambda: tell("drift", next(done) / len(samples))
            )
        reports = tuple(
            _bundle_report(runtime, footprints[i], latencies[i], drifts[i] if drifts else None)
            for i, runtime in enumerate(runtimes)
        )
    return Report(SCHEMA_VERSION, read_host(), settings, info, reports)


def _bundle_report(
    runtime: Runtime, footprint: Footprint, latency: LatencyReport, drift: DriftReport | None
) -> BundleReport:
    manifest = runtime.bundle.manifest
    size_mb, total_size_mb = _sizes(runtime.bundle)
    return BundleReport(
        name=runtime.bundle.name,
        target=manifest.target,
        precision=manifest.precision,
        provider=runtime.provider,
        bundle_sha256=runtime.bundle.sha256,
        checkpoint=manifest.checkpoint,
        checkpoint_sha256=manifest.checkpoint_sha256,
        size_mb=size_mb,
        total_size_mb=total_size_mb,
        int8_share=runtime.int8_share,
        latency=latency,
        footprint=footprint,
        drift=drift,
    )


def _check(settings: Settings, limit: int | None) -> None:
    """Refuse settings under which a run would never end or measure nothing."""
    least = {"min_queries": (settings.min_queries, 1), "warm_up": (settings.warm_up, 0)}
    for name, value in (("limit", limit), ("threads", settings.threads)):
        if value is not None:
            least[name] = (value, 1)
    for name, (value, minimum) in least.items():
        if value < minimum:
            message = f"{name}={value} is not possible; use {minimum} or more"
            raise InputError(message)
    if not (math.isfinite(settings.min_duration_s) and settings.min_duration_s >= 0):
        message = f"min_duration_s={settings.min_duration_s} is not possible; use 0 or more"
        raise InputError(message)


def _read_all(bundles: Sequence[Bundle | str | Path]) -> list[Bundle]:
    """Open each bundle, once where it is named twice."""
    found: dict[Path, Bundle] = {}
    names: dict[str, Path] = {}
    for given in bundles:
        root = _root(given)
        if root in found:
            continue
        bundle = given if isinstance(given, Bundle) else Bundle.read(Path(given))
        if bundle.name in names:
            message = (
                f"two bundles are called {bundle.name!r}: {names[bundle.name]} and {root}; "
                "reports tell bundles apart by name, so rename one"
            )
            raise InputError(message)
        found[root] = bundle
        names[bundle.name] = root
    if not found:
        message = "no bundle to measure; write one with: bakit export --target onnx"
        raise InputError(message)
    return list(found.values())


def _root(bundle: Bundle | str | Path) -> Path:
    return (bundle.root if isinstance(bundle, Bundle) else Path(bundle)).resolve()


def _among(bundles: Sequence[Bundle], wanted: Bundle | str | Path) -> Bundle:
    """Return the bundle that was read from the same folder."""
    return next(bundle for bundle in bundles if bundle.root.resolve() == _root(wanted))


def _read_data(
    folder: Path, limit: int | None, bundles: Sequence[Bundle]
) -> tuple[list[Sample], DataInfo]:
    """Read the labelled folder, thinned evenly: a sorted ``labels.csv`` stays representative.

    Of a folder that a bundle's model was trained on, only the test part is used.
    """
    everything = read_samples(folder)
    records = {b.manifest.checkpoint_sha256: b.manifest.split for b in bundles}
    held_out = take_part(everything, [record for record in records.values() if record])
    part: Literal["all", "test"] = "all" if held_out is None else "test"
    usable = everything if held_out is None else held_out
    if not usable:
        message = f"{folder}: no image that all bundles' models were not trained on"
        raise InputError(message)
    samples = thin(usable, limit)
    name = folder.resolve().name
    return samples, DataInfo(name, len(samples), part, len(usable), ids_digest(samples))


def _queries(bundles: Sequence[Bundle], samples: Sequence[Sample]) -> list[Query]:
    """Read the images of the latency run, the same for every bundle."""
    if samples:
        for sample in samples[:MAX_IMAGES]:
            decode(sample.path)  # an error names the file here, and could not once it is bytes
        return [Query(s.path.read_bytes(), "M" if s.male else "F") for s in samples[:MAX_IMAGES]]
    golden = {
        (item.sha256, item.sex): (bundle.root / item.path, item.sex)
        for bundle in bundles
        for item in bundle.manifest.golden
    }
    if not golden:
        message = f"{bundles[0].name}: no golden images in the bundle; give --data"
        raise InputError(message)
    return [Query(path.read_bytes(), sex) for path, sex in golden.values()]


def _sizes(bundle: Bundle) -> tuple[dict[str, float], float]:
    """Return the size of each role's files and of all files, in 10^6 bytes."""
    sizes: dict[str, float] = {
        artifact.role: sum((bundle.root / path).stat().st_size for path in artifact.files) / 1e6
        for artifact in bundle.manifest.artifacts
    }
    return sizes, bundle.size_bytes / 1e6
