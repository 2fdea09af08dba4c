"""Causes of a bundle's failure, and remedies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport, GroupDrift
    from bakit.bench.report.latency import LatencyReport

NAMED = 3
"""Groups that a failure names at most."""

_SAME_BOXES = 0.98
_SHIFTED = 0.8


def worst_groups(groups: Sequence[GroupDrift], limit: str) -> tuple[str, ...]:
    """Name the groups that a limit of the gate fails by most, the worst first."""
    figure = "drift_months"
    if "change" in limit:
        figure = "mean_change_months" if "group" in limit else "mean_abs_change_months"
    signed = figure == "mean_change_months"
    found = [(getattr(group, figure), group) for group in groups]
    found.sort(key=lambda pair: -abs(pair[0]) if signed else -pair[0])
    return tuple(
        f"{group.name} ({months:+.2f} months on {group.samples} images)"
        for months, group in found[:NAMED]
        if signed or months > 0
    )


def for_drift(bundle: BundleReport, drift: DriftReport) -> str:
    """Return a remedy for ages that differ from the float model's."""
    if drift.box_iou_mean < _SAME_BOXES:
        return (
            f"the hands' boxes differ (mean overlap {drift.box_iou_mean:.2f}): export bundle and "
            "reference with the same --localizer and run bakit verify"
        )
    if drift.blame:
        step = max(drift.blame, key=lambda item: item.mean_abs_change_months)
        if step.step == "conversion":
            return f"{step.after} itself differs from {step.before}: export it again, bakit verify"
        if step.step == "device":
            change = f"{step.mean_abs_change_months:.2f} months of change a child"
            return (
                f"{bundle.target} computes the model of {step.before} otherwise ({change}): run "
                "bakit verify here, try another version of the library"
            )
    if bundle.precision is Precision.FP32:
        return "the float model is not what runs: run bakit verify on this bundle, export it again"
    shift = abs(drift.mean_change_months or 0.0)
    if shift > _SHIFTED * drift.mean_abs_change_months:
        return (
            "all ages move to one side, as by a wrong range, scale or preprocessing: export again "
            "from the checkpoint, with ranges gathered on it (bakit calibrate)"
        )
    return (
        "ranges from images like these (bakit calibrate), then export again; else ship a float one"
    )


def for_latency(bundle: BundleReport, latency: LatencyReport) -> str:
    """Return a remedy for a slow bundle."""
    if latency.stability and latency.stability.warning:
        cause = "; ".join(latency.stability.causes) or "the machine was busy"
        return f"bench again on a quiet machine ({latency.stability.warning}: {cause})"
    stages = {name: times.mean_ms for name, times in latency.stages.items() if name != "total"}
    if not stages:
        return "another target or precision (bakit targets)"
    slowest = max(stages, key=stages.__getitem__)
    share = stages[slowest] / max(sum(stages.values()), 1e-9)
    return f"{slowest} takes {100 * share:.0f} % of {bundle.name}'s time; try --threads or a target"
