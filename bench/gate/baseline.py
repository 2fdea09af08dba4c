"""A report against an earlier one: errors image by image, and times of the same machine."""

from __future__ import annotations

from itertools import accumulate
from typing import TYPE_CHECKING

from bakit.bench.gate.accuracy import LEAST_IMAGES, Figure, decide, drift_of, figure_text
from bakit.bench.gate.advice import for_drift, for_latency
from bakit.bench.gate.verdict import Check
from bakit.bench.report.latency import LEAST_SCORE
from bakit.errors import InputError

if TYPE_CHECKING:
    from bakit.bench.gate.check import Gate
    from bakit.bench.report.document import BundleReport, Report
    from bakit.bench.report.latency import LatencyReport

IMPROVED_MONTHS = 0.05
"""An improvement counts when its interval is beyond this: below are roundings of arithmetic."""


RUNS = 1.15
"""Two runs of one bundle differ by up to this ratio, whatever their noise: 2 SD of a machine whose
speed wanders by 5 %, as slowly as the runs or slower."""


def check_baseline(gate: Gate, report: Report, baseline: Report) -> None:
    """Refuse a baseline that the report cannot be compared with.

    Raises:
        InputError: If it is of other images, another checkpoint or an interrupted run, has no
            drift, or lacks a bundle, could not measure it or has another target or precision of it;
            if nothing would be compared; or if latencies of two machines would be.
    """
    compares_times = gate.max_p90_ratio is not None and gate.ratio_to is None
    if gate.max_drift_months is None and not compares_times:
        message = (
            "a baseline needs a drift limit, which says how much worse an error may get, or a "
            "limit on the p90 ratio without --ratio-to: nothing would be compared with it"
        )
        raise InputError(message)
    if baseline.partial:
        message = "the baseline is of an interrupted run: bench it again"
        raise InputError(message)
    for bundle in report.bundles:
        before = find_in(baseline, bundle.name)
        if before.error is not None and bundle.error is None:
            message = (
                f"{bundle.name}: failed in the baseline ({before.error}): there is nothing to "
                "compare with; make the report the baseline with --update"
            )
            raise InputError(message)
        if (before.target, before.precision) != (bundle.target, bundle.precision):
            message = (
                f"{bundle.name}: it is {before.target} {before.precision.value} in the baseline "
                f"and {bundle.target} {bundle.precision.value} in the report: rename it, or make "
                "the report the baseline with --update"
            )
            raise InputError(message)
        if before.checkpoint_sha256 != bundle.checkpoint_sha256:
            message = (
                f"{bundle.name}: the baseline is of another checkpoint ({before.checkpoint}, "
                f"{before.checkpoint_sha256[:12]}) than the report ({bundle.checkpoint}, "
                f"{bundle.checkpoint_sha256[:12]}): make the report the baseline with --update"
            )
            raise InputError(message)
    if gate.max_drift_months is not None:
        _check_images(report, baseline)
    if compares_times:
        _check_machines(report, baseline)


def _check_images(report: Report, baseline: Report) -> None:
    if report.data is None or baseline.data is None:
        which = "the baseline" if baseline.data is None else "the report"
        message = f"{which} has no drift to compare; bench it again with --data"
        raise InputError(message)
    if report.data.ids_sha256 != baseline.data.ids_sha256:
        message = (
            f"the baseline is of {baseline.data.samples} other images than the report's "
            f"{report.data.samples}: their errors cannot be compared; bench both on the same data"
        )
        raise InputError(message)


def _check_machines(report: Report, baseline: Report) -> None:
    """Refuse to compare times of two machines, or of one with other threads."""
    if report.devices:
        for name in report.devices.keys() & baseline.devices.keys():
            _check_machines(report.of_device(name), baseline.of_device(name))
        return
    known = [
        (one.host.fingerprint, one.phone.fingerprint if one.phone else None)
        for one in (report, baseline)
    ]
    if known[0] != known[1]:
        message = (
            "latencies of two machines are never compared (the report's: "
            f"{report.machine}, {report.host.machine_id}; the baseline's: "
            f"{baseline.machine}, {baseline.host.machine_id}): bench the old "
            "bundle and the new one in one run, and gate with --ratio-to OLD"
        )
        raise InputError(message)
    if report.settings.threads != baseline.settings.threads:
        message = (
            f"the report is of threads={report.settings.threads} and the baseline of "
            f"threads={baseline.settings.threads}: their times cannot be compared"
        )
        raise InputError(message)


def find_in(baseline: Report, name: str) -> BundleReport:
    """Return a bundle of the baseline.

    Raises:
        InputError: If it has none of that name.
    """
    for bundle in baseline.bundles:
        if bundle.name == name:
            return bundle
    known = ", ".join(bundle.name for bundle in baseline.bundles) or "no bundles"
    message = f"{name}: not in the baseline, which has {known}: renew it with --update"
    raise InputError(message)


def baseline_checks(gate: Gate, bundle: BundleReport, before: BundleReport) -> list[Check]:
    """Check a bundle's errors and changes against an earlier bundle's, image by image.

    Raises:
        InputError: If either has no drift, or damaged predictions.
    """
    if gate.max_drift_months is None:
        return []
    import numpy as np  # noqa: PLC0415  # a gate without a baseline needs none

    from bakit.bench.statistics import mean_interval  # noqa: PLC0415

    drift = drift_of(bundle, "the report")
    old_rows = {row.id: row for row in drift_of(before, "the baseline").rows}
    if {row.id for row in drift.rows} != old_rows.keys():
        message = f"{bundle.name}: the baseline has predictions of other images; bench both again"
        raise InputError(message)
    pairs = [(row, old_rows[row.id]) for row in drift.rows]
    new, old = (
        np.array([(row.true_months, row.float_months, row.bundle_months) for row in rows]).T
        for rows in zip(*pairs, strict=True)
    )
    # Distance from the truth, and from the float model.
    worse = np.abs(new[2] - new[:2]) - np.abs(old[2] - old[:2])
    checks = []
    patients = [row.patient for row in drift.rows]
    clusters = None if None in patients else np.array(patients)
    for (name, words), values in zip(COMPARED.items(), worse, strict=True):
        interval = mean_interval(values, clusters)
        figure = Figure(f"{words} against the baseline", float(values.mean()), interval)
        limit = gate.max_drift_months
        text = figure_text(figure, limit)
        if interval[1] < -IMPROVED_MONTHS and len(pairs) >= LEAST_IMAGES:
            advice = "if it is meant, make this report the baseline with --update"
            text = f"better than noise: {text}"
            checks.append(figure.check(name, "improved", text, limit, advice=advice))
            continue
        least = 0 if not worse.any() else LEAST_IMAGES
        outcome = decide(figure, limit, len(pairs), least)
        advice = "" if outcome == "pass" else for_drift(bundle, drift)
        checks.append(figure.check(name, outcome, text, limit, (), advice))
    return checks


COMPARED = {"baseline_error": "change of the MAE", "baseline_change": "growth of the mean change"}
"""Figures that are compared with a baseline, each a limit of its own for known failures."""


def ratio_check(
    gate: Gate, bundle: BundleReport, report: Report, baseline: Report | None, notes: list[str]
) -> list[Check]:
    """Check how much longer a bundle takes than another: an earlier one, or one of the same run.

    It fails when the whole 95 % interval of the ratio is above the limit. Times of one run were
    taken in turns and are compared turn by turn; those of two runs only if both were steady, with
    ``RUNS`` on both sides of the interval; those of bundles that a device measured one after the
    other never. What does not fail the bundle is added to ``notes``.

    Raises:
        InputError: If there is nothing to compare with, or times are damaged.
    """
    limit = gate.max_p90_ratio
    assert limit is not None
    other, same_run = _compared_with(gate, bundle, report, baseline)
    if other.name == bundle.name and same_run:
        return []
    check_timing(bundle, other)
    new, old = latency_of(bundle), latency_of(other)
    if same_run and bundle.device is not None and min(len(new.turns), len(old.turns)) < 2:
        text = "these bundles were measured one after the other on the device"
        advice = "bench again: but for a phone's benchmark binary, bundles take turns on a device"
        return [Check("max_p90_ratio", "unsteady", text, advice=advice, bound=limit)]
    if not same_run and (unsteady := _unsteady(new, old)):
        advice = "bench the old bundle and the new one in one run, and gate with --ratio-to OLD"
        return [Check("max_p90_ratio", "unsteady", unsteady, advice=advice, bound=limit)]
    import numpy as np  # noqa: PLC0415  # a gate without a ratio needs none

    from bakit.bench.statistics import ratio_interval  # noqa: PLC0415

    times, others = (np.array(item.samples_ns(), float) for item in (new, old))
    if min(times.min(initial=1), others.min(initial=1)) <= 0:
        message = f"{bundle.name}: a query took no time: the report is damaged; bench again"
        raise InputError(message)
    pair = [
        np.split(values, _starts(latency, report, len(values)))
        for values, latency in ((times, new), (others, old))
    ]
    interval = ratio_interval(pair[0], pair[1], 90, paired=same_run)
    if interval is not None and not same_run:
        interval = interval[0] / RUNS, interval[1] * RUNS
    if interval is None:
        message = f"{bundle.name}: too few queries to compare times; bench with --queries 100"
        raise InputError(message)
    ratio = float(np.percentile(times, 90) / np.percentile(others, 90))
    figure = Figure("p90 of the total time", ratio, interval, "")
    text = (
        f"p90 of the total time {ratio:.3f} times that of {other.name}, 95 % interval "
        f"{interval[0]:.3f} to {interval[1]:.3f}, limit {limit:.4g}"
    )
    if interval[0] > limit:
        advice = for_latency(bundle, new)
        return [figure.check("max_p90_ratio", "fail", text, limit, advice=advice)]
    if ratio > limit:
        notes.append(f"{text}: noise may explain it; bench longer (--seconds) to know")
    return [figure.check("max_p90_ratio", "pass", text, limit)]


def _starts(latency: LatencyReport, report: Report, queries: int) -> list[int]:
    """Return the first query of each turn but the first."""
    if len(latency.turns) > 1:
        return list(accumulate(latency.turns))[:-1]
    block = max(min(report.settings.block, report.settings.min_queries), 1)
    return list(range(block, queries - block + 1, block))


def _compared_with(
    gate: Gate, bundle: BundleReport, report: Report, baseline: Report | None
) -> tuple[BundleReport, bool]:
    """Return the bundle to compare with, and whether it is of the same run."""
    if baseline is not None and gate.ratio_to is None:
        return find_in(baseline, bundle.name), False
    name = gate.ratio_to or (bundle.drift.reference if bundle.drift else None)
    if report.devices and gate.ratio_to:  # of a fleet: the bundle of that name on each device
        device, where = bundle.name.rpartition("/")[0], gate.ratio_to.rpartition("/")[0]
        if where not in {"", device}:
            message = (
                f"{bundle.name}: latencies of two machines are never compared; use --ratio-to "
                f"{gate.ratio_to.rpartition('/')[2]}, which each device compares with its own"
            )
            raise InputError(message)
        name = f"{device}/{gate.ratio_to.rpartition('/')[2]}"
    for other in report.bundles:
        if other.name == name:
            return other, True
    known = ", ".join(other.name for other in report.bundles)
    message = f"{bundle.name}: no bundle {name!r} to compare times with: --ratio-to one of {known}"
    if name is None:
        message = f"{bundle.name}: nothing to compare times with: --ratio-to one of {known}"
    raise InputError(message)


def check_timing(bundle: BundleReport, other: BundleReport) -> None:
    """Raise ``InputError`` for times of two kinds: wall clock, and trtexec's CUDA events."""
    kinds = [item.device.timing if item.device else "wall" for item in (bundle, other)]
    if kinds[0] != kinds[1]:
        message = (
            f"{bundle.name} was timed by {kinds[0]} and {other.name} by {kinds[1]}, which are "
            "different quantities: bench both with the same program (--engine, --benchmark-binary)"
        )
        raise InputError(message)


def latency_of(bundle: BundleReport) -> LatencyReport:
    """Return the times of a bundle.

    Raises:
        InputError: If there are none, or it failed after some.
    """
    if bundle.error is not None:
        message = f"{bundle.name}: failed ({bundle.error}): its times cannot be compared"
        raise InputError(message)
    if bundle.latency is None or bundle.latency.queries < 1:
        message = f"{bundle.name}: the report has no times of it; bench again"
        raise InputError(message)
    return bundle.latency


def _unsteady(*latencies: LatencyReport) -> str | None:
    """Return why times of separate runs cannot be compared; None if they can."""
    for latency in latencies:
        stability = latency.stability
        if stability is None or stability.warning or not stability.score >= LEAST_SCORE:
            score = "unknown" if stability is None else f"{stability.score:.0f}"
            return (
                f"times of two runs can be compared only if both were steady: stability {score}, "
                f"limit {LEAST_SCORE:.0f}"
            ) + (f"; {stability.warning}" if stability and stability.warning else "")
    return None
