"""From what the phone posted to the same report as any other bench's."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
import numpy as np

from bakit.bench.conditions import judge
from bakit.bench.drift.compare import compare
from bakit.bench.host import read_host
from bakit.bench.local.latency import stage_times
from bakit.bench.local.run import provenance
from bakit.bench.phone.browser import browser_name, device_name
from bakit.bench.phone.web import PACKAGE, wanted_version
from bakit.bench.report.document import (
    SCHEMA_VERSION,
    BundleReport,
    Footprint,
    LatencyReport,
    Report,
)
from bakit.bench.report.latency import pack_samples
from bakit.bench.report.phone import Phone
from bakit.bench.task import model_sizes
from bakit.errors import VerificationError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.phone.inputs import DriftInputs
    from bakit.bench.phone.messages import Device, Plan
    from bakit.bench.phone.session import BundleNumbers, Session
    from bakit.bench.report.document import DataInfo, DriftReport, Settings
    from bakit.bundle import Bundle
    from bakit.data.labels import Sample

MAX_LOCALIZER_DIFFERENCE = 0.02
"""Largest difference of a certainty, or share of labels that differ: both far above what adding
float32 in another order gives (1e-5 in Chromium), and far below what moves a box."""


def join_report(
    session: Session,
    plan: Plan,
    bundles: Sequence[Bundle],
    references: Sequence[Bundle],
    samples: Sequence[Sample],
    drift: DriftInputs,
    data: DataInfo,
    settings: Settings,
    measured_at: str,
) -> Report:
    """Make the report of what there is; a bundle that lacks something says why.

    Drift is left out unless the ages of all images came: of some it would be that of other images
    than the report names.

    Args:
        session: The run, over.
        plan: What the phone was to do.
        bundles: The bundles of the plan.
        references: The reference of each.
        samples: The drift set.
        drift: The drift set as the phone read it.
        data: The drift set, described.
        settings: How was measured.
        measured_at: When the run began, in UTC.

    Raises:
        VerificationError: If there are no times of any bundle.
    """
    device = session.device
    if device is None or not any(numbers.localize_ms for numbers in session.numbers):
        message = f"the phone measured nothing: {session.problem}"
        raise VerificationError(message)
    reports = []
    for index, numbers in enumerate(session.numbers):
        ages = None
        if len(numbers.ages_months) == len(samples):
            ages = compare(
                samples,
                drift.float_months[index],
                np.array(numbers.ages_months),
                references[index],
                is_reference=False,  # even of one bundle: the phone's library is another
                box_iou_mean=drift.box_iou_mean[index],
            )
        report = _bundle_report(bundles[index], numbers, plan, ages)
        if ages is None:
            report = msgspec.structs.replace(report, error=session.problem)
        reports.append(report)
    return Report(
        schema_version=SCHEMA_VERSION,
        host=read_host(),
        settings=settings,
        data=data,
        bundles=tuple(reports),
        partial=session.problem is not None,
        measured_at=measured_at,
        phone=_phone(session, plan, device),
    )


def _bundle_report(
    bundle: Bundle, numbers: BundleNumbers, plan: Plan, drift: DriftReport | None
) -> BundleReport:
    manifest, loaded = bundle.manifest, numbers.loaded
    size_mb, total_size_mb = model_sizes(bundle)
    return BundleReport(
        name=bundle.name,
        target=manifest.target,
        precision=manifest.precision,
        provider=f"{PACKAGE} {plan.provider}",
        bundle_sha256=bundle.sha256,
        checkpoint=manifest.checkpoint,
        checkpoint_sha256=manifest.checkpoint_sha256,
        size_mb=size_mb,
        total_size_mb=total_size_mb,
        int8_share=bundle.artifact("regressor").int8_share,
        latency=_latency(numbers, plan, len(manifest.golden)) if numbers.localize_ms else None,
        footprint=Footprint(loaded.load_ms, loaded.first_ms, None) if loaded else None,
        drift=drift,
        provenance=provenance(bundle),
    )


def _latency(numbers: BundleNumbers, plan: Plan, images: int) -> LatencyReport:
    """Summarise the times; ``total`` is that of the two networks, one after the other."""
    localize, regress = np.array(numbers.localize_ms), np.array(numbers.regress_ms)
    stages = {"localize": localize, "regress": regress, "total": localize + regress}
    return LatencyReport(
        warm_up=plan.warm_up,
        queries=len(localize),
        duration_s=float(stages["total"].sum()) / 1000,
        images=min(images, len(localize)),
        stages={name: stage_times(times, plan.block) for name, times in stages.items()},
        samples={
            name: pack_samples(np.round(times * 1e6).astype(int).tolist())
            for name, times in stages.items()
        },
        stability=judge(regress, None, None, here=False),
    )


def _phone(session: Session, plan: Plan, device: Device) -> Phone:
    goldens = {
        bundle.name: (bundle, numbers.golden)
        for bundle, numbers in zip(plan.bundles, session.numbers, strict=True)
        if numbers.golden is not None
    }
    months = {
        name: float(np.abs(np.subtract(golden.ages_months, bundle.golden_months)).max())
        for name, (bundle, golden) in goldens.items()
    }
    localizer = {name: max(golden.localizer_difference) for name, (_, golden) in goldens.items()}
    return Phone(
        device=device_name(device),
        browser=browser_name(device),
        user_agent=device.user_agent,
        provider=plan.provider,
        threads=plan.threads,
        logical_cores=device.logical_cores,
        isolated=device.isolated,
        timer_step_ms=device.timer_step_ms,
        runs_per_sample=max(numbers.runs_per_sample for numbers in session.numbers),
        runtime=f"{PACKAGE} {wanted_version()}",
        golden_max_difference_months=months,
        golden_max_difference_localizer=localizer,
        problem=session.problem,
    )


def golden_failures(report: Report, bundles: Sequence[Bundle]) -> list[str]:
    """Return what is wrong with the phone's golden answers; empty if nothing is."""
    if report.phone is None:
        return []
    tolerance = {bundle.name: bundle.manifest.tolerance_months for bundle in bundles}
    failures = [
        f"{name}: a golden age is {value:.3g} months from the bundle's own, "
        f"limit {tolerance[name]:g}"
        for name, value in report.phone.golden_max_difference_months.items()
        if value > tolerance[name]
    ]
    failures += [
        f"{name}: the localizer's map of a golden image is off by {value:.3g}, "
        f"limit {MAX_LOCALIZER_DIFFERENCE:g}"
        for name, value in report.phone.golden_max_difference_localizer.items()
        if value > MAX_LOCALIZER_DIFFERENCE
    ]
    return failures
