"""Run a benchmark in a phone's browser: ``bakit bench --phone``."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bakit.bench.assemble import run_task
from bakit.bench.host import read_host
from bakit.bench.phone.inputs import (
    MAX_LOCALIZER_DIFFERENCE,
    drift_inputs,
    golden_inputs,
    make_plan,
    model_files,
    tensor_files,
)
from bakit.bench.phone.listener import open_listener, open_on_phone
from bakit.bench.phone.session import Session
from bakit.bench.phone.web import (
    PACKAGE,
    PAGE,
    PAGE_FILES,
    find_runtime,
    runtime_files,
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
    from collections.abc import Callable, Sequence

    from bakit.bench.phone.inputs import DriftInputs
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
        bundles: Bundles of the target ``onnx`` or their folders, at least one.
        options: Connection to the phone, and the backend in its browser.
        on_address: Called with the page's address when the page is served.
        on_progress: Progress of ``phantoms``, ``prepare``, ``load``, ``latency`` and ``drift``.
        limit: Number of images in the drift set.
        threads: Threads in the browser; 1 when None.
        how: Data, whose crops are sent to the phone (default: phantoms); the reference, which runs
            on this machine; and settings, with at most 300 queries.

    Raises:
        UnsupportedTargetError: If a bundle has another target.
        MissingProgramError: If onnxruntime-web or adb is not installed.
        VerificationError: If the phone measured nothing.
    """
    files = {name: PAGE / name for name in PAGE_FILES}
    files[""] = PAGE / "index.html"
    found = runtime_files(options.provider, find_runtime())
    files |= {f"ort/{name}": path for name, path in found.items()}
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
        task = make_task(bundles, **how, check=_check_targets, phantoms=phantoms)
        device = PhoneDevice(listener, files, options, on_address)
        report = run_task(task, device, on_progress)
    failures = _golden_failures(report)
    if report.phone is not None and report.phone.problem is not None:
        failures.append(f"the phone did not finish: {report.phone.problem}")
    return PhoneResult(report, failures)


def _check_targets(bundles: Sequence[Bundle]) -> None:
    for bundle in bundles:
        if bundle.manifest.target != TARGET:
            message = (
                f"{bundle.name}: browsers cannot run the target {bundle.manifest.target!r}; use "
                f"bundles of target {TARGET!r}: bakit export --target {TARGET}"
            )
            raise UnsupportedTargetError(message)
        if not bundle.manifest.golden:
            message = f"{bundle.name}: the bundle has no golden image; export it again"
            raise InputError(message)


@dataclass(frozen=True)
class PhoneDevice:
    """A phone's browser, as a ``bakit.bench.task.Device``."""

    listener: Listener
    files: dict[str, Path]
    options: PhoneOptions
    on_address: Callable[[PageAddress], None]

    def measure(self, task: Task, on_progress: OnProgress) -> Raw:
        """Prepare the images, run the references on this machine, and wait for the phone.

        Raises:
            BakitError: If an image cannot be used or a bundle cannot run on this machine.
            VerificationError: If the phone measured nothing.
        """
        options = self.options
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


def _golden_failures(report: Report) -> list[str]:
    """Return a message for each bundle whose golden outputs are out of tolerance."""
    assert report.phone is not None
    failures = [
        f"{bundle.name}: {bundle.error}"
        for bundle in report.bundles
        if bundle.error not in {None, report.phone.problem}
    ]
    failures += [
        f"{name}: the localizer's output for a golden image differs by {value:.3g}, "
        f"limit {MAX_LOCALIZER_DIFFERENCE:g}"
        for name, value in report.phone.golden_max_difference_localizer.items()
        if value > MAX_LOCALIZER_DIFFERENCE
    ]
    return failures
