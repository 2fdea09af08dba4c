"""The project's goal as data: a lightweight model that still reads ages, line by line.

The paper calls depthwise separable convolutions the way to a lightweight network, and states 7.6
million parameters; it gives no size, no time and no drift. Those limits are ours, each with its
reason. As in the gate, the upper end of a figure's 95 % interval decides, and the limits on ages
are the gate's defaults.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.bench.gate.accuracy import LEAST_IMAGES
from bakit.bench.gate.check import Gate
from bakit.errors import InputError
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.report.document import BundleReport, Report
    from bakit.bundle import Bundle, Manifest


class GoalLine(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One figure of one bundle beside its limit; without a bundle, the limit.

    Attributes:
        bundle: The bundle; empty in ``GOALS``.
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

    bundle: str = ""
    figure: str
    value: float | None = None
    bound: Literal["most", "least"] = "most"
    limit: float
    unit: str = ""
    passed: bool = False
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


_GATE = Gate()

GOALS = (
    GoalLine(
        figure="parameters",
        limit=7_606_825,
        source="our count of the paper's network with two hidden layers; its text says 7.6 million",
    ),
    GoalLine(
        figure="multiply-adds",
        unit="million",
        limit=219,
        source="the published cost of MobileNetV3-Large 1.0 at 224 x 224, Howard et al. 2019",
    ),
    GoalLine(
        figure="size of the regressor",
        unit="MB",
        limit=9,
        source="ours: a byte for each parameter, and a fifth more for scales, floats and graph",
    ),
    GoalLine(
        figure="multiply-adds in INT8",
        bound="least",
        limit=0.9,
        source="ours: what is left in floats must not decide the speed",
    ),
    GoalLine(
        figure="time of a prediction, p90",
        unit="ms",
        limit=100,
        source="ours: below a tenth of a second an answer feels immediate (Miller 1968)",
        estimated=True,
    ),
    GoalLine(
        figure="MAE",
        unit="months",
        limit=8.5,
        source="ours, for 224 pixels and 27 epochs; the paper reports 6.8 at 224, 6.2 at 700",
        estimated=True,
    ),
    GoalLine(
        figure="drift, upper end of its 95 % interval",
        unit="months",
        limit=_GATE.max_drift_months or math.inf,
        source="ours: a week of bone age, which must not be lost beside errors of months",
        estimated=True,
    ),
    GoalLine(
        figure="change of a prediction, mean",
        unit="months",
        limit=_GATE.max_mean_change_months or math.inf,
        source="ours: MAE hides changes that cancel out",
        estimated=True,
    ),
    GoalLine(
        figure="change of a prediction, p99",
        unit="months",
        limit=_GATE.max_p99_change_months or math.inf,
        source="ours: less than readers differ by on one film, half a year (Larson et al. 2018)",
        estimated=True,
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
        figures = _figures(reports[bundle.name], bundle.manifest)
        lines += [_line(bundle.name, *pair) for pair in zip(GOALS, figures, strict=True)]
    return GoalResult(all(line.passed for line in lines), tuple(lines))


def _figures(report: BundleReport, manifest: Manifest) -> list[tuple[float | None, float | None]]:
    """Return the value of each goal, and the upper end of its interval; None where unknown."""
    assert manifest.multiply_adds is not None
    if report.error is not None:
        return [(None, None)] * len(GOALS)
    found: list[tuple[float | None, float | None]] = [
        (manifest.parameters, None),
        (manifest.multiply_adds / 1e6, None),
        (report.size_mb.get("regressor"), None),
        (report.int8_share, None),
    ]
    total = report.latency.stages.get("total") if report.latency else None
    found.append((total.p90_ms, _end(total.p90_ci95_ms)) if total else (None, None))
    drift = report.drift
    if drift is None:
        return found + [(None, None)] * (len(GOALS) - len(found))
    ends = (
        drift.bundle_mae_ci95_months,
        drift.drift_ci95_months,
        drift.mean_abs_change_ci95_months,
        drift.p99_abs_change_ci95_months,
    )
    values = (
        drift.bundle_mae_months,
        drift.drift_ci95_months[1],
        drift.mean_abs_change_months,
        drift.p99_abs_change_months,
    )
    enough = drift.samples >= LEAST_IMAGES
    found += [(v, _end(e) if enough else None) for v, e in zip(values, ends, strict=True)]
    return found


def _end(interval: tuple[float, float] | None) -> float | None:
    return None if interval is None else interval[1]


def _line(name: str, goal: GoalLine, figure: tuple[float | None, float | None]) -> GoalLine:
    value, upper = (None if x is None or not math.isfinite(x) else x for x in figure)
    upper = None if value is None else upper
    # An estimate passes if its interval ends within the limit.
    decides = upper if goal.estimated else value
    passed = (
        decides is not None
        and value is not None
        and (max(value, decides) <= goal.limit if goal.bound == "most" else decides >= goal.limit)
    )
    return msgspec.structs.replace(goal, bundle=name, value=value, upper=upper, passed=passed)
