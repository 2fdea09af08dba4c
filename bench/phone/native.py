"""Times on an Android phone by its libraries' own benchmark binaries, over adb.

Each network runs in a process of its own, one bundle after the other. Not yet run on a phone.
"""

from __future__ import annotations

import math
import secrets
import shlex
import shutil
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from bakit.bench.drift.compare import check_age
from bakit.bench.phone.adb import adb, shell
from bakit.bench.phone.android import read_state
from bakit.bench.phone.binary import OutputError, answer_command
from bakit.bench.phone.inputs import MAX_LOCALIZER_DIFFERENCE, localizer_fault
from bakit.bench.raw import RawBundle, Reading
from bakit.bench.report.device import Board
from bakit.bench.report.latency import Footprint, LatencyReport, StageTimes
from bakit.bench.stream import Limit, shown
from bakit.errors import InputError, VerificationError
from bakit.hand.prepare import from_bytes
from bakit.prediction import is_male

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import numpy.typing as npt

    from bakit.bench.host import HostInfo
    from bakit.bench.phone.android import PhoneState
    from bakit.bench.phone.binary import Binary, Feeds, Timing
    from bakit.bench.phone.inputs import DriftInputs, GoldenInputs
    from bakit.bench.task import Task
    from bakit.bundle import Bundle, Role
    from bakit.types import OnProgress

FOLDER = "/data/local/tmp"
"""Folder of the work folders on the phone."""

COPY = Limit(seconds=1800)

# The process id is known, so that a program that hangs can be ended.
_RUN = """run() {
  sh -c 'echo $$ >../pid; exec "$@"' run "$@"; code=$?; rm -f ../pid; return $code
}
export LD_LIBRARY_PATH="$(cd ..; pwd)"
"""

_REMEDIES = {
    "No space left": "free some space on the phone",
    "not executable": "take the binary for the phone's CPU: adb shell getprop ro.product.cpu.abi",
    "CANNOT LINK": "put the libraries that it needs beside the binary on this computer",
    "only PIE": "build it as a position-independent executable (-fPIE)",
}
"""What to do about an error that all bundles have, by a part of its text."""


def measure_natively(
    task: Task,
    binaries: Mapping[str, Binary],
    goldens: Sequence[GoldenInputs],
    drift: DriftInputs,
    run_s: float,
    on_progress: OnProgress,
) -> tuple[HostInfo, dict[str, RawBundle]]:
    """Copy binaries, models and inputs to a phone, measure, and remove them, also after Ctrl-C.

    Args:
        task: The task; bundles without a binary are left out.
        binaries: The binaries by the target that they run.
        goldens: The golden images of each bundle.
        drift: The drift set of all bundles.
        run_s: Timeout of a command.
        on_progress: Progress of ``copy`` and ``native``.

    Returns:
        The phone, and the measurements of each bundle by its name.

    Raises:
        InputError: If the phone cannot be reached or cannot run a binary.
        MissingProgramError: If adb is not installed.
    """
    host = read_state().host
    found = {}
    with tempfile.TemporaryDirectory(prefix="bakit-adb-") as local, _work_folder() as there:
        work = Path(local) / "work"
        for target, binary in binaries.items():
            (work / target).mkdir(parents=True)
            shutil.copyfile(binary.path, work / target / "benchmark")
            for library in binary.path.parent.glob("*.so"):
                shutil.copyfile(library, work / target / library.name)
        jobs = [
            _Job(f"{there}/work", binaries[target], number, bundle, task, run_s)
            for number, bundle in enumerate(task.bundles)
            if (target := bundle.manifest.target) in binaries
        ]
        for job in jobs:
            job.write(work, goldens[job.number], drift)
        on_progress("copy", 0.0, 1.0)
        adb("push", str(work), there, limit=COPY)
        for done, job in enumerate(jobs):
            on_progress("native", done, len(jobs))
            try:
                raw = job.measure(Path(local), goldens[job.number], drift)
            except (OutputError, VerificationError) as error:
                raw = RawBundle(error=shown(f"{job.binary.tool} {error}"))
            found[job.bundle.name] = raw
        on_progress("native", len(jobs), len(jobs))
    return host, found


@contextmanager
def _work_folder() -> Iterator[str]:
    """Make a private folder on the phone; end what still runs in it, and remove it."""
    there = f"{FOLDER}/bakit-{secrets.token_hex(8)}"
    quoted = shlex.quote(there)
    made = shell(f"umask 077; mkdir {quoted}")
    if made.status:
        message = f"phone: no work folder can be made ({made.last_line}); {_remedy(made.text)}"
        raise InputError(message)
    try:
        yield there
    finally:
        with suppress(InputError):  # the phone was unplugged
            shell(f'for p in {quoted}/work/*/pid; do kill -9 "$(cat "$p")"; done; rm -rf {quoted}')


def _remedy(text: str) -> str:
    """Return what to do about an error that all bundles have; empty for any other."""
    return next((remedy for mark, remedy in _REMEDIES.items() if mark in text), "")


@dataclass(frozen=True)
class _Job:
    """The run of one bundle, ``number`` in the task, in the work folder ``there``."""

    there: str
    binary: Binary
    number: int
    bundle: Bundle
    task: Task
    run_s: float

    def folder(self, role: Role) -> str:
        """Return a network's folder in the work folder, beside its binary."""
        return f"{self.binary.target}/{self.number}-{role}"

    def write(self, work: Path, golden: GoldenInputs, drift: DriftInputs) -> None:
        """Write the models and their inputs into a local work folder."""
        goldens = self.bundle.manifest.golden
        crops = [*golden.crops, *drift.crops[drift.set_of[self.number]]]
        male = [is_male(item.sex) for item in goldens] + [item.male for item in self.task.samples]
        feeds: dict[str, list[Feeds]] = {
            "localizer": [{"image": image} for image in golden.working],
            "regressor": [
                {"image": from_bytes(crop), "sex": np.array([sex], np.float32)}
                for crop, sex in zip(crops, male, strict=True)
            ],
        }
        for model in self.bundle.networks:
            folder = work / self.folder(model.role)
            folder.mkdir()
            data = self.bundle.files.read(model.path)
            (folder / f"model{Path(model.path).suffix}").write_bytes(data)
            self.binary.write_inputs(folder, model, feeds[model.role], len(goldens))

    def measure(self, local: Path, golden: GoldenInputs, drift: DriftInputs) -> RawBundle:
        """Return the bundle's measurements.

        Raises:
            OutputError: If the binary failed, or printed something else than times.
            VerificationError: If an age is impossible.
            InputError: If the phone cannot be reached, or a run does not end.
        """
        before, settings, timings = read_state(), self.task.settings, {}
        for model in self.bundle.networks:
            how = settings.min_queries, settings.warm_up, settings.threads
            text = self._run(model.role, self.binary.command(model, *how))
            timings[model.role] = self.binary.parse(text, settings.min_queries)
        raw = _raw_bundle(self, timings, before, read_state())
        if not self.binary.answers:
            return raw
        count, samples = len(golden.crops), self.task.samples
        maps = self._answers("localizer", count, local)
        pairs = zip(maps, golden.answers, strict=True)
        worst = [_difference(found, expected) for found, expected in pairs]
        fault = localizer_fault(max(worst)) if max(worst) > MAX_LOCALIZER_DIFFERENCE else None
        months = [float(age[0]) for age in self._answers("regressor", count + len(samples), local)]
        answered = zip(samples, months[count:], drift.boxes[self.number], strict=True)
        readings = [
            Reading(sample.id, check_age(age, self.bundle, sample), box)
            for sample, age, box in answered
        ]
        return msgspec.structs.replace(
            raw,
            golden_months=tuple(months[:count]),
            golden_localizer=tuple(worst),
            readings=tuple(readings),
            error=fault,
        )

    def _answers(self, role: Role, count: int, local: Path) -> list[npt.NDArray[Any]]:
        """Return a model's flat outputs for its inputs, in their order."""
        model = self.bundle.artifact(role)
        self._run(role, answer_command(model, count, self.task.settings.threads))
        to = local / f"{self.number}-{role}"
        adb("pull", f"{self.there}/{self.folder(role)}/out", str(to), limit=COPY)
        (spec,) = model.outputs
        try:
            found = [np.fromfile(to / str(i), np.dtype(spec.dtype)) for i in range(count)]
        except OSError as error:
            message = f"wrote no output of the {role}"
            raise OutputError(message) from error
        if any(array.size != math.prod(spec.shape) for array in found):
            message = f"wrote another output of the {role} than {spec.name} {spec.shape}"
            raise OutputError(message)
        return found

    def _run(self, role: Role, command: str) -> str:
        """Run a command in a network's folder, and return what it printed."""
        place = shlex.quote(f"{self.there}/{self.folder(role)}")
        script = f"cd {place} && chmod 700 ../benchmark || exit 1\n{_RUN}{command}"
        ended = shell(script, Limit(self.run_s))
        if ended.status == 0:
            return ended.text
        line = ended.last_line
        if remedy := _remedy(ended.text):
            message = f"phone: {self.binary.tool}: {line}; {remedy}"
            raise InputError(message)
        message = f"failed on the {role} with status {ended.status}: {line}"
        raise OutputError(message)


def _difference(found: npt.NDArray[Any], expected: npt.NDArray[Any]) -> float:
    """Return the largest difference of two maps; of labels, the share of different pixels."""
    expected = expected.ravel()
    if expected.dtype == np.int32:
        return float((found != expected).mean())
    return float(np.abs(found - expected).max())


def _raw_bundle(
    job: _Job, timings: Mapping[Role, Timing], before: PhoneState, after: PhoneState
) -> RawBundle:
    """Return the times of a bundle, and the phone's state before and after them."""
    runs = job.task.settings.min_queries
    warm_up = job.task.settings.warm_up if job.binary.target == "litert" else 1
    parts = {"localize": timings["localizer"], "regress": timings["regressor"]}
    mean_ms = sum(timing.times.mean_ms for timing in parts.values())
    loads, firsts = ([getattr(t, key) for t in parts.values()] for key in ("load_ms", "first_ms"))
    latency, stages_ns = None, {}
    if all(timing.runs_ns for timing in parts.values()):
        stages_ns = {stage: timing.runs_ns for stage, timing in parts.items()}
        stages_ns["total"] = [sum(pair) for pair in zip(*stages_ns.values(), strict=True)]
    else:
        stages = {stage: timing.times for stage, timing in parts.items()}
        stages["total"] = StageTimes(None, None, None, mean_ms)  # percentiles do not add up
        duration_s = mean_ms * runs / 1e3
        latency = LatencyReport(warm_up, runs, duration_s, 1, stages, turns=(runs,))
    return RawBundle(
        provider=" and ".join(sorted({timing.unit for timing in parts.values()})),
        warm_up=warm_up,
        images=len(job.bundle.manifest.golden),
        stages_ns=stages_ns,
        latency=latency,
        turns=(runs,),
        footprint=None if None in {*loads, *firsts} else Footprint(sum(loads), sum(firsts), None),
        readings=None,
        board=Board(
            board=before.host.cpu,
            system=before.host.system,
            gpu=None,
            power_mode=None,
            clocks_mhz={},
            temperature_before_c=before.celsius,
            temperature_after_c=after.celsius,
            build_s=None,
            layers={},
            timing=job.binary.tool,
            notes=tuple(_notes(job, timings, mean_ms, after)),
        ),
    )


def _notes(
    job: _Job, timings: Mapping[Role, Timing], mean_ms: float, after: PhoneState
) -> Iterator[str]:
    """Give what a reader has to know of the times and ages."""
    tool = job.binary.tool
    runs = f"{job.task.settings.min_queries} runs of each network by {tool}"
    yield f"{runs}, in a process of its own; bundles one after the other; mean {mean_ms:.2f} ms"
    yield from (f"{role} run {timing.note}" for role, timing in timings.items() if timing.note)
    if peaks := [f"{role} {t.peak_mb:.0f} MB" for role, t in timings.items() if t.peak_mb]:
        yield f"peak memory: {', '.join(peaks)}"
    if not all(timing.runs_ns for timing in timings.values()):
        yield f"{tool} prints no percentiles of the total time"
    if job.binary.answers:
        yield f"ages are those that {tool} wrote"
    elif job.binary.target == "litert":
        yield f"ages were not checked: this {tool} has no --output_filepath; take a newer one"
    else:
        yield f"ages are the browser's: {tool} writes no outputs, so none was checked natively"
    if after.throttling:
        yield f"the phone was throttled (thermal status {after.throttling} of 6): let it cool down"
