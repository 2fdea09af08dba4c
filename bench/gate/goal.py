"""The project's goal as data: a lightweight model that still reads ages, line by line.

The paper calls depthwise separable convolutions the way to a lightweight network, and states 7.6
million parameters; it gives no size, no time and no drift. Those limits are ours, each with its
reason. As in the gate, the upper end of a figure's 95 % interval decides, and the limits on ages
are the gate's defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple

import msgspec

from bakit.bench.gate.accuracy import LEAST_IMAGES
from bakit.bench.gate.check import Gate
from bakit.errors import InputError
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.bench.report.document import BundleReport, Report
    from bakit.bench.report.drift import DriftReport
    from bakit.bench.report.latency import StageTimes
    from bakit.bundle import Bundle, Manifest


class GoalLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of one bundle beside its limit.

    Attributes:
        bundle: The bundle.
        figure: What was measured.
        value: Its value; None if it was not measured, which fails.
        bound: Whether the limit is the ``most`` or the ``least``; equal passes.
        limit: The limit.
        unit: Unit of value and limit; empty for counts and shares.
        passed: Whether it is within the limit.
        source: Where the limit comes from.
        estimated: Whether the figure is estimated, so that ``upper`` decides.
        upper: Upper end of its 95 % interval; None if there are too few images or queries for one.
    """

    bundle: str
    figure: str
    value: float | None
    bound: Literal["most", "least"]
    limit: float
    unit: str
    passed: bool
    source: str
    estimated: bool = False
    upper: float | None = None


class GoalResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the goal is met.

    Attributes:
        passed: Whether every line is.
        lines: By bundle, in the order of the report, then in the order of ``GOALS``.
    """

    passed: bool
    lines: tuple[GoalLine, ...]


class Goal(NamedTuple):
    """A limit with its source; fields as in ``GoalLine``, and functions that read the figure."""

    figure: str
    unit: str
    bound: Literal["most", "least"]
    limit: float
    source: str
    value: Callable[[BundleReport, Manifest], float | None]
    upper: Callable[[BundleReport], float | None] | None = None


def _drift(get: Callable[[DriftReport], float]) -> Callable[[BundleReport, Manifest], float | None]:
    return lambda report, _: None if report.drift is None else get(report.drift)


def _upper(name: str) -> Callable[[BundleReport], float | None]:
    """Return a function that reads the upper end of an interval of the drift report."""

    def read(report: BundleReport) -> float | None:
        drift = report.drift
        if drift is None or drift.samples < LEAST_IMAGES:
            return None
        if drift.is_reference and name != "bundle_mae_ci95_months":
            return 0.0
        interval: tuple[float, float] | None = getattr(drift, name)
        return None if interval is None else interval[1]

    return read


def _total(report: BundleReport) -> StageTimes | None:
    return report.latency.stages.get("total") if report.latency else None


def _p90_ms(report: BundleReport, _: Manifest) -> float | None:
    total = _total(report)
    return total.p90_ms if total else None


def _p90_upper_ms(report: BundleReport) -> float | None:
    total = _total(report)
    return total.p90_ci95_ms[1] if total and total.p90_ci95_ms else None


_GATE = Gate()

GOALS = (
    Goal(
        "parameters",
        "",
        "most",
        7_606_825,
        "our count of the paper's network with two hidden layers; its text says 7.6 million",
        lambda _, manifest: manifest.parameters,
    ),
    Goal(
        "multiply-adds",
        "million",
        "most",
        219,
        "the backbone's published cost at 224 x 224: MobileNetV3-Large 1.0, Howard et al. 2019",
        lambda _, manifest: (
            None if manifest.multiply_adds is None else manifest.multiply_adds / 1e6
        ),
    ),
    Goal(
        "size of the regressor",
        "MB",
        "most",
        9,
        "ours: a byte for each parameter, and less than a fifth more for scales, floats and graph",
        lambda report, _: report.size_mb.get("regressor"),
    ),
    Goal(
        "multiply-adds in INT8",
        "",
        "least",
        0.9,
        "ours: what is left in floats must not decide the speed",
        lambda report, _: report.int8_share,
    ),
    Goal(
        "time of a prediction, p90",
        "ms",
        "most",
        100,
        "ours: below a tenth of a second an answer feels immediate (Miller 1968)",
        _p90_ms,
        _p90_upper_ms,
    ),
    Goal(
        "MAE",
        "months",
        "most",
        8.5,
        "ours, for 224 pixels and 27 epochs; the paper reports 6.8 at 224 pixels, 6.2 at 700",
        _drift(lambda drift: drift.bundle_mae_months),
        _upper("bundle_mae_ci95_months"),
    ),
    Goal(
        "drift, upper end of its 95 % interval",
        "months",
        "most",
        _GATE.max_drift_months or math.inf,
        "ours: a week of bone age, which must not be lost beside errors of months",
        _drift(lambda drift: 0.0 if drift.is_reference else drift.drift_ci95_months[1]),
        _upper("drift_ci95_months"),
    ),
    Goal(
        "change of a prediction, mean",
        "months",
        "most",
        _GATE.max_mean_change_months or math.inf,
        "ours: MAE hides changes that cancel out",
        _drift(lambda drift: drift.mean_abs_change_months),
        _upper("mean_abs_change_ci95_months"),
    ),
    Goal(
        "change of a prediction, p99",
        "months",
        "most",
        _GATE.max_p99_change_months or math.inf,
        "ours: less than the half year by which readers differ on one film (Larson et al. 2018)",
        _drift(lambda drift: drift.p99_abs_change_months),
        _upper("p99_abs_change_ci95_months"),
    ),
)


def check_candidates(bundles: Sequence[Bundle]) -> list[Bundle]:
    """Return the bundles that the goal is about, those in INT8, before anything is measured.

    Raises:
        InputError: If there is none, or one does not say its parameters.
    """
    chosen = [b for b in bundles if b.manifest.precision is Precision.INT8]
    if not chosen:
        message = (
            "the goal is about INT8 bundles and there is none; write one with: "
            "bakit export --target onnx --int8"
        )
        raise InputError(message)
    for bundle in chosen:
        if bundle.manifest.parameters is None or bundle.manifest.multiply_adds is None:
            message = (
                f"{bundle.name}: does not say its parameters and multiply-adds, as an older bakit "
                "wrote it; export it again"
            )
            raise InputError(message)
    return chosen


def check_goal(report: Report, bundles: Sequence[Bundle]) -> GoalResult:
    """Compare the INT8 bundles of a report with ``GOALS``.

    Lines on what was not measured fail; of a bundle that failed, all do.

    Raises:
        InputError: See ``check_candidates``; or a bundle is not in the report.
    """
    reports = {bundle.name: bundle for bundle in report.bundles}
    lines = []
    for bundle in check_candidates(bundles):
        if bundle.name not in reports:
            message = f"{bundle.name}: not in the report"
            raise InputError(message)
        lines += [_line(goal, reports[bundle.name], bundle.manifest) for goal in GOALS]
    return GoalResult(all(line.passed for line in lines), tuple(lines))


def _line(goal: Goal, report: BundleReport, manifest: Manifest) -> GoalLine:
    value = None if report.error is not None else goal.value(report, manifest)
    if value is not None and not math.isfinite(value):
        value = None
    upper = None if goal.upper is None or value is None else goal.upper(report)
    if upper is not None and not math.isfinite(upper):
        upper = None
    # An estimate passes if its interval ends within the limit.
    decides = value if goal.upper is None else upper
    passed = (
        decides is not None
        and value is not None
        and (max(value, decides) <= goal.limit if goal.bound == "most" else decides >= goal.limit)
    )
    return GoalLine(
        bundle=report.name,
        figure=goal.figure,
        value=value,
        bound=goal.bound,
        limit=goal.limit,
        unit=goal.unit,
        passed=passed,
        source=goal.source,
        estimated=goal.upper is not None,
        upper=upper,
    )
