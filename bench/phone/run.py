"""Run a benchmark in a phone's browser: ``bakit bench --phone``."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from bakit.bench.assemble import run_task
from bakit.bench.host import read_host
from bakit.bench.phone.adb import open_on_phone
from bakit.bench.phone.binary import TOOLS, read_binaries
from bakit.bench.phone.inputs import (
    MAX_LOCALIZER_DIFFERENCE,
    drift_inputs,
    golden_inputs,
    localizer_fault,
    make_plan,
    model_files,
    tensor_files,
)
from bakit.bench.phone.listener import open_listener
from bakit.bench.phone.native import measure_natively
from bakit.bench.phone.session import Session
from bakit.bench.phone.web import (
    PACKAGE,
    page_files,
    wanted_version,
)
from bakit.bench.raw import Raw, RawBundle, Reading
from bakit.bench.report.device import PHANTOMS as PHANTOMS_NAME
from bakit.bench.report.device import Phone
from bakit.bench.report.latency import Footprint
from bakit.bench.task import make_task
from bakit.errors import InputError, UnsupportedTargetError, VerificationError
from bakit.phantoms import write_phantoms
from bakit.runtime import Runtime
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from bakit.bench.phone.binary import Binary
    from bakit.bench.phone.inputs import DriftInputs, GoldenInputs
    from bakit.bench.phone.listener import Listener, PageAddress, PhoneOptions
    from bakit.bench.phone.messages import Plan
    from bakit.bench.phone.session import BundleNumbers
    from bakit.bench.report.document import Report
    from bakit.bench.task import Task
    from bakit.bundle import Bundle
    from bakit.types import OnProgress

TARGET = "onnx"
"""The target that onnxruntime-web runs."""

PHANTOMS = 32
"""Number of phantoms in the default drift set."""

PHANTOM_HEIGHT = 320
FIRST_PHANTOM = 7000
"""Seed of the first phantom; golden images have other seeds."""


class PhoneResult(NamedTuple):
    """A report, and the failures of the phone: wrong golden predictions, or an early end."""

    report: Report
    failures: list[str]


def run_phone(
    bundles: Sequence[Bundle | str | Path],
    *,
    options: PhoneOptions,
    on_address: Callable[[PageAddress], None],
    on_progress: OnProgress = silent,
    limit: int | None = None,
    threads: int | None = None,
    **how: Any,  # noqa: ANN401  # named as in run_bench
) -> PhoneResult:
    """Serve the page, wait for a phone, and return its report.

    Other errors are those of ``bakit.bench.run_bench``.

    Args:
        bundles: Bundles or their folders, at least one: of the target ``onnx``, and of ``litert``
            with its benchmark binary.
        options: Connection to the phone, the backend in its browser, and benchmark binaries.
        on_address: Called with the page's address when the page is served.
        on_progress: Progress of ``phantoms``, ``prepare``, ``load``, ``latency`` and ``drift``.
        limit: Number of images in the drift set.
        threads: Threads of the backends; 1 when None.
        how: Data, whose crops are sent to the phone (default: phantoms); the reference, which runs
            on this machine; and settings, with at most 300 queries.

    Raises:
        UnsupportedTargetError: If the phone cannot run a bundle's target.
        MissingProgramError: If onnxruntime-web or adb is not installed.
        VerificationError: If the phone measured nothing.
    """
    binaries = read_binaries(options.benchmark_binary)
    files: dict[str, Path] = {}

    def check(chosen: Sequence[Bundle]) -> None:
        _check(chosen, binaries)
        if any(bundle.manifest.target == TARGET for bundle in chosen):
            files.update(page_files(options.provider))

    with ExitStack() as stack:

        def phantoms() -> Path:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory())) / PHANTOMS_NAME
            write_phantoms(
                folder,
                limit or PHANTOMS,
                seed=FIRST_PHANTOM,
                height=PHANTOM_HEIGHT,
                on_progress=lambda _step, done, total: on_progress("phantoms", done, total),
            )
            return folder

        listener = stack.enter_context(open_listener(options))  # checks the address first
        how |= {"limit": limit, "threads": 1 if threads is None else threads}
        task = make_task(bundles, **how, check=check, phantoms=phantoms)
        device = PhoneDevice(listener, files, options, binaries, on_address)
        report = run_task(task, device, on_progress)
    return PhoneResult(report, _failures(report))


def _check(bundles: Sequence[Bundle], binaries: Mapping[str, Binary]) -> None:
    targets = {bundle.manifest.target for bundle in bundles}
    for target in binaries.keys() - targets:
        path = binaries[target].path
        message = f"--benchmark-binary {path}: runs {target} bundles, and none is named; add one"
        raise InputError(message)
    for bundle in bundles:
        target = bundle.manifest.target
        if target != TARGET and target not in binaries:
            advice = f"use bundles of target {TARGET!r}: bakit export --target {TARGET}"
            if target in TOOLS:
                advice = f"add --adb --benchmark-binary FILE with LiteRT's {TOOLS[target]}"
            message = f"{bundle.name}: browsers cannot run the target {target!r}; {advice}"
            raise UnsupportedTargetError(message)
        if not bundle.manifest.golden:
            message = f"{bundle.name}: the bundle has no golden image; export it again"
            raise InputError(message)


@dataclass(frozen=True)
class PhoneDevice:
    """A phone, as a ``bakit.bench.task.Device``: its browser, and benchmark binaries over adb."""

    listener: Listener
    files: dict[str, Path]
    options: PhoneOptions
    binaries: Mapping[str, Binary]
    on_address: Callable[[PageAddress], None]

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Prepare the images, run the references and the binaries, and wait for the browser.

        Raises:
            BakitError: If an image cannot be used or a bundle cannot run on this machine.
            VerificationError: If the phone measured nothing.
        """
        with ExitStack() as stack:
            used = [*task.bundles, *map(task.reference, task.bundles)]
            opened = {
                root: stack.enter_context(Runtime(bundle, 1))
                for root, bundle in {bundle.root: bundle for bundle in used}.items()
            }
            runtimes = [opened[bundle.root] for bundle in task.bundles]
            goldens = [golden_inputs(runtime) for runtime in runtimes]
            references = {
                bundle.manifest.checkpoint_sha256: opened[task.reference(bundle).root]
                for bundle in task.bundles
            }
            drift = drift_inputs(runtimes, references, task.samples, on_progress)
        host, raws = read_host(), dict[str, RawBundle]()
        if self.binaries:
            how = self.options.run_s, on_progress
            host, raws = measure_natively(task, self.binaries, goldens, drift, *how)
        paged = [i for i, b in enumerate(task.bundles) if b.manifest.target == TARGET]
        phone = Raw(host, (), drift.references)
        if paged:
            part = replace(task, bundles=[task.bundles[i] for i in paged])
            if all(bundle.name in raws for bundle in part.bundles):  # the page times nothing
                few = msgspec.structs.replace(task.settings, min_queries=1, min_duration_s=0.0)
                part = replace(part, settings=few)
            try:
                page = self._browse(part, [goldens[i] for i in paged], drift.of(paged), on_progress)
                phone = msgspec.structs.replace(page, host=host)
            except VerificationError as error:
                if not raws:
                    raise
                failed = RawBundle(error=str(error))
                phone = msgspec.structs.replace(phone, bundles=(failed,) * len(paged), partial=True)
            for bundle, browsed in zip(part.bundles, phone.bundles, strict=True):
                raws[bundle.name] = _joined(raws.get(bundle.name), browsed)
        return msgspec.structs.replace(phone, bundles=tuple(raws[b.name] for b in task.bundles))

    def _browse(
        self,
        task: Task,
        goldens: Sequence[GoldenInputs],
        drift: DriftInputs,
        on_progress: OnProgress,
    ) -> Raw:
        """Serve the page, and return what the browser measured of the task's bundles.

        Raises:
            VerificationError: If it measured nothing.
        """
        options = self.options
        plan = make_plan(task, drift, options.provider)
        session = Session(plan, on_progress)
        content: dict[str, Path | bytes] = {
            **self.files,
            **model_files(task.bundles),
            **tensor_files(goldens, drift),
        }
        with self.listener.serve(session, content) as page:
            self.on_address(page)
            if options.adb:
                open_on_phone(page.url)
            try:
                session.wait(options.wait_s, options.idle_s)
            except KeyboardInterrupt:
                session.stop("interrupted")
        return _raw(session, plan, task, drift)


def _joined(native: RawBundle | None, browsed: RawBundle) -> RawBundle:
    """Return the times of a binary, if there is one, and the browser's ages."""
    if native is None:
        return browsed
    return msgspec.structs.replace(
        native,
        golden_months=browsed.golden_months,
        golden_localizer=browsed.golden_localizer,
        readings=browsed.readings,
        error=native.error or browsed.error,
    )


def _raw(session: Session, plan: Plan, task: Task, drift: DriftInputs) -> Raw:
    """Return the phone's measurements."""
    browser, numbers = session.browser, session.numbers
    if browser is None or not any(item.localize_ms for item in numbers):
        message = f"the phone measured nothing: {session.problem}"
        raise VerificationError(message)
    phone = Phone(
        device=browser.device,
        browser=browser.name,
        user_agent=browser.user_agent,
        provider=plan.provider,
        threads=plan.threads,
        logical_cores=browser.logical_cores,
        isolated=browser.isolated,
        timer_step_ms=browser.timer_step_ms,
        runs_per_sample=max(item.runs_per_sample for item in numbers),
        runtime=f"{PACKAGE} {wanted_version()}",
        golden_max_difference_months={},
        golden_max_difference_localizer={},
        problem=session.problem,
    )
    bundles = tuple(
        _raw_bundle(item, index, plan, task, drift, session.problem)
        for index, item in enumerate(numbers)
    )
    partial = session.problem is not None
    return Raw(read_host(), bundles, drift.references, partial=partial, phone=phone)


def _raw_bundle(
    numbers: BundleNumbers,
    index: int,
    plan: Plan,
    task: Task,
    drift: DriftInputs,
    problem: str | None,
) -> RawBundle:
    """Return the phone's measurements of one bundle; missing ages are an error."""
    times = (numbers.localize_ms, numbers.regress_ms)
    localize, regress = ([round(ms * 1e6) for ms in column] for column in times)
    total = [sum(pair) for pair in zip(localize, regress, strict=True)]
    loaded, golden = numbers.loaded, numbers.golden
    complete = len(numbers.ages_months) == len(task.samples)
    answers = zip(task.samples, numbers.ages_months, drift.boxes[index], strict=complete)
    return RawBundle(
        provider=f"{PACKAGE} {plan.provider}",
        warm_up=plan.warm_up,
        images=len(task.bundles[index].manifest.golden),
        stages_ns={"localize": localize, "regress": regress, "total": total} if total else {},
        footprint=Footprint(loaded.load_ms, loaded.first_ms, None) if loaded else None,
        golden_months=tuple(golden.ages_months) if golden else (),
        golden_localizer=tuple(golden.localizer_difference) if golden else (),
        readings=tuple(Reading(sample.id, age, box) for sample, age, box in answers),
        error=None if complete else problem,
    )


def _failures(report: Report) -> list[str]:
    """Return a message for each bundle that failed, such as by wrong golden outputs."""
    phone = report.phone
    problem = phone.problem if phone else None
    errors = {bundle.name: bundle.error for bundle in report.bundles}
    failures = [
        f"{name}: {error}" for name, error in errors.items() if error not in {None, problem}
    ]
    differences = phone.golden_max_difference_localizer if phone else {}
    failures += [
        f"{name}: {localizer_fault(value)}"
        for name, value in differences.items()
        if value > MAX_LOCALIZER_DIFFERENCE and not errors[name]
    ]
    return failures if problem is None else [*failures, f"the phone did not finish: {problem}"]
