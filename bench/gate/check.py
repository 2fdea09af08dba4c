"""Pass or fail: a report against limits, and against an earlier report."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING

import msgspec

from bakit.bench.gate.accuracy import AGE_LIMITS, Figure, accuracy_checks
from bakit.bench.gate.advice import for_latency
from bakit.bench.gate.baseline import (
    COMPARED,
    baseline_checks,
    check_baseline,
    find_in,
    latency_of,
    ratio_check,
)
from bakit.bench.gate.verdict import (
    Check,
    GateResult,
    KnownFailure,
    Verdict,
    make_result,
    make_verdict,
)
from bakit.errors import InputError
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from bakit.bench.gate.verdict import Outcome
    from bakit.bench.report.document import BundleReport, Report

FAILED = "failed"
"""Name of the limit that a bundle breaks which did not run to its end."""

MEASURED = "measured"
"""Name of the limit that a bundle breaks which was expected and is not in the report."""


@dataclass(frozen=True)
class Gate:
    """Limits; None sets no limit. A figure equal to its limit passes, NaN never does.

    A figure that images were drawn for passes when the *upper end* of its 95 % interval is within
    the limit: when the images show that it is, not when they fail to show more. Where the estimate
    is within the limit and the upper end is not, there are too few images to decide. That does not
    pass, with one exception: a default limit on the p99 or on groups, which few images decide, is
    undecided while the upper end is within twice the limit. A limit that is named has no such room.

    The limits on changes are set by default, because an MAE alone hides damage: errors that grow
    and errors that shrink cancel out in it. The defaults are judgements, not measurements: a drift
    of a week (0.25) and a mean change of three weeks (0.75) are small beside errors of nine months;
    a change of 5 months in one child of a hundred is less than the half year by which readers
    differ on one film (Larson et al. 2018); six weeks (1.5) in a group are as much as its own
    interval allows to show.

    Attributes:
        max_drift_months: Largest drift. Also how much worse than in a baseline the mean error and
            the mean change may be.
        max_drift_pct: Largest drift in per cent of the float model's MAE.
        max_mae_months: Largest mean absolute error.
        max_mean_change_months: Largest mean change against the float model.
        max_p99_change_months: Largest 99th percentile of the change.
        max_group_drift_months: Largest drift in any group of sex and age, and among the youngest
            and the oldest.
        max_group_change_months: Largest mean change to one side in any of these groups.
        max_p90_ms: Largest 90th percentile of the total time.
        max_p90_ratio: Largest ratio of that time to the baseline's, to ``ratio_to``'s, or else to
            the reference's. It fails when noise does not explain what is above.
        ratio_to: Name of a bundle of the same report.
        max_size_mb: Largest size of the model files together, in 10^6 bytes.
        min_int8_share: Smallest share of the multiply-adds of INT8 bundles that run in INT8, 0..1.
        require_provider: Unit that must run all multiply-adds of each bundle but the references: a
            unit or provider of the report, such as ``litert-xnnpack``.

    Raises:
        InputError: If a limit is negative or not a number.
    """

    max_drift_months: float | None = 0.25
    max_drift_pct: float | None = None
    max_mae_months: float | None = None
    max_mean_change_months: float | None = 0.75
    max_p99_change_months: float | None = 5.0
    max_group_drift_months: float | None = 1.5
    max_group_change_months: float | None = 1.5
    max_p90_ms: float | None = None
    max_p90_ratio: float | None = None
    max_size_mb: float | None = None
    min_int8_share: float | None = None
    ratio_to: str | None = None
    require_provider: str | None = None

    def __post_init__(self) -> None:
        """Refuse limits that would pass or fail whatever the report says."""
        for name, limit in self._limits().items():
            if not (math.isfinite(limit) and limit >= 0):
                message = f"{name}={limit} is no limit; use a number from 0 up"
                raise InputError(message)
        if (self.min_int8_share or 0) > 1:
            message = f"--min-int8-share {self.min_int8_share:g} is not possible; use 0 to 1"
            raise InputError(message)
        if self.ratio_to is not None and self.max_p90_ratio is None:
            message = f"a ratio to {self.ratio_to} needs a limit: give --max-p90-ratio"
            raise InputError(message)

    def check(
        self,
        report: Report,
        baseline: Report | None = None,
        known: Sequence[KnownFailure] = (),
        today: date | None = None,
        *,
        require: Collection[str] = (),
        explicit: Collection[str] | None = None,
    ) -> GateResult:
        """Compare a report with the limits, and with a baseline.

        Nothing passes that was not measured: a bundle of the baseline or of ``require`` that is
        missing fails, a limit in ``explicit`` that applies to no bundle fails, and so does a report
        of references alone.

        Args:
            report: The report.
            baseline: An earlier report of the same checkpoint on the same images; bundles are
                matched by name.
            known: Failures that are expected.
            today: The day; the clock's when None.
            require: Names of bundles that must have been measured.
            explicit: Names of the limits that were asked for. They fail if they apply to no
                bundle; the others are notes then. If one of them is on ages, those that were not
                asked for may be undecided. None: no limit may be undecided, and those that are not
                at their defaults have to apply.

        Raises:
            InputError: If there is no limit; if the report has no bundles or two of one name, was
                interrupted, has damaged predictions or no drift although a limit needs it; if the
                baseline lacks a bundle or could not measure it, has no drift, or is of other
                images, another checkpoint, target or precision; or if latencies of two machines
                would be compared.
        """
        if not report.bundles:
            message = "the report has no bundles: nothing to gate"
            raise InputError(message)
        if not (self._limits() or self.require_provider or require):
            message = "no limit is set: nothing to gate; give one, such as --max-drift-months 0.25"
            raise InputError(message)
        _check_names(report, "the report")
        if report.partial:
            message = "the report is of an interrupted run: bench again"
            raise InputError(message)
        expected = dict.fromkeys(require, "required")
        if baseline is not None:
            _check_names(baseline, "the baseline")
            check_baseline(self, report, baseline)
            expected |= dict.fromkeys(
                (bundle.name for bundle in baseline.bundles), "in the baseline"
            )
        day = today or date.today()  # where the gate runs
        verdicts = [
            self._judge(
                bundle, report, baseline, known, day, explicit, required=bundle.name in require
            )
            for bundle in report.bundles
        ]
        present = {bundle.name for bundle in report.bundles}
        verdicts += [
            make_verdict(name, [_missing(f"it is {why} and not in the report")], known, day)
            for name, why in expected.items()
            if name not in present
        ]
        checks, notes = self._unused(verdicts, explicit)
        if not any(map(_is_candidate, report.bundles)):
            text = "no bundle was measured, except references"
            checks.insert(0, _missing(text, "bench the bundles that will ship"))
        return make_result(verdicts, known, checks, notes)

    def _limits(self) -> dict[str, float]:
        limits = {field.name: getattr(self, field.name) for field in fields(self)}
        return {k: v for k, v in limits.items() if k not in _WORDS and v is not None}

    def _named(self, explicit: Collection[str] | None) -> Collection[str]:
        """Return the names of the limits that were asked for, or that are not the defaults."""
        limits = self._limits()
        if explicit is None:
            return {name for name, limit in limits.items() if limit != getattr(Gate, name)}
        return limits.keys() & set(explicit)

    def _unused(
        self, verdicts: Sequence[Verdict], explicit: Collection[str] | None
    ) -> tuple[list[Check], list[str]]:
        """Return a check for each explicit limit that applied to no bundle, and notes on others."""
        limits, explicit = self._limits(), self._named(explicit)
        applied = {check.limit for verdict in verdicts for check in verdict.checks}
        checks, notes = [], []
        for name, limit in limits.items():
            if name in applied:
                continue
            text = f"{name} applied to no bundle: it needs {_NEEDS.get(name, _CANDIDATE)}"
            if name in explicit:
                advice = f"bench such a bundle, or leave --{name.replace('_', '-')} out"
                unit = _UNITS.get(name.rpartition("_")[2], "")
                bound = 100 * limit if name == "min_int8_share" else limit
                check = Check(name, "not-measured", text, advice=advice, bound=bound, unit=unit)
                checks.append(check)
            else:
                notes.append(text)
        return checks, notes

    def _judge(
        self,
        bundle: BundleReport,
        report: Report,
        baseline: Report | None,
        known: Sequence[KnownFailure],
        today: date,
        explicit: Collection[str] | None,
        *,
        required: bool,
    ) -> Verdict:
        notes: list[str] = []
        if bundle.error is not None:
            text = f"it failed: {bundle.error}"
            checks = [Check(FAILED, "fail", text, advice=f"bakit verify {bundle.name}")]
            if required:
                checks.append(_missing("it is required and failed"))
            return make_verdict(bundle.name, checks, known, today)
        if bundle.latency is None and bundle.drift is None:
            empty = _missing("the report has neither its times nor its ages")
            return make_verdict(bundle.name, [empty], known, today)
        named = self._named(explicit)
        checks = [*accuracy_checks(self, bundle, notes, named), *_cost_checks(self, bundle)]
        before = None if baseline is None else find_in(baseline, bundle.name)
        if before is not None:
            checks += baseline_checks(self, bundle, before)
        if self.require_provider is not None and _is_candidate(bundle):
            checks.append(_provider_check(bundle, self.require_provider))
        if self.max_p90_ratio is not None:
            checks += ratio_check(self, bundle, report, baseline, notes)
        if not checks:
            notes.append("no limit applies to it")
        asked = AGE_LIMITS & set(() if explicit is None else named)
        spare = AGE_LIMITS - asked if asked else frozenset()
        checks = [
            msgspec.structs.replace(c, outcome="undecided", groups=(), reason="not asked for")
            if c.limit in spare and c.outcome == "too-few-images"
            else c
            for c in checks
        ]
        return make_verdict(bundle.name, checks, known, today, notes)


_WORDS = {"ratio_to", "require_provider"}
"""Fields of the gate that are no numbers."""

LIMITS = (
    FAILED,
    MEASURED,
    *(field.name for field in fields(Gate) if field.name != "ratio_to"),
    *COMPARED,
)
"""Names of the limits, as known failures give them."""

_NEEDS = {
    "max_mae_months": "a bundle that was measured",
    "max_p90_ms": "a bundle that was measured",
    "max_p90_ratio": "two bundles that were measured",
    "max_size_mb": "a bundle that was measured",
    "min_int8_share": "an INT8 bundle that was measured",
}
_CANDIDATE = "a bundle that was measured, besides the reference"
_UNITS = {"months": "months", "ms": "ms", "mb": "MB", "pct": "%", "share": "%"}


def _check_names(report: Report, which: str) -> None:
    """Refuse a report with two bundles of one name: either could stand for the other."""
    ((name, count),) = Counter(bundle.name for bundle in report.bundles).most_common(1)
    if count > 1:
        message = f"{which} has {count} bundles called {name!r}; bench again"
        raise InputError(message)


def _missing(text: str, advice: str = "bench it with the others") -> Check:
    return Check(MEASURED, "not-measured", text, advice=advice)


def _is_candidate(bundle: BundleReport) -> bool:
    """Return whether a bundle was measured and is not the float model that others are held to."""
    if bundle.error is not None:
        return False
    if bundle.drift is not None:
        return not bundle.drift.is_reference
    return not (bundle.target == "torch" and bundle.precision is Precision.FP32)


def _cost_checks(gate: Gate, bundle: BundleReport) -> list[Check]:
    """Check time, size and the share of INT8."""
    checks = []
    if gate.max_p90_ms is not None:
        latency = latency_of(bundle)
        total = latency.stages["total"]
        if total.p90_ms is None:
            text = f"the p90 of the total time is unknown: {bundle.ran}"
            advice = "gate these times by another measurement, such as onnxruntime_perf_test's"
            checks.append(Check("max_p90_ms", "not-measured", text, advice=advice))
        else:
            figure = Figure("p90 of the total time", total.p90_ms, total.p90_ci95_ms, "ms")
            advice = for_latency(bundle, latency)
            checks.append(_cost_check("max_p90_ms", figure, 0, gate.max_p90_ms, advice))
    if gate.max_size_mb is not None:
        figure = Figure("size of the model files", bundle.total_size_mb, None, "MB")
        checks.append(_cost_check("max_size_mb", figure, 0, gate.max_size_mb, _smaller(bundle)))
    if gate.min_int8_share is not None and bundle.precision is Precision.INT8:
        figure = Figure("share of the multiply-adds in INT8", 100 * bundle.int8_share, None, "%")
        least = 100 * gate.min_int8_share
        advice = f"it ran {bundle.ran}; bakit inspect shows what is written in INT8"
        checks.append(_cost_check("min_int8_share", figure, least, 100, advice))
    return checks


def _cost_check(name: str, figure: Figure, least: float, most: float, advice: str) -> Check:
    """Check that a figure lies between two numbers; the limit is ``least`` if its name says min."""
    limit = least if name.startswith("min") else most
    unit, passed = figure.unit, least <= figure.estimate <= most
    text = f"{figure.words} {figure.estimate:.4g} {unit}, limit {limit:.4g} {unit}"
    outcome: Outcome = "pass" if passed else "fail"
    return figure.check(name, outcome, text, limit, advice="" if passed else advice)


def _provider_check(bundle: BundleReport, wanted: str) -> Check:
    """Check which unit ran the multiply-adds: libraries fall back to another without a word."""
    units = {item.unit for item in bundle.executed} or {bundle.provider}
    names = {unit.lower().removesuffix("executionprovider") for unit in (*units, bundle.provider)}
    passed = len(units) == 1 and wanted.lower().removesuffix("executionprovider") in names
    where = bundle.ran or f"on {bundle.provider or 'an unknown unit'}"
    advice = "" if passed else f"bakit bench names what ran; see why the library left {wanted}"
    text = f"ran {where}; required: {wanted}"
    return Check("require_provider", "pass" if passed else "fail", text, advice=advice)


def _smaller(bundle: BundleReport) -> str:
    largest = max(bundle.size_mb, key=bundle.size_mb.__getitem__, default="regressor")
    if largest == "whole":
        return "the whole graph has both models once more: export without --whole"
    if bundle.precision is Precision.INT8:
        return f"the {largest} is largest: a smaller model (bakit train)"
    return f"the {largest} is largest: export with --int8 or --fp16"
