"""Reports on disk, and the gate on them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from bakit.bench import Gate, Report, read_report
from bakit.bench.host import HostInfo
from bakit.bench.report import (
    SCHEMA_VERSION,
    BundleReport,
    DataInfo,
    DriftReport,
    DriftRow,
    Footprint,
    LatencyReport,
    Settings,
    StageTimes,
)
from bakit.cli.gate import command
from bakit.errors import InputError
from bakit.targets import Precision

if TYPE_CHECKING:
    from pathlib import Path

NAN = float("nan")


def make_bundle(
    name: str = "int8", high: float = 0.2, mae: float = 14.0, *, drift: bool = True
) -> BundleReport:
    return BundleReport(
        name=name,
        target="onnx",
        precision=Precision.INT8,
        provider="CPUExecutionProvider",
        bundle_sha256="b",
        checkpoint="bakit",
        checkpoint_sha256="c",
        size_mb={"localizer": 0.5, "regressor": 8.0},
        total_size_mb=8.5,
        latency=LatencyReport(10, 100, 5.0, 3, {"total": StageTimes(50.0, 60.0, 70.0, 51.0)}),
        footprint=Footprint(80.0, 60.0, 120.0),
        drift=DriftReport(
            samples=1,
            reference="fp32",
            reference_target="torch",
            is_reference=False,
            float_mae_months=13.9,
            bundle_mae_months=mae,
            drift_months=0.1,
            drift_ci95_months=(0.0, high),
            bias_months=0.3,
            mean_abs_change_months=0.5,
            p99_abs_change_months=2.0,
            max_abs_change_months=3.0,
            box_iou_mean=1.0,
            rows=(DriftRow("1377", 100.0, 101.0, 101.5),),
        )
        if drift
        else None,
    )


def make_report(*bundles: BundleReport, ids: str = "d") -> Report:
    bundles = bundles or (make_bundle(),)
    data = DataInfo("radiographs", 1, "all", 1, ids) if bundles[0].drift else None
    host = HostInfo("Linux 6", "x86_64", "CPU", 2, ("avx2",), None, "3.11", {"numpy": "2"})
    settings = Settings(100, 5.0, 10, 10, None, 2000, 0)
    return Report(SCHEMA_VERSION, host, settings, data, bundles)


def test_a_report_comes_back_as_it_was_written(tmp_path: Path) -> None:
    report = make_report(make_bundle(), make_bundle("other", high=1 / 3))
    path = tmp_path / "new" / "report.json"
    report.write(path)
    assert read_report(path) == report
    assert path.read_bytes() == report.encode() == read_report(path).encode()
    assert next(iter(json.loads(path.read_bytes()))) == "schema_version"


def test_a_report_without_drift_comes_back_too(tmp_path: Path) -> None:
    report = make_report(make_bundle(drift=False))
    report.write(tmp_path / "report.json")
    assert read_report(tmp_path / "report.json") == report


def change(report: Report, **values: object) -> bytes:
    return json.dumps({**json.loads(report.encode()), **values}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (change(make_report(), schema_version=2), "newer than this bakit's 1; upgrade"),
        (change(make_report(), colour="red"), "unknown field `colour`"),
        (change(make_report(), bundles=3), "Expected `array`"),
        (b"no json", "not a report"),
        (b"[]", "not a report"),
        (b"\xff\xfe", "not a report"),
        (b"", "not a report"),
    ],
)
def test_what_is_no_report_is_refused_in_one_line(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "report.json"
    path.write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_report(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_report_says_what_writes_one(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="bakit bench --json"):
        read_report(tmp_path / "none.json")
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path)


def test_a_report_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        make_report().write(tmp_path)


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"max_drift_months": 0.19}, "upper end of its 95 % interval 0.2 months, limit 0.19"),
        ({"max_mae_months": 13.9}, "MAE 14 months, limit 13.9 months"),
        ({"max_mean_change_months": 0.4}, "mean change .* 0.5 months, limit 0.4 months"),
        ({"max_p99_change_months": 1.9}, "p99 of the change .* 2 months, limit 1.9 months"),
        ({"max_p90_ms": 59.0}, "p90 of the total time 60 ms, limit 59 ms"),
        ({"max_size_mb": 8.4}, "size of the model files 8.5 MB, limit 8.4 MB"),
    ],
)
def test_each_limit_fails_alone_and_names_bundle_figure_and_limit(
    limits: dict[str, float], words: str
) -> None:
    result = Gate(**limits).check(make_report(make_bundle("my-int8")))
    assert not result.passed
    (failure,) = result.failures
    assert failure.startswith("my-int8: ")
    assert re.search(words, failure)


def test_figures_equal_to_their_limits_pass() -> None:
    gate = Gate(
        max_drift_months=0.2,
        max_mae_months=14.0,
        max_mean_change_months=0.5,
        max_p99_change_months=2.0,
        max_p90_ms=60.0,
        max_size_mb=8.5,
    )
    result = gate.check(make_report())
    assert result.passed
    assert result.failures == ()


def test_the_upper_end_decides_and_not_the_drift_itself() -> None:
    report = make_report(make_bundle(high=0.26))
    assert report.bundles[0].drift is not None
    assert report.bundles[0].drift.drift_months < 0.25
    assert not Gate().check(report).passed


@given(high=st.floats(-10, 10), limit=st.floats(0, 10))
def test_the_drift_passes_exactly_up_to_the_limit(high: float, limit: float) -> None:
    result = Gate(max_drift_months=limit).check(make_report(make_bundle(high=high)))
    assert result.passed == (high <= limit)


def test_nan_fails_every_limit_and_the_baseline() -> None:
    assert not Gate().check(make_report(make_bundle(high=NAN))).passed
    assert not Gate(max_mae_months=1e9).check(make_report(make_bundle(mae=NAN))).passed
    assert not Gate().check(make_report(make_bundle(mae=NAN)), make_report()).passed


@pytest.mark.parametrize("limit", [-1.0, NAN, float("inf")])
def test_limits_that_limit_nothing_are_refused(limit: float) -> None:
    with pytest.raises(InputError, match="max_p90_ms"):
        Gate(max_p90_ms=limit)


def test_one_failing_bundle_fails_the_report() -> None:
    result = Gate().check(make_report(make_bundle("a"), make_bundle("b", high=3.0)))
    assert not result.passed
    assert [(bundle.name, bundle.passed) for bundle in result.bundles] == [
        ("a", True),
        ("b", False),
    ]


def test_a_report_without_drift_passes_no_drift_limit() -> None:
    report = make_report(make_bundle(drift=False))
    with pytest.raises(InputError, match="benched without --data"):
        Gate().check(report)
    with pytest.raises(InputError, match="benched without --data"):
        Gate(max_drift_months=None, max_mae_months=20.0).check(report)
    assert Gate(max_drift_months=None, max_p90_ms=60.0).check(report).passed
    assert not Gate(max_drift_months=None, max_p90_ms=59.0).check(report).passed


def test_a_report_without_bundles_is_nothing_to_pass() -> None:
    with pytest.raises(InputError, match="no bundles"):
        Gate().check(msgspec.structs.replace(make_report(), bundles=()))


@pytest.mark.parametrize(("old_mae", "passed"), [(13.75, True), (13.74, False), (20.0, True)])
def test_the_mae_may_be_worse_than_the_baseline_by_the_limit(old_mae: float, passed: bool) -> None:
    baseline = make_report(make_bundle(mae=old_mae), make_bundle("unused"))
    result = Gate(max_drift_months=0.25).check(make_report(), baseline)
    assert result.passed == passed
    assert all("against the baseline's 13.74" in failure for failure in result.failures)


def test_a_baseline_that_cannot_be_compared_is_refused() -> None:
    report = make_report()
    with pytest.raises(InputError, match="int8: not in the baseline, which has other"):
        Gate().check(report, make_report(make_bundle("other")))
    with pytest.raises(InputError, match="the baseline has no drift"):
        Gate().check(report, make_report(make_bundle(drift=False)))
    with pytest.raises(InputError, match="other images"):
        Gate().check(report, make_report(ids="e"))
    with pytest.raises(InputError, match="needs a drift limit"):
        Gate(max_drift_months=None).check(report, report)


def run(folder: Path, report: Report, *options: str) -> Any:
    report.write(folder / "report.json")
    return CliRunner().invoke(command, [str(folder / "report.json"), *options])


def test_the_command_passes_with_0(tmp_path: Path) -> None:
    result = run(tmp_path, make_report())
    assert (result.exit_code, result.output) == (0, "pass  int8\n")


def test_the_command_fails_with_1_and_one_line_a_bundle(tmp_path: Path) -> None:
    report = make_report(make_bundle("a"), make_bundle("b", high=0.3))
    result = run(tmp_path, report, "--max-p90-ms", "60", "--max-size-mb", "9")
    assert result.exit_code == 1
    first, second = result.output.splitlines()
    assert first == "pass  a"
    assert second.startswith("fail  b: drift +0.1 months")


def test_the_command_prints_json(tmp_path: Path) -> None:
    result = run(tmp_path, make_report(), "--max-drift-months", "0.1", "--json")
    document = json.loads(result.output)
    assert result.exit_code == 1
    assert document["passed"] is False
    assert document["failures"][0].startswith("int8: ")
    assert document["bundles"][0]["name"] == "int8"


def test_the_command_takes_a_baseline(tmp_path: Path) -> None:
    make_report(make_bundle(mae=10.0)).write(tmp_path / "old.json")
    result = run(tmp_path, make_report(), "--baseline", str(tmp_path / "old.json"))
    assert result.exit_code == 1
    assert "+4 months against the baseline's 10" in result.output


def test_latency_alone_needs_no_drift(tmp_path: Path) -> None:
    result = run(
        tmp_path, make_report(make_bundle(drift=False)), "--no-drift", "--max-p90-ms", "60"
    )
    assert result.exit_code == 0


@pytest.mark.parametrize("options", [["--max-drift-months", "-1"], ["--baseline"], ["extra"]])
def test_wrong_usage_is_2(tmp_path: Path, options: list[str]) -> None:
    assert run(tmp_path, make_report(), *options).exit_code == 2


@pytest.mark.parametrize("options", [[], ["--max-p90-ms", "nan"]])
def test_what_cannot_be_gated_is_2(tmp_path: Path, options: list[str]) -> None:
    result = run(tmp_path, make_report(make_bundle(drift=False)), *options)
    assert isinstance(result.exception, InputError)
    assert result.exception.exit_status == 2


def test_through_the_bakit_command_bad_input_is_one_line_and_2(tmp_path: Path) -> None:
    from bakit.cli import main

    result = CliRunner().invoke(main, ["gate", str(tmp_path / "none.json")])
    assert result.exit_code == 2
    assert len(result.output.splitlines()) == 1
    make_report(make_bundle(high=9.0)).write(tmp_path / "report.json")
    assert CliRunner().invoke(main, ["gate", str(tmp_path / "report.json")]).exit_code == 1
