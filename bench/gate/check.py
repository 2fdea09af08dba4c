"""Pass or fail: a report against limits, and against an earlier report."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from datetime import date
from typing import TYPE_CHECKING

from bakit.bench.gate.accuracy import accuracy_checks
from bakit.bench.gate.advice import for_latency
from bakit.bench.gate.baseline import (
    COMPARED,
    baseline_checks,
    check_baseline,
    find_in,
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
    from collections.abc import Sequence

    from bakit.bench.report.document import BundleReport, Report

FAILED = "failed"
"""Name of the limit that a bundle breaks which did not run to its end."""


@dataclass(frozen=True)
class Gate:
    """Limits; None sets no limit. A figure equal to its limit passes, NaN never does.

    A figure that images were drawn for passes when the *upper end* of its 95 % interval is within
    the limit: when the images show that it is, not when they fail to show more. Where the estimate
    is within the limit and the upper end is not, there are too few images to decide.

    The limits on changes are set by default, because an MAE alone hides damage: errors that grow
    and errors that shrink cancel out in it. Defaults are about one and a half times what the
    shipped INT8 bundles show on the 1,156 images of their test part.

    Attributes:
        max_drift_months: Largest drift. Also how much worse than in a baseline the mean error and
            the mean change may be.
        max_drift_pct: Largest drift in per cent of the float model's MAE.
        max_mae_months: Largest mean absolute error.
        max_mean_change_months: Largest mean change against the float model.
        max_p99_change_months: Largest 99th percentile of the change.
        max_group_drift_months: Largest drift in any group of sex and age; for all groups at once.
        max_group_change_months: Largest mean change to one side in any group; for all at once.
        max_p90_ms: Largest 90th percentile of the total time.
        max_p90_ratio: Largest ratio of that time to the baseline's, to ``ratio_to``'s, or else to
            the reference's. It fails when noise does not explain what is above.
        ratio_to: Name of a bundle of the same report.
        max_size_mb: Largest size of the model files together, in 10^6 bytes.
        min_int8_share: Smallest share of the multiply-adds of INT8 bundles that run in INT8, 0..1.

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

    def __post_init__(self) -> None:
        """Refuse limits that would pass or fail whatever the report says."""
        for name in LIMITS:
            limit = getattr(self, name, None)
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                message = f"{name}={limit} is no limit; use a number from 0 up"
                raise InputError(message)
        if self.ratio_to is not None and self.max_p90_ratio is None:
            message = f"a ratio to {self.ratio_to} needs a limit: give max_p90_ratio"
            raise InputError(message)

    def check(
        self,
        report: Report,
        baseline: Report | None = None,
        known: Sequence[KnownFailure] = (),
        today: date | None = None,
    ) -> GateResult:
        """Compare a report with the limits, and with a baseline.

        Args:
            report: The report.
            baseline: An earlier report of the same checkpoint on the same images; bundles are
                matched by name.
            known: Failures that are expected.
            today: The day; the clock's when None.

        Raises:
            InputError: If the report has no bundles, was interrupted, has damaged predictions or
                no drift although a limit needs it; if the baseline lacks a bundle, has no drift,
                is of other images or another checkpoint; or if latencies of two machines would be
                compared.
        """
        if not report.bundles:
            message = "the report has no bundles: nothing to gate"
            raise InputError(message)
        if report.partial:
            message = "the report is of an interrupted run: bench again"
            raise InputError(message)
        if baseline is not None:
            check_baseline(self, report, baseline)
        day = today or date.today()  # where the gate runs
        verdicts = [self._judge(bundle, report, baseline, known, day) for bundle in report.bundles]
        return make_result(verdicts, known)

    def _judge(
        self,
        bundle: BundleReport,
        report: Report,
        baseline: Report | None,
        known: Sequence[KnownFailure],
        today: date,
    ) -> Verdict:
        notes: list[str] = []
        if bundle.error is not None:
            text = f"it failed: {bundle.error}"
            check = Check(FAILED, "fail", text, advice=f"bakit verify {bundle.name}")
            return make_verdict(bundle.name, [check], known, today)
        checks = [*accuracy_checks(self, bundle, notes), *_cost_checks(self, bundle)]
        before = None if baseline is None else find_in(baseline, bundle.name)
        if before is not None:
            checks += baseline_checks(self, bundle, before)
        if self.max_p90_ratio is not None:
            checks += ratio_check(self, bundle, report, baseline, notes)
        return make_verdict(bundle.name, checks, known, today, notes)


LIMITS = (FAILED, *(field.name for field in fields(Gate) if field.name != "ratio_to"), *COMPARED)
"""Names of the limits, as known failures give them."""


def _cost_checks(gate: Gate, bundle: BundleReport) -> list[Check]:
    """Check time, size and the share of INT8.

    Raises:
        InputError: If a limit is set on times that the report does not have.
    """
    checks = []
    if gate.max_p90_ms is not None:
        if bundle.latency is None:
            message = f"{bundle.name}: the report has no times of it; bench again"
            raise InputError(message)
        p90_ms = bundle.latency.stages["total"].p90_ms
        text = f"p90 of the total time {p90_ms:.4g} ms, limit {gate.max_p90_ms:.4g} ms"
        advice = for_latency(bundle, bundle.latency)
        checks.append(_check("max_p90_ms", p90_ms <= gate.max_p90_ms, text, advice))
    if gate.max_size_mb is not None:
        size_mb = bundle.total_size_mb
        text = f"size of the model files {size_mb:.4g} MB, limit {gate.max_size_mb:.4g} MB"
        passed = size_mb <= gate.max_size_mb
        checks.append(_check("max_size_mb", passed, text, _smaller(bundle)))
    if gate.min_int8_share is not None and bundle.precision is Precision.INT8:
        share, limit = 100 * bundle.int8_share, 100 * gate.min_int8_share
        text = f"{share:.4g} % of the multiply-adds in INT8, limit {limit:.4g} %"
        passed = bundle.int8_share >= gate.min_int8_share
        advice = "bakit inspect shows what is written in INT8, which not every CPU runs"
        checks.append(_check("min_int8_share", passed, text, advice))
    return checks


def _check(name: str, passed: bool, text: str, advice: str) -> Check:
    return Check(name, "pass", text) if passed else Check(name, "fail", text, advice=advice)


def _smaller(bundle: BundleReport) -> str:
    largest = max(bundle.size_mb, key=bundle.size_mb.__getitem__, default="regressor")
    if bundle.precision is Precision.INT8:
        return f"the {largest} is largest: a smaller model (bakit train)"
    return f"the {largest} is largest: export with --int8 or --fp16"
