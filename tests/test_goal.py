"""The project's goal, line by line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import msgspec
import pytest

from bakit.bench.gate.goal import GOALS, GoalResult, check_candidates, check_goal
from bakit.bench.report.document import read_report
from bakit.bundle import Bundle
from bakit.errors import InputError
from bakit.model.checkpoint import SHIPPED, Checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.bench.report.document import Report
FIGURES = [goal.figure for goal in GOALS]


@pytest.fixture(scope="module")
def bundles(exported: Callable[..., Bundle]) -> list[Bundle]:
    return [exported("onnx", "fp32"), exported("onnx", "int8")]


@pytest.fixture(scope="module")
def report(bundles: list[Bundle], labelled) -> Report:
    from bakit.bench import run_bench

    return run_bench(bundles, labelled.folder, min_queries=2, min_duration_s=0, threads=1)


def with_int8(report: Report, **fields: object) -> Report:
    """Return the report with other fields of its INT8 bundle."""
    changed = [
        msgspec.structs.replace(b, **fields) if b.precision.value == "int8" else b
        for b in report.bundles
    ]
    return msgspec.structs.replace(report, bundles=tuple(changed))


def with_drift(report: Report, **fields: float) -> Report:
    int8 = next(b for b in report.bundles if b.precision.value == "int8")
    return with_int8(report, drift=msgspec.structs.replace(int8.drift, **fields))


def good(report: Report) -> Report:
    """Return the report with a good model's ages, and the time of an idle machine."""
    latency = next(b.latency for b in report.bundles if b.precision.value == "int8")
    total = msgspec.structs.replace(latency.stages["total"], p90_ms=12.0, p90_ci95_ms=(11, 13.0))
    latency = msgspec.structs.replace(latency, stages=latency.stages | {"total": total})
    return with_drift(
        with_int8(report, latency=latency),
        samples=400,
        bundle_mae_months=7.5,
        mean_abs_change_months=0.5,
        p99_abs_change_months=2.0,
        bundle_mae_ci95_months=(7.1, 7.8),
        drift_ci95_months=(0.0, 0.1),
        mean_abs_change_ci95_months=(0.45, 0.6),
        p99_abs_change_ci95_months=(2.0, 3.9),
    )


def failed(result: GoalResult) -> list[str]:
    return [line.figure for line in result.lines if not line.passed]


def test_the_goal_is_met_line_by_line(report, bundles):
    result = check_goal(good(report), bundles)
    assert (result.passed, failed(result)) == (True, [])
    assert [line.figure for line in result.lines] == FIGURES  # of the INT8 bundle alone
    assert all(line.source for line in result.lines)
    values = {line.figure: line.value for line in result.lines}
    assert values["parameters"] == 7_606_825
    assert 0.9 < values["multiply-adds in INT8"] < 1
    assert 7.6 < values["size of the regressor"] < 9


def test_a_bundle_that_failed_meets_no_line_of_the_goal(report, bundles):
    result = check_goal(with_int8(good(report), error="SIGSEGV"), bundles)
    assert failed(result) == FIGURES


@pytest.mark.parametrize(
    ("fields", "figure"),
    [
        ({"bundle_mae_ci95_months": (8.2, 8.6)}, "MAE"),
        ({"bundle_mae_months": 8.6}, "MAE"),
        ({"drift_ci95_months": (0.1, 0.26)}, "drift, upper end of its 95 % interval"),
        ({"mean_abs_change_ci95_months": (0.5, 0.8)}, "change of a prediction, mean"),
        ({"p99_abs_change_ci95_months": (2.0, float("nan"))}, "change of a prediction, p99"),
        ({"p99_abs_change_ci95_months": None}, "change of a prediction, p99"),
    ],
)
def test_ages_that_miss_it(report, bundles, fields, figure):
    result = check_goal(with_drift(good(report), **fields), bundles)
    assert (result.passed, failed(result)) == (False, [figure])


def test_no_line_on_ages_passes_on_a_handful_of_images(report, bundles):
    result = check_goal(with_drift(good(report), samples=6), bundles)
    assert failed(result) == FIGURES[-4:]


@pytest.mark.parametrize(
    ("fields", "figure"),
    [
        ({"size_mb": {"regressor": 9.1}}, "size of the regressor"),
        ({"size_mb": {}}, "size of the regressor"),
        ({"int8_share": 0.89}, "multiply-adds in INT8"),
        ({"latency": None}, "time of a prediction, p90"),
    ],
)
def test_costs_that_miss_it(report, bundles, fields, figure):
    result = check_goal(with_int8(good(report), **fields), bundles)
    assert (result.passed, failed(result)) == (False, [figure])


def test_a_limit_that_is_reached_is_kept(report, bundles):
    exact = with_drift(good(report), bundle_mae_ci95_months=(8, 8.5), drift_ci95_months=(0.0, 0.25))
    assert check_goal(exact, bundles).passed


def test_without_drift_its_lines_fail(report, bundles):
    result = check_goal(with_int8(good(report), drift=None), bundles)
    assert failed(result) == FIGURES[FIGURES.index("MAE") :]
    assert {line.value for line in result.lines if not line.passed} == {None}


def test_the_shipped_model_has_the_paper_s_parameters():
    assert Checkpoint.read(SHIPPED).parameters == 7_606_825


def test_multiply_adds_of_the_first_layer_are_counted(bundles):
    """16 kernels of 3 x 3 on one grey channel, at 112 x 112 places: by hand."""
    from bakit.export.onnx.int8 import multiply_adds
    from bakit.export.onnx.regressor import regressor_model

    counts = multiply_adds(regressor_model(Checkpoint.read(SHIPPED)))
    assert next(iter(counts.values())) == 16 * 9 * 112 * 112
    assert sum(counts.values()) == 215_099_248
    assert bundles[0].manifest.multiply_adds == bundles[1].manifest.multiply_adds


def test_there_must_be_an_int8_bundle(bundles):
    with pytest.raises(InputError, match="bakit export --target onnx --int8"):
        check_candidates(bundles[:1])


def test_a_bundle_of_an_older_bakit_is_refused(bundles):
    old = msgspec.structs.replace(bundles[1].manifest, parameters=None)
    with pytest.raises(InputError, match="export it again"):
        check_candidates([Bundle(bundles[1].root, old, "")])


def test_a_bundle_that_is_not_in_the_report_is_refused(report, bundles):
    fewer = msgspec.structs.replace(report, bundles=report.bundles[:1])
    with pytest.raises(InputError, match="not in the report"):
        check_goal(fewer, bundles)


def test_bench_prints_the_goal_and_exits_with_1_where_it_is_missed(
    bundles, labelled, tmp_path, monkeypatch
):
    """An untrained model misses the MAE; the report is whole all the same."""
    from click.testing import CliRunner

    from bakit.cli import main

    monkeypatch.chdir(tmp_path)
    paths = [str(bundle.root) for bundle in bundles]
    options = ["--data", str(labelled.folder), "--queries", "2", "--seconds", "0", "--threads", "1"]
    files = ["--json", "r.json", "--html", "r.html", "--md", "r.md", "--goal-json", "goal.json"]
    result = CliRunner().invoke(main, ["bench", *paths, *options, *files])
    assert result.exit_code == 1, result.output
    lines = result.stdout.splitlines()
    assert any(line.startswith("pass  parameters ") for line in lines)
    assert any(line.startswith("FAIL  MAE ") for line in lines)
    assert lines[-2].startswith("the goal is missed: ")
    document = json.loads((tmp_path / "goal.json").read_bytes())
    assert document["passed"] is False
    assert len(document["lines"]) == len(GOALS)
    assert len(read_report(tmp_path / "r.json").bundles) == 2
    assert "<!doctype html>" in (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "| bundle |" in (tmp_path / "r.md").read_text(encoding="utf-8")


def test_the_goal_needs_labelled_images(refused, bundles):
    message = refused("bench", bundles[1].root, "--goal")
    assert "need labelled images: add --data" in message
