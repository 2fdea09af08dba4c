"""One bench on a phone, from the bundles' folders to the report."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack, contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench.drift.compare import choose_references
from bakit.bench.local.latency import BLOCK
from bakit.bench.phone import address
from bakit.bench.phone.assemble import MAX_LOCALIZER_DIFFERENCE, golden_failures, join_report
from bakit.bench.phone.inputs import CHUNK, drift_inputs, golden_inputs
from bakit.bench.phone.listener import open_door
from bakit.bench.phone.messages import BundlePlan, ModelPlan, Plan
from bakit.bench.phone.server import Routes
from bakit.bench.phone.session import Session
from bakit.bench.phone.web import PAGE, PAGE_FILES, find_runtime, runtime_files, runtime_module
from bakit.bench.report.document import DataInfo, Settings
from bakit.bench.report.phone import PHANTOMS as PHANTOMS_NAME
from bakit.bench.statistics import RESAMPLES, SEED
from bakit.bench.task import check_settings, find_bundle, read_bundles, read_data
from bakit.data.images import refuse_calibration_images
from bakit.data.labels import ids_digest, read_samples
from bakit.errors import InputError, UnsupportedTargetError
from bakit.phantoms import write_phantoms
from bakit.runtime import Runtime

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bakit.bench.phone.inputs import DriftInputs, GoldenInputs
    from bakit.bench.phone.listener import PageAddress, PhoneOptions
    from bakit.bench.phone.messages import Provider
    from bakit.bench.report.document import Report
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample

TARGET = "onnx"
"""The target that onnxruntime-web runs."""

PHANTOMS = 32
"""Images of the drift set where no folder is given."""

PHANTOM_HEIGHT = 320
FIRST_PHANTOM = 7000
"""Seed of the first: golden images have others."""

MAX_QUERIES = 300
"""Most times of each model unless more are asked for: browsers on phones have crashed after some
500 runs on a GPU."""


class PhoneResult(NamedTuple):
    """What came of it.

    Attributes:
        report: The report, perhaps of a part.
        failures: What is wrong: golden answers beyond their tolerance, or why it ended early.
    """

    report: Report
    failures: list[str]


def run_phone(
    bundles: Sequence[Bundle | str | Path],
    data: str | Path | None = None,
    reference: Bundle | str | Path | None = None,
    *,
    options: PhoneOptions,
    on_address: Callable[[PageAddress], None],
    limit: int | None = None,
    min_queries: int = 100,
    min_duration_s: float = 5.0,
    warm_up: int = 10,
    threads: int | None = None,
    on_stage: Callable[[str, float], None] | None = None,
) -> PhoneResult:
    """Serve the page, wait for a phone, and report what it measured.

    Args:
        bundles: Bundles of the target ``onnx`` or their folders, at least one.
        data: A labelled folder for the drift, whose crops go to the phone; phantoms when None.
        reference: fp32 bundle that stands for the float model; it runs on this machine.
        options: How the phone is reached, and what runs there.
        on_address: Called with the page's address when it can be opened.
        limit: Images of the drift set.
        min_queries: Least times of each model.
        min_duration_s: Least time in a bundle's; at most ``MAX_QUERIES`` are taken for it.
        warm_up: Runs of each model before the first that counts.
        threads: Threads in the browser; 1 when None.
        on_stage: Called with ``phantoms``, ``prepare``, ``load``, ``latency`` or ``drift`` and the
            share of it that is done, 0..1.

    Raises:
        InputError: If a value is not possible, there is no reference, or the address cannot be
            used.
        UnsupportedTargetError: If a bundle is of another target.
        MissingBackendError: If a library is not installed.
        MissingProgramError: If onnxruntime-web or adb is not installed.
        VerificationError: If the phone measured nothing.
    """
    tell = on_stage or (lambda stage, share: None)
    threads = 1 if threads is None else threads
    settings = Settings(min_queries, min_duration_s, warm_up, BLOCK, threads, RESAMPLES, SEED)
    check_settings(settings, limit)
    files = {name: PAGE / name for name in PAGE_FILES}
    files[""] = PAGE / "index.html"
    found = runtime_files(options.provider, find_runtime())
    files |= {f"ort/{name}": path for name, path in found.items()}
    chosen = read_bundles(bundles)
    _check_targets(chosen)
    everything = read_bundles([*chosen, *([] if reference is None else [reference])])
    explicit = None if reference is None else find_bundle(everything, reference)
    references = choose_references(everything, explicit)
    with open_door(options) as door:  # what is wrong with an address is said at once
        with ExitStack() as stack:
            samples, info = stack.enter_context(_drift_set(data, limit, everything, tell))
            refuse_calibration_images([sample.path for sample in samples], everything)
            opened = {b.root: stack.enter_context(Runtime(b, 1)) for b in everything}
            runtimes = [opened[bundle.root] for bundle in chosen]
            goldens = [golden_inputs(runtime) for runtime in runtimes]
            used = {bundle.manifest.checkpoint_sha256 for bundle in chosen}
            drift = drift_inputs(
                runtimes,
                {digest: opened[references[digest].root] for digest in used},
                samples,
                lambda share: tell("prepare", share),
            )
        plan = _plan(chosen, goldens, drift, samples, settings, options.provider)
        session = Session(plan, tell)
        with door.serve(Routes(session, files | _models(chosen), _tensors(goldens, drift))) as page:
            began = datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            on_address(page)
            if options.adb:
                address.open_on_phone(page.url)
            try:
                session.wait(options.wait_s, options.idle_s)
            except KeyboardInterrupt:
                session.stop("interrupted")
    paired = [references[bundle.manifest.checkpoint_sha256] for bundle in chosen]
    report = join_report(
        session, plan, chosen, paired, samples, drift, info, settings, measured_at=began
    )
    failures = golden_failures(report, chosen)
    if session.problem is not None:
        failures.append(f"the phone did not finish: {session.problem}")
    return PhoneResult(report, failures)


def _check_targets(bundles: Sequence[Bundle]) -> None:
    for bundle in bundles:
        if bundle.manifest.target != TARGET:
            message = (
                f"{bundle.name}: of target {bundle.manifest.target!r}, which no browser runs; use "
                f"bundles of target {TARGET!r}: bakit export --target {TARGET}"
            )
            raise UnsupportedTargetError(message)
        if not bundle.manifest.golden:
            message = f"{bundle.name}: the bundle has no golden image; export it again"
            raise InputError(message)


@contextmanager
def _drift_set(
    data: str | Path | None,
    limit: int | None,
    bundles: Sequence[Bundle],
    tell: Callable[[str, float], None],
) -> Iterator[tuple[list[Sample], DataInfo]]:
    """Give the labelled folder, or phantoms that are gone afterwards."""
    if data is not None:
        yield read_data(Path(data), limit, bundles)
        return
    with tempfile.TemporaryDirectory() as folder:
        out, count = Path(folder) / "phantoms", limit or PHANTOMS
        write_phantoms(
            out,
            count,
            seed=FIRST_PHANTOM,
            height=PHANTOM_HEIGHT,
            on_progress=lambda _step, done, _total: tell("phantoms", done / count),
        )
        samples = read_samples(out)
        yield samples, DataInfo(PHANTOMS_NAME, count, "all", count, ids_digest(samples))


def _plan(
    bundles: Sequence[Bundle],
    goldens: Sequence[GoldenInputs],
    drift: DriftInputs,
    samples: Sequence[Sample],
    settings: Settings,
    provider: Provider,
) -> Plan:
    return Plan(
        run=0,
        provider=provider,
        threads=settings.threads or 1,
        runtime=runtime_module(provider),
        warm_up=settings.warm_up,
        min_queries=settings.min_queries,
        max_queries=max(settings.min_queries, MAX_QUERIES),
        min_duration_s=settings.min_duration_s,
        block=min(settings.block, settings.min_queries),
        drift_male=[int(sample.male) for sample in samples],
        chunk=CHUNK,
        bundles=[
            _bundle_plan(bundle, goldens[index], drift, index)
            for index, bundle in enumerate(bundles)
        ],
    )


def _bundle_plan(
    bundle: Bundle, golden: GoldenInputs, drift: DriftInputs, index: int
) -> BundlePlan:
    manifest = bundle.manifest
    (answer,) = bundle.artifact("localizer").outputs
    return BundlePlan(
        name=bundle.name,
        precision=manifest.precision.value,
        models={
            artifact.role: ModelPlan(
                artifact.sha256,
                (bundle.root / artifact.path).stat().st_size,
                artifact.outputs[0].name,
            )
            for artifact in manifest.artifacts
        },
        working=manifest.localizer.size,
        side=manifest.preprocessing.image_size,
        sex=len(bundle.artifact("regressor").inputs) > 1,
        labels=answer.dtype == "int32",
        golden_male=[int(male) for male in golden.male],
        golden_months=[item.bundle_months for item in manifest.golden],
        tolerance_months=manifest.tolerance_months,
        localizer_tolerance=MAX_LOCALIZER_DIFFERENCE,
        crops=drift.set_of[index],
        float_months=drift.float_months[index].tolist(),
    )


def _models(bundles: Sequence[Bundle]) -> dict[str, Path]:
    return {
        f"models/{index}/{artifact.role}": bundle.root / artifact.path
        for index, bundle in enumerate(bundles)
        for artifact in bundle.manifest.artifacts
    }


def _tensors(goldens: Sequence[GoldenInputs], drift: DriftInputs) -> dict[str, bytes]:
    tensors = {f"golden/{index}": golden.data for index, golden in enumerate(goldens)}
    for index, crops in enumerate(drift.crops):
        for start in range(0, len(crops), CHUNK):
            tensors[f"crops/{index}/{start}"] = crops[start : start + CHUNK].tobytes()
    return tensors
