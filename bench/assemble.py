"""Compute the report from a device's raw measurements.

Name, target, precision, digests, checkpoint and sizes are read from the bundle's files, never
from the device.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np

from bakit.bench.conditions import judge, stage_times
from bakit.bench.drift.attribution import attribute
from bakit.bench.drift.compare import check_age, compare
from bakit.bench.report.document import SCHEMA_VERSION, BundleReport, Provenance, Report
from bakit.bench.report.latency import Energy, LatencyReport, StageTimes, SweepEntry, pack_samples
from bakit.bench.statistics import difference_interval
from bakit.data.splits import ids_digest
from bakit.errors import VerificationError
from bakit.session import int8_share
from bakit.verify import golden_failure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bench.raw import Power, Raw, RawBundle, Reading
    from bakit.bench.report.device import Board, Phone
    from bakit.bench.report.drift import BlameStep, DriftReport
    from bakit.bench.task import Device, Task
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample
    from bakit.image.box import Box
    from bakit.types import Floats, OnProgress


class BundleDrift(NamedTuple):
    """The drift of one bundle; if it is None, ``error`` may hold the reason."""

    report: DriftReport | None
    error: str | None = None


class _Ages(NamedTuple):
    """A model's predictions: ``(N,)`` float64 ages in months, and boxes."""

    months: Floats
    boxes: list[Box | None]


def run_task(task: Task, device: Device, on_progress: OnProgress | None = None) -> Report:
    """Measure a task on a device and return its report."""
    return assemble(task, device.measure(task, on_progress or (lambda step, done, total: None)))


def assemble(task: Task, raw: Raw) -> Report:
    """Compute the report of a task.

    Unusable measurements of a bundle, such as a missing age, become its ``error``.
    """
    drifts = compute_drifts(task, raw)
    data, used = task.data, used_samples(task, raw)
    if data is not None and raw.used is not None:
        changes = {"samples": len(used), "ids_sha256": ids_digest(used)}
        data = msgspec.structs.replace(data, **changes) if used else None
    return Report(
        schema_version=SCHEMA_VERSION,
        host=raw.host,
        settings=task.settings,
        data=data,
        bundles=tuple(map(_bundle_report, task.bundles, raw.bundles, drifts)),
        partial=raw.partial,
        measured_at=task.measured_at,
        phone=None if raw.phone is None else _phone(raw.phone, task.bundles, raw.bundles),
    )


def _bundle_report(bundle: Bundle, raw: RawBundle, drift: BundleDrift) -> BundleReport:
    manifest = bundle.manifest
    latency, error = None, drift.error
    try:
        latency = raw.latency or latency_report(raw)
    except VerificationError as problem:
        error = error or str(problem)
    return BundleReport(
        name=bundle.name,
        target=manifest.target,
        precision=manifest.precision,
        provider=raw.provider,
        bundle_sha256=bundle.sha256,
        checkpoint=manifest.checkpoint,
        checkpoint_sha256=manifest.checkpoint_sha256,
        size_mb={
            artifact.role: sum((bundle.root / path).stat().st_size for path in artifact.files) / 1e6
            for artifact in manifest.artifacts
        },
        total_size_mb=bundle.size_bytes / 1e6,
        int8_share=_int8_share(bundle, raw),
        executed=raw.executed,
        latency=latency,
        footprint=raw.footprint,
        drift=drift.report,
        provenance=Provenance(
            checkpoint_sha256=manifest.checkpoint_sha256,
            calibration_sha256=manifest.calibration_sha256,
            calibration=manifest.calibration,
            files_sha256={
                path: digest for item in manifest.artifacts for path, digest in item.files.items()
            },
            tool_versions=manifest.tool_versions,
            training_data=manifest.training_data,
        ),
        error=error or _golden_failure(bundle, raw),
        device=None if raw.board is None else _board(raw.board, bundle, raw),
    )


def _int8_share(bundle: Bundle, raw: RawBundle) -> float:
    """Return the share reported by the device's library, or else the share in the model file."""
    if raw.int8_share is not None:
        return raw.int8_share
    if raw.executed:
        return int8_share(raw.executed)
    if raw.board is not None and raw.board.layers and not raw.board.layers.get("int8"):
        return 0.0  # a downgraded engine
    return bundle.artifact("regressor").int8_share


# Drift


def used_samples(task: Task, raw: Raw) -> Sequence[Sample]:
    """Return the labelled images to evaluate: all, or those measured before an interruption."""
    if raw.used is None:
        return task.samples
    ids = set(raw.used)
    return [sample for sample in task.samples if sample.id in ids]


def compute_drifts(task: Task, raw: Raw) -> list[BundleDrift]:
    """Return the drift of each bundle, in the order of ``task.bundles``.

    A bundle has no report if it or its reference failed, if no image was used, or if the device
    gives no ages.
    """
    samples = used_samples(task, raw)
    answers = {
        bundle.name: _answers(item, bundle, samples)
        for bundle, item in zip(task.bundles, raw.bundles, strict=True)
    }
    return [_drift(bundle, task, raw, samples, answers) for bundle in task.bundles]


def _answers(raw: RawBundle, bundle: Bundle, samples: Sequence[Sample]) -> _Ages | str | None:
    """Return the ages of a bundle, or the reason why it failed; None if it has none."""
    if raw.error is not None or raw.readings is None:
        return raw.error
    try:
        return _ages(raw.readings, bundle, samples) if samples else None
    except VerificationError as error:
        return str(error)


def _ages(readings: Sequence[Reading], bundle: Bundle, samples: Sequence[Sample]) -> _Ages:
    """Return the ages in the order of the samples."""
    by_id = {reading.id: reading for reading in readings}
    ids = {sample.id for sample in samples}
    problem = ""
    if len(by_id) != len(readings):
        problem = "repeated ages"
    elif by_id.keys() - ids:
        problem = "ages of images that are not in the task"
    elif ids - by_id.keys():
        problem = f"no age for {len(ids - by_id.keys())} of {len(ids)} images"
    if problem:
        message = f"the device returned {problem}; bench again"
        raise VerificationError(message)
    months = [check_age(by_id[sample.id].age_months, bundle, sample) for sample in samples]
    return _Ages(np.array(months), [by_id[sample.id].box for sample in samples])


def _drift(
    bundle: Bundle,
    task: Task,
    raw: Raw,
    samples: Sequence[Sample],
    answers: Mapping[str, _Ages | str | None],
) -> BundleDrift:
    ages = answers[bundle.name]
    if not isinstance(ages, _Ages):
        return BundleDrift(None, ages)
    reference = task.reference(bundle)
    together = raw.references is None
    steps: tuple[BlameStep, ...] = ()
    if raw.references is None:
        other = answers[reference.name]
        if not isinstance(other, _Ages):
            reason = f"its reference {reference.name} failed, so its drift cannot be computed"
            return BundleDrift(None, reason)
        months = {name: item.months for name, item in answers.items() if isinstance(item, _Ages)}
        true_months = np.array([sample.age_months for sample in samples])
        steps = attribute(bundle, reference, months, true_months, task.bundles)
    else:
        readings = raw.references[reference.manifest.checkpoint_sha256]
        other = _ages(readings, reference, samples)
    overlaps = [
        a.iou(b) if a is not None and b is not None else 1.0
        for a, b in zip(ages.boxes, other.boxes, strict=True)
    ]
    report = compare(
        samples,
        other.months,
        ages.months,
        reference,
        # On another machine a different library runs even the reference's own file.
        is_reference=together and bundle.name == reference.name,
        box_iou_mean=math.fsum(overlaps) / len(overlaps),
        blame=steps,
    )
    return BundleDrift(report)


# Time and energy


def latency_report(raw: RawBundle) -> LatencyReport | None:
    """Summarize the latency of a bundle; None if it was not measured.

    Raises:
        VerificationError: If a stage is missing or the stages have different numbers of queries.
    """
    if not raw.stages_ns:
        return None
    times = {stage: np.array(values, float) for stage, values in raw.stages_ns.items()}
    counts = {len(values) for values in times.values()}
    if not {"regress", "total"} <= times.keys() or len(counts) != 1 or counts == {0}:
        message = "the device returned incomplete times: stages or queries are missing; bench again"
        raise VerificationError(message)
    total_ns = times["total"]
    stability = judge(times["regress"], *raw.conditions, raw.board)
    tail = stability.steady_from
    return LatencyReport(
        warm_up=raw.warm_up,
        queries=len(total_ns),
        duration_s=float(total_ns.sum()) / 1e9,
        images=min(raw.images, len(total_ns)),
        stages=_stages(raw.stages_ns),
        samples={stage: pack_samples(values) for stage, values in raw.stages_ns.items()},
        stability=stability,
        turns=raw.turns,
        energy=_energy(raw.power),
        sweep=tuple(
            SweepEntry(entry.threads, 1, len(entry.stages_ns["total"]), _stages(entry.stages_ns))
            for entry in raw.sweep
        ),
        steady_tail=(
            None if tail is None else _stages({k: v[tail:] for k, v in raw.stages_ns.items()})
        ),
    )


def _stages(stages_ns: Mapping[str, Sequence[int]]) -> dict[str, StageTimes]:
    return {stage: stage_times(np.array(values) / 1e6) for stage, values in stages_ns.items()}


def _energy(power: Power | None) -> Energy | None:
    """Return the energy of a query without the idle power; None if it was not measured."""
    if power is None or not (power.idle_w and power.busy_w and power.queries):
        return None
    idle_w, busy_w = np.array(power.idle_w), np.array(power.busy_w)
    each_s = power.busy_s / power.queries
    idle, busy = float(idle_w.mean()), float(busy_w.mean())
    interval = difference_interval(busy_w, idle_w)
    ends = None if interval is None else (interval[0] * each_s, interval[1] * each_s)
    return Energy(power.rail, (busy - idle) * each_s, busy, idle, ends)


def _power(power: Power | None) -> dict[str, Any]:
    """Return the power fields of ``Board``."""
    energy = _energy(power)
    if power is None or energy is None:
        return {}
    return {
        "power_rail": power.rail,
        "idle_w": energy.idle_watts,
        "busy_w": energy.watts,
        "energy_mj": energy.joules_per_query * 1e3,
        "energy_queries": power.queries,
    }


# Golden images


def _golden_failure(bundle: Bundle, raw: RawBundle) -> str | None:
    """Return why the golden ages are wrong; the numbers of such a bundle are kept."""
    if not raw.golden_months:
        return None
    return golden_failure(raw.golden_months, bundle.manifest, downgraded=raw.downgraded)


def _golden_change(bundle: Bundle, raw: RawBundle) -> float:
    """Return the largest change of a golden image's age since export, in months."""
    exported = [golden.bundle_months for golden in bundle.manifest.golden]
    changes = zip(raw.golden_months, exported, strict=False)
    return max((abs(age - before) for age, before in changes), default=0.0)


def _board(board: Board, bundle: Bundle, raw: RawBundle) -> Board:
    change = _golden_change(bundle, raw)
    return msgspec.structs.replace(board, golden_change_months=change, **_power(raw.power))


def _phone(phone: Phone, bundles: Sequence[Bundle], raw: Sequence[RawBundle]) -> Phone:
    answered = [(b, item) for b, item in zip(bundles, raw, strict=True) if item.golden_months]
    return msgspec.structs.replace(
        phone,
        golden_max_difference_months={b.name: _golden_change(b, item) for b, item in answered},
        golden_max_difference_localizer={b.name: max(i.golden_localizer) for b, i in answered},
    )
