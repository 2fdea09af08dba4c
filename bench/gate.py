"""Pass or fail: a report against limits, and against an earlier report."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError

if TYPE_CHECKING:
    from bakit.bench.report import BundleReport, DriftReport, Report

MAX_DRIFT_MONTHS = 0.25


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gate says of one bundle.

    Attributes:
        name: The bundle.
        passed: Whether it is within every limit.
        failures: Each figure that is not, with its limit.
    """

    name: str
    passed: bool
    failures: tuple[str, ...]


class GateResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the gate says of a report.

    Attributes:
        passed: Whether every bundle passed.
        failures: All failures; each names its bundle.
        bundles: One verdict for each bundle, in the order of the report.
    """

    passed: bool
    failures: tuple[str, ...]
    bundles: tuple[Verdict, ...]


@dataclass(frozen=True)
class Gate:
    """Limits; None sets no limit. A figure equal to its limit passes, NaN never does.

    Attributes:
        max_drift_months: Largest upper end of the drift's 95 % interval: a bundle passes when
            the images show that its drift is within the limit, not when they fail to show more.
            Also how much worse than in a baseline its MAE may be.
        max_mae_months: Largest mean absolute error.
        max_mean_change_months: Largest mean change against the float model.
        max_p99_change_months: Largest 99th percentile of the change.
        max_p90_ms: Largest 90th percentile of the total time.
        max_size_mb: Largest size of the model files together, in 10^6 bytes.

    Raises:
        InputError: If a limit is negative or not a number.
    """

    max_drift_months: float | None = MAX_DRIFT_MONTHS
    max_mae_months: float | None = None
    max_mean_change_months: float | None = None
    max_p99_change_months: float | None = None
    max_p90_ms: float | None = None
    max_size_mb: float | None = None

    def __post_init__(self) -> None:
        """Refuse limits that would pass or fail whatever the report says."""
        for field in fields(self):
            limit = getattr(self, field.name)
            if limit is not None and not (math.isfinite(limit) and limit >= 0):
                message = f"{field.name}={limit} is no limit; use a number from 0 up"
                raise InputError(message)

    def check(self, report: Report, baseline: Report | None = None) -> GateResult:
        """Compare a report with the limits, and its MAEs with a baseline's.

        Args:
            report: The report.
            baseline: An earlier report on the same images; bundles are matched by name.

        Raises:
            InputError: If the report has no bundles, has no drift although a limit needs it, or
                the baseline lacks a bundle, has no drift or is of other images.
        """
        if not report.bundles:
            message = "the report has no bundles: nothing to gate"
            raise InputError(message)
        if baseline is not None:
            self._check_baseline(report, baseline)
        verdicts = []
        for bundle in report.bundles:
            failures = [*self._drift_failures(bundle), *self._cost_failures(bundle)]
            if baseline is not None:
                failures += self._baseline_failures(bundle, baseline)
            verdicts.append(Verdict(bundle.name, not failures, tuple(failures)))
        return GateResult(
            passed=all(verdict.passed for verdict in verdicts),
            failures=tuple(f"{v.name}: {failure}" for v in verdicts for failure in v.failures),
            bundles=tuple(verdicts),
        )

    def _drift_failures(self, bundle: BundleReport) -> list[str]:
        limits = (
            self.max_drift_months,
            self.max_mae_months,
            self.max_mean_change_months,
            self.max_p99_change_months,
        )
        if all(limit is None for limit in limits):
            return []
        drift = _drift(bundle, "the report")
        figures = (
            (
                f"drift {drift.drift_months:+.6g} months, upper end of its 95 % interval",
                drift.drift_ci95_months[1],
            ),
            ("MAE", drift.bundle_mae_months),
            ("mean change against the float model", drift.mean_abs_change_months),
            ("p99 of the change against the float model", drift.p99_abs_change_months),
        )
        return [
            f"{words} {value:.6g} months, limit {limit:.6g} months"
            for (words, value), limit in zip(figures, limits, strict=True)
            if limit is not None and not value <= limit  # NaN is not <= anything
        ]

    def _cost_failures(self, bundle: BundleReport) -> list[str]:
        figures = (
            ("p90 of the total time", bundle.latency.stages["total"].p90_ms, self.max_p90_ms, "ms"),
            ("size of the model files", bundle.total_size_mb, self.max_size_mb, "MB"),
        )
        return [
            f"{words} {value:.6g} {unit}, limit {limit:.6g} {unit}"
            for words, value, limit, unit in figures
            if limit is not None and not value <= limit
        ]

    def _check_baseline(self, report: Report, baseline: Report) -> None:
        """Refuse a baseline whose MAEs cannot be compared with the report's."""
        if self.max_drift_months is None:
            message = "a baseline needs a drift limit: it says how much worse an MAE may get"
            raise InputError(message)
        if report.data is None or baseline.data is None:
            which = "the baseline" if baseline.data is None else "the report"
            message = f"{which} has no drift to compare; bench it again with --data"
            raise InputError(message)
        if report.data.ids_sha256 != baseline.data.ids_sha256:
            message = (
                f"the baseline is of {baseline.data.samples} other images than the report's "
                f"{report.data.samples}: the MAEs cannot be compared; bench both on the same data"
            )
            raise InputError(message)

    def _baseline_failures(self, bundle: BundleReport, baseline: Report) -> list[str]:
        before = next((old for old in baseline.bundles if old.name == bundle.name), None)
        if before is None:
            known = ", ".join(old.name for old in baseline.bundles)
            message = f"{bundle.name}: not in the baseline, which has {known or 'no bundles'}"
            raise InputError(message)
        old_mae = _drift(before, "the baseline").bundle_mae_months
        new_mae = _drift(bundle, "the report").bundle_mae_months
        limit = self.max_drift_months
        if limit is None or new_mae - old_mae <= limit:
            return []
        failure = (
            f"MAE {new_mae:.6g} months, {new_mae - old_mae:+.6g} months against the baseline's "
            f"{old_mae:.6g}, limit +{limit:.6g} months"
        )
        return [failure]


def _drift(bundle: BundleReport, where: str) -> DriftReport:
    """Return the drift of a bundle, or say that there is none."""
    if bundle.drift is None:
        message = (
            f"{bundle.name}: {where} was benched without --data, so its drift is not known; "
            "bench it with --data, or gate latency and size alone with --no-drift"
        )
        raise InputError(message)
    return bundle.drift
