"""A report whose figures do not follow from its ages and times does not pass the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner

from bakit.bench.conditions import judge, stage_times
from bakit.bench.report.drift import DriftReport, GroupDrift
from bakit.bench.report.latency import LatencyReport, Stability, StageTimes, pack_samples
from bakit.cli import main
from bakit.data.splits import ids_digest
from tests.test_gate import make_bundle, make_report, resampled

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bench.report.document import Report

LIMITS = ("--max-p90-ms", "100", "--max-group-drift-months", "9", "--max-group-change-months", "9")
TAKEN = {"reference", "reference_target", "is_reference", "box_iou_mean", "blame", "rows"}
FIGURES = [name for name in DriftReport.__struct_fields__ if name not in TAKEN]


@pytest.fixture(scope="module")
def report() -> Report:
    drift = resampled(700, 0, scale=0.2)
    times_ns = np.random.default_rng(0).integers(40_000_000, 50_000_000, 400)
    times = stage_times(times_ns / 1e6)
    packed = pack_samples(times_ns.tolist())
    samples = {"total": packed, "regress": packed}
    steady = judge(times_ns.astype(float), None, None)
    latency = LatencyReport(10, 400, 18.0, 5, {"total": times}, samples, steady)
    made = make_report(make_bundle(drift=drift, latency=latency), ids=ids_digest(drift.rows))
    return msgspec.structs.replace(made, data=msgspec.structs.replace(made.data, samples=700))


def gate(report: Report, folder: Path) -> tuple[int, str]:
    report.write(folder / "report.json")
    result = CliRunner().invoke(main, ["gate", str(folder / "report.json"), *LIMITS])
    return result.exit_code, result.output


def changed(report: Report, part: str, **figures: Any) -> Report:
    (bundle,) = report.bundles
    new = msgspec.structs.replace(getattr(bundle, part), **figures)
    bundle = msgspec.structs.replace(bundle, **{part: new})
    return msgspec.structs.replace(report, bundles=(bundle,))


def nudged(value: Any) -> Any:
    """Return a figure, an interval or groups, a little better."""
    if isinstance(value, GroupDrift):
        return msgspec.structs.replace(value, drift_ci95_months=(0.0, 0.01))
    if isinstance(value, tuple):
        last = value[-1]
        return (*value[:-1], nudged(last) if isinstance(last, GroupDrift) else last - 0.2)
    return 999 if value is None else value - (1 if isinstance(value, int) else 1e-4)


def test_a_report_as_it_was_measured_passes(report: Report, tmp_path: Path) -> None:
    status, output = gate(report, tmp_path)
    assert status == 0, output


@pytest.mark.parametrize("name", FIGURES)
def test_each_figure_of_the_ages_has_to_follow(report: Report, tmp_path: Path, name: str) -> None:
    edited = nudged(getattr(report.bundles[0].drift, name))
    status, output = gate(changed(report, "drift", **{name: edited}), tmp_path)
    assert status == 2, output
    assert len(output.splitlines()) == 1
    assert "bench again" in output


@pytest.mark.parametrize("name", StageTimes.__struct_fields__)
def test_each_figure_of_the_times_has_to_follow(report: Report, tmp_path: Path, name: str) -> None:
    latency = report.bundles[0].latency
    assert latency is not None
    total = latency.stages["total"]
    edited = msgspec.structs.replace(total, **{name: nudged(getattr(total, name))})
    status, output = gate(changed(report, "latency", stages={"total": edited}), tmp_path)
    assert status == 2, output
    assert f"latency of total: {name} is" in output


def test_no_run_can_be_called_steadier(report: Report, tmp_path: Path) -> None:
    status, output = gate(changed(report, "latency", stability=Stability(100.0)), tmp_path)
    assert (status, "latency's stability (score, whether steady) is" in output) == (2, True)


@pytest.mark.parametrize("name", ["groups", "tails"])
def test_no_group_can_be_left_out(report: Report, tmp_path: Path, name: str) -> None:
    groups = getattr(report.bundles[0].drift, name)
    assert len(groups) > 0
    status, output = gate(changed(report, "drift", **{name: groups[1:]}), tmp_path)
    assert (status, "its rows give" in output) == (2, True)


def test_ages_of_other_images_do_not_pass(report: Report, tmp_path: Path) -> None:
    assert report.data is not None
    data = msgspec.structs.replace(report.data, ids_sha256="other")
    status, output = gate(msgspec.structs.replace(report, data=data), tmp_path)
    assert (status, "not of its data's images" in output) == (2, True)


def test_a_figure_that_is_rounded_otherwise_is_no_fault(report: Report, tmp_path: Path) -> None:
    drift = report.bundles[0].drift
    assert drift is not None
    low, high = drift.drift_ci95_months
    other = (low + 1e-9, high)
    assert gate(changed(report, "drift", drift_ci95_months=other), tmp_path)[0] == 0
    other = (low + 0.02 * (high - low), high)
    assert gate(changed(report, "drift", drift_ci95_months=other), tmp_path)[0] == 2


def test_figures_that_were_not_measured_are_not_asked_for(report: Report, tmp_path: Path) -> None:
    older = changed(report, "drift", limits_of_agreement_months=None)
    assert gate(older, tmp_path)[0] == 0
