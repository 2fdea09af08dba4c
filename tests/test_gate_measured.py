"""The gate passes nothing that was not measured: each test holds one way round it."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import textwrap
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from bakit.bench import Gate, GateResult, read_report
from bakit.bench.gate.accuracy import Figure, decide
from bakit.bench.gate.check import LIMITS
from bakit.bench.gate.output import COLUMNS, github_lines, table_rows, write_junit
from bakit.bench.gate.verdict import PASSING, KnownFailure
from bakit.bench.render.markdown import render_checks
from bakit.bench.report.latency import StageTimes, pack_samples
from bakit.cli import main
from bakit.errors import InputError
from bakit.types import Precision
from tests.test_gate import (
    NO_AGES,
    make_bundle,
    make_drift,
    make_group,
    make_latency,
    make_reference,
    make_report,
    run,
    verdict_lines,
)

if TYPE_CHECKING:
    from bakit.bench import Report
    from bakit.bench.report.document import BundleReport

pytestmark = pytest.mark.usefixtures("made_up_figures")

TODAY = date(2030, 1, 1)
ROOT = Path(__file__).parents[1]


def known(bundle: str, limit: str) -> KnownFailure:
    return KnownFailure(bundle, limit, "it is being repaired", date(2030, 5, 31))


def crashed(name: str = "int8", **changes: Any) -> BundleReport:
    changes = {"latency": None, "drift": None, "error": "SIGSEGV", **changes}
    return make_bundle(name, **changes)


# Bundles that are missing


def test_a_bundle_of_the_baseline_that_is_missing_fails() -> None:
    report = make_report(make_bundle("fp32", precision=Precision.FP32))
    baseline = make_report(*report.bundles, make_bundle("int8"))
    result = Gate().check(report, baseline)
    assert (result.passed, result.outcome) == (False, "not-measured")
    assert [(verdict.name, verdict.passed) for verdict in result.bundles] == [
        ("fp32", True),
        ("int8", False),
    ]
    assert result.failures[0].startswith("int8: it is in the baseline and not in the report")


def test_a_required_bundle_that_is_missing_fails() -> None:
    gate = Gate(**NO_AGES)
    result = gate.check(make_report(), require=["int8", "other"])
    assert [(verdict.name, verdict.outcome) for verdict in result.bundles] == [
        ("int8", "pass"),
        ("other", "not-measured"),
    ]
    assert gate.check(make_report(), require=["int8", "int8"]).passed


def test_a_required_bundle_that_failed_fails_though_its_failure_is_known() -> None:
    report = make_report(make_bundle("fp16", precision=Precision.FP16), crashed())
    expected = [known("int8", "failed")]
    assert Gate().check(report, known=expected, today=TODAY).passed
    result = Gate().check(report, known=expected, today=TODAY, require=["int8"])
    assert result.outcome == "not-measured"
    assert "required and failed" in result.failures[0]


def test_a_missing_bundle_can_be_a_known_failure() -> None:
    expected = [known("oth*", "measured")]
    result = Gate().check(make_report(), known=expected, today=TODAY, require=["other"])
    assert (result.passed, result.outcome) == (True, "known")
    assert "measured" in LIMITS


def test_a_bundle_without_any_numbers_fails() -> None:
    report = make_report(make_bundle(), make_bundle("empty", latency=None, drift=None))
    result = Gate(**NO_AGES, max_size_mb=100).check(report)
    assert result.failures[0].startswith("empty: the report has neither its times nor its ages")


def test_two_bundles_of_one_name_are_refused() -> None:
    good, bad = make_bundle(), make_bundle(high=9.0)
    for report, baseline in (
        (make_report(good, bad), None),
        (make_report(), make_report(good, bad)),
    ):
        with pytest.raises(InputError, match="has 2 bundles called 'int8'"):
            Gate().check(report, baseline)


def test_a_bundle_that_failed_in_the_baseline_has_nothing_to_compare_with() -> None:
    baseline = make_report(crashed(drift=make_drift(), latency=make_latency()))
    with pytest.raises(InputError, match=r"int8: failed in the baseline \(SIGSEGV\).*--update"):
        Gate().check(make_report(), baseline)


def test_another_bundle_under_the_name_of_the_baselines_is_refused() -> None:
    report = make_report(make_bundle("int8", precision=Precision.FP32))
    with pytest.raises(InputError, match="it is onnx int8 in the baseline and onnx fp32 in the"):
        Gate().check(report, make_report(make_bundle("int8")))


def test_a_baseline_that_nothing_is_compared_with_is_refused() -> None:
    report = make_report(make_bundle("new"), make_bundle("old"))
    gate = Gate(**NO_AGES, max_p90_ratio=2, ratio_to="old")
    assert gate.check(report).passed
    with pytest.raises(InputError, match="nothing would be compared with it"):
        gate.check(report, report)


# References


@pytest.mark.parametrize("drift", [True, False])
def test_a_report_of_references_alone_does_not_pass(drift: bool) -> None:
    reference = make_reference()
    if not drift:
        reference = msgspec.structs.replace(reference, drift=None)
    gate = Gate(**NO_AGES, max_p90_ms=100)
    result = gate.check(make_report(reference))
    assert (result.passed, result.outcome) == (False, "not-measured")
    assert result.failures[0].startswith("the report: no bundle was measured, except references")
    assert gate.check(make_report(reference, make_bundle(drift=drift))).passed


def test_a_report_whose_other_bundles_failed_does_not_pass_though_the_failures_are_known() -> None:
    report = make_report(make_reference(), crashed())
    assert not Gate().check(report, known=[known("*", "failed")], today=TODAY).passed


def test_a_bundle_that_is_only_marked_as_the_reference_is_refused() -> None:
    """Most limits do not apply to a reference."""
    report = make_report(make_bundle(drift=make_drift(high=9, is_reference=True)), make_bundle("b"))
    with pytest.raises(InputError, match="int8: the report marks it as the reference"):
        Gate().check(report)


# Limits that applied to nothing

UNUSED = {
    "min_int8_share": (Gate(min_int8_share=0.9), [make_bundle(precision=Precision.FP16)]),
    "max_p90_ratio": (Gate(max_p90_ratio=1.1, ratio_to="int8"), [make_bundle()]),
    "max_drift_pct": (Gate(max_drift_pct=1), [make_reference(), crashed()]),
    "max_group_drift_months": (Gate(max_group_drift_months=1), [make_reference(), crashed()]),
    "max_p90_ms": (Gate(**NO_AGES, max_p90_ms=99), [crashed(drift=make_drift())]),
    "max_size_mb": (Gate(**NO_AGES, max_size_mb=99), [crashed(drift=make_drift())]),
}


@pytest.mark.parametrize("limit", UNUSED)
def test_a_limit_that_applied_to_no_bundle_fails_and_is_named(limit: str) -> None:
    gate, bundles = UNUSED[limit]
    result = gate.check(make_report(*bundles))
    assert not result.passed
    (check,) = [check for check in result.checks if check.limit == limit]
    assert check.outcome == "not-measured"
    assert check.text.startswith(f"{limit} applied to no bundle: it needs ")
    assert f"--{limit.replace('_', '-')}" in check.advice


def test_a_default_limit_that_applied_to_no_bundle_is_a_note() -> None:
    result = Gate().check(make_report(make_reference(), crashed()))
    assert [check.limit for check in result.checks] == ["measured"]
    assert result.notes[0].startswith("max_drift_months applied to no bundle")
    assert len(result.notes) == len(NO_AGES)


def test_a_default_limit_that_is_given_must_apply_all_the_same() -> None:
    report = make_report(make_reference(), crashed())
    result = Gate(max_drift_months=0.25).check(report, explicit=["max_drift_months"])
    assert [check.limit for check in result.checks] == ["measured", "max_drift_months"]


@pytest.mark.parametrize("limit", ["max_drift_pct", *NO_AGES])
def test_a_drift_limit_without_drift_is_refused(limit: str) -> None:
    gate = Gate(**{**NO_AGES, limit: 1e9})
    with pytest.raises(InputError, match="benched without --data"):
        gate.check(make_report(make_bundle(drift=False)))


@pytest.mark.parametrize("latency", [None, msgspec.structs.replace(make_latency(), queries=0)])
def test_a_latency_limit_without_queries_is_refused(latency: Any) -> None:
    with pytest.raises(InputError, match="int8: the report has no times of it"):
        Gate(max_p90_ms=1e9).check(make_report(make_bundle(latency=latency)))


def test_groups_that_are_too_small_do_not_pass() -> None:
    for groups in ((), (make_group(samples=0, half=math.inf),)):
        result = Gate().check(make_report(make_bundle(drift=make_drift(groups=groups))))
        assert result.outcome in {"too-few-images", "fail"}


def test_a_gate_without_limits_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no limit is set: nothing to gate"):
        Gate(**NO_AGES).check(make_report())
    assert run(tmp_path, make_report(), "--no-drift", "--require", "int8").exit_code == 0


def test_a_bundle_that_no_limit_applies_to_is_named() -> None:
    report = make_report(make_reference(), make_bundle())
    assert Gate().check(report).bundles[0].notes == ("no limit applies to it",)


# Known failures


def test_a_known_failure_that_matches_nothing_is_a_note() -> None:
    expected = [
        known("gone-*", "max_drift_months"),
        known("int8", "max_size_mb"),
        known("int8", "max_drift_months"),
    ]
    result = Gate().check(make_report(make_bundle(high=3)), known=expected, today=TODAY)
    assert result.passed
    assert result.notes == (
        "gone-*: max_drift_months matches no check: take it from the known failures",
        "int8: max_size_mb matches no check: take it from the known failures",
    )


def test_no_known_failure_excuses_a_limit_that_applied_to_nothing() -> None:
    report = make_report(make_bundle(precision=Precision.FP32))
    expected = [known("*", "min_int8_share")]
    assert not Gate(min_int8_share=0.9).check(report, known=expected, today=TODAY).passed


# Numbers that are none

BAD = (math.nan, math.inf, -math.inf)


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize(
    "field",
    [
        *("drift_months", "bundle_mae_months", "mean_abs_change_months", "p99_abs_change_months"),
        *("drift_ci95_months", "bundle_mae_ci95_months"),
        *("mean_abs_change_ci95_months", "p99_abs_change_ci95_months"),
    ],
)
def test_a_figure_of_ages_that_is_no_number_does_not_pass(field: str, bad: float) -> None:
    gate = Gate(max_mae_months=1e9)
    values = [(0.0, bad), (bad, 0.1)] if "ci95" in field else [bad]
    for value in values:
        report = make_report(make_bundle(drift=make_drift(**{field: value})))
        assert not gate.check(report).passed


@pytest.mark.parametrize("bad", [*BAD, -1.0])
def test_a_time_a_size_or_a_share_that_is_no_number_does_not_pass(bad: float) -> None:
    latency = make_latency()
    stages = {"total": StageTimes(1.0, bad, 1.0, 1.0)}
    gate = Gate(max_p90_ms=1e9, max_size_mb=1e9, min_int8_share=0)
    assert gate.check(make_report()).passed
    for changes in (
        {"latency": msgspec.structs.replace(latency, stages=stages)},
        {"total_size_mb": bad},
        {"int8_share": bad},
    ):
        assert not gate.check(make_report(make_bundle(**changes))).passed
    assert not gate.check(make_report(make_bundle(int8_share=1.5))).passed


def test_times_of_0_have_no_ratio() -> None:
    """0 / 0 is above no limit."""
    still = msgspec.structs.replace(make_latency(), samples={"total": pack_samples([0] * 200)})
    report = make_report(make_bundle("new", latency=still), make_bundle("old", latency=still))
    with pytest.raises(InputError, match="a query took no time"):
        Gate(max_p90_ratio=1.1, ratio_to="old").check(report)


@pytest.mark.parametrize("turns", [(0, 0, 0, 0, 0, 200), (-5, 205), (100, 99), (200, 200)])
def test_turns_are_those_of_the_queries(turns: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"turns of .* queries, of 200"):
        msgspec.structs.replace(make_latency(), turns=turns)


def test_no_times_have_no_ratio() -> None:
    empty = msgspec.structs.replace(make_latency(), samples={"total": pack_samples([])})
    report = make_report(make_bundle("new", latency=empty), make_bundle("old", latency=empty))
    with pytest.raises(InputError, match="samples are damaged"):
        Gate(max_p90_ratio=1.1, ratio_to="old").check(report)


def test_times_of_a_bundle_that_failed_have_no_ratio() -> None:
    report = make_report(make_bundle("new"), crashed("old", latency=make_latency()))
    with pytest.raises(InputError, match=r"old: failed \(SIGSEGV\): its times cannot be compared"):
        Gate(max_p90_ratio=1.1, ratio_to="old").check(report)


def test_a_stability_that_is_no_number_is_unsteady() -> None:
    noisy = make_report(make_bundle(latency=make_latency(score=math.nan)))
    assert Gate(max_p90_ratio=9).check(noisy, make_report()).outcome == "unsteady"


def test_a_report_of_no_images_is_refused() -> None:
    report = make_report(make_bundle(drift=make_drift(samples=0)))
    with pytest.raises(InputError, match="predictions of 0 images"):
        Gate().check(report, report)


NUMBERS = st.floats() | st.sampled_from([0.0, -0.0, 1e-320, 1e308, 0.25])


@given(
    estimate=NUMBERS,
    interval=st.none() | st.tuples(NUMBERS, NUMBERS),
    limit=st.floats(0, allow_infinity=False, allow_nan=False),
    samples=st.integers(0, 10**7),
    least=st.sampled_from([1, 30, 368]),
)
def test_whatever_passes_is_finite_and_within_its_limit(
    estimate: float,
    interval: tuple[float, float] | None,
    limit: float,
    samples: int,
    least: int,
) -> None:
    outcome = decide(Figure("drift", estimate, interval), limit, samples, least)
    if outcome == "pass":
        assert interval is not None
        assert all(map(math.isfinite, (estimate, *interval)))
        assert max(estimate, *interval) <= limit
        assert samples >= least


NAMES = ("fp32", "fp16", "int8", "int8-b")


@st.composite
def bundles(draw: st.DrawFn, name: str) -> BundleReport:
    """Make a bundle that is sound, or has one number that is wild, or parts that are missing."""
    if name == "fp32":
        return make_reference()
    changes: dict[str, Any] = {"precision": Precision.INT8 if "int8" in name else Precision.FP16}
    if draw(st.integers(0, 3)) == 0:
        changes |= {"error": "SIGSEGV", "drift": None}
    if draw(st.booleans()):
        field = draw(st.sampled_from(["total_size_mb", "int8_share", "drift", "latency"]))
        number = draw(NUMBERS)
        if field == "drift":
            figure = draw(st.sampled_from(["drift_months", "p99_abs_change_months"]))
            changes.setdefault(field, make_drift(**{figure: number}))
        elif field == "latency":
            stages = {"total": StageTimes(1.0, number, 1.0, 1.0)}
            changes[field] = msgspec.structs.replace(make_latency(), stages=stages)
        else:
            changes[field] = number
    return make_bundle(name, **changes)


@st.composite
def reports(draw: st.DrawFn) -> Report:
    chosen = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    return make_report(*[draw(bundles(name)) for name in chosen])


GATES = st.builds(
    Gate,
    max_p90_ms=st.sampled_from([None, 59.0, 1e9]),
    max_size_mb=st.sampled_from([None, 8.5]),
    min_int8_share=st.sampled_from([None, 0.0, 0.9]),
    max_drift_pct=st.sampled_from([None, 50.0]),
)


@settings(deadline=None)
@given(report=reports(), gate=GATES, require=st.lists(st.sampled_from(NAMES)))
def test_a_report_that_passes_measured_all_that_was_asked_for(
    report: Report, gate: Gate, require: list[str]
) -> None:
    try:
        with pytest.MonkeyPatch.context() as patch:  # it takes a second, and decides nothing
            patch.setattr("bakit.bench.gate.power.images_to_pass", lambda *_: None)
            result = gate.check(report, require=require)
    except InputError:
        return
    rows = table_rows(result)
    assert len(rows) == len(result.all_checks)
    assert result.passed == all(check.outcome in PASSING for _, check in result.all_checks)
    if not result.passed:
        return
    measured = {bundle.name for bundle in report.bundles if bundle.error is None}
    assert measured >= {bundle.name for bundle in report.bundles} | set(require)
    assert measured - {"fp32"}
    applied = {check.limit for verdict in result.bundles for check in verdict.checks}
    assert {name for name in LIMITS if getattr(gate, name, None) is not None} <= applied
    for _, check in result.all_checks:
        assert check.value is not None
        assert check.bound is not None
        assert math.isfinite(check.value)
        if check.limit.startswith("min"):
            assert check.value >= check.bound
        else:
            assert max(check.value, check.upper or 0.0) <= check.bound


# The table, in every form


def full_result() -> GateResult:
    """Return a result with every verdict."""
    report = make_report(
        make_reference(),
        make_bundle(),
        make_bundle("few", high=0.3),
        make_bundle("slow", latency=make_latency(90)),
        make_bundle("known", high=3.0),
    )
    gate = Gate(max_p90_ms=60, max_p90_ratio=99.0, ratio_to="int8", max_mae_months=20)
    expected = [known("known", "max_drift_months")]
    return gate.check(report, known=expected, today=TODAY, require=["gone"])


def test_the_table_has_a_row_for_every_check() -> None:
    result = full_result()
    rows = table_rows(result)
    assert (
        "int8",
        "max_drift_months",
        "0.1 months",
        "0.2 months",
        "<= 0.25 months",
        "pass",
    ) in rows
    assert ("slow", "max_p90_ms", "90 ms", "-", "<= 60 ms", "fail") in rows
    assert ("gone", "measured", "-", "-", "-", "not measured") in rows
    assert {row[-1] for row in rows} == {"pass", "fail", "known", "too few images", "not measured"}
    (row,) = table_rows(Gate(min_int8_share=0.9).check(make_report(make_reference())))[-1:]
    assert row == ("the report", "min_int8_share", "-", "-", ">= 90 %", "not measured")


def test_text_json_junit_and_markdown_have_the_same_checks(tmp_path: Path) -> None:
    result = full_result()
    checks = [(name, check.limit) for name, check in result.all_checks]
    document = json.loads(msgspec.json.encode(result))
    assert checks == [
        (bundle["name"], check["limit"])
        for bundle in document["bundles"]
        for check in bundle["checks"]
    ]
    write_junit(result, tmp_path / "gate.xml")
    cases = ET.parse(tmp_path / "gate.xml").getroot().iter("testcase")
    assert checks == [
        (str(case.get("classname")).removeprefix("bakit gate."), case.get("name")) for case in cases
    ]
    lines = [line for line in render_checks(result).splitlines() if line.startswith("|")]
    assert len(lines) == 2 + len(checks)
    assert all(line.count(" | ") == len(COLUMNS) - 1 for line in lines)


def test_junit_has_the_checks_of_the_report(tmp_path: Path) -> None:
    write_junit(Gate().check(make_report(make_reference())), tmp_path / "gate.xml")
    suites = ET.parse(tmp_path / "gate.xml").getroot()
    assert [(suite.get("name"), suite.get("failures")) for suite in suites] == [
        ("fp32", "0"),
        ("the report", "1"),
    ]


def test_the_json_has_a_version_and_a_result_without_one_is_read() -> None:
    document = msgspec.to_builtins(full_result())
    assert document["schema_version"] == 2
    del document["schema_version"], document["checks"]
    for check in (check for bundle in document["bundles"] for check in bundle["checks"]):
        for name in ("value", "upper", "bound", "unit"):
            del check[name]
    old = msgspec.convert(json.loads(json.dumps(document)), GateResult)
    assert (old.schema_version, old.outcome) == (1, "fail")


def test_the_command_shows_the_table_and_what_was_not_measured(tmp_path: Path) -> None:
    report = make_report(make_bundle(precision=Precision.FP16))
    result = run(tmp_path, report, "--min-int8-share", "0.9", "--require", "other")
    assert result.exit_code == 1
    assert "Checks of int8" in result.output
    assert re.search(r"check +value +upper end +limit +verdict", result.output)
    assert re.search(r"max_drift_months +0.1 +0.2 +<= 0.25 months", result.output)
    lines = verdict_lines(result)
    assert "not-measured  other" in lines
    place = lines.index("not-measured  the report")
    assert lines[place + 1].startswith(
        "      min_int8_share applied to no bundle: it needs an INT8"
    )


def test_a_limit_given_on_the_command_line_must_apply_though_it_is_the_default(
    tmp_path: Path,
) -> None:
    report = make_report(make_reference(), crashed())
    result = run(tmp_path, report, "--max-drift-months", "0.25", "--json")
    checks = json.loads(result.output)["checks"]
    assert [check["limit"] for check in checks] == ["measured", "max_drift_months"]


def test_the_summary_of_a_github_job_gets_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary, page = tmp_path / "summary.md", tmp_path / "gate.md"
    summary.write_text("before\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(summary))
    run(tmp_path, make_report(), "--no-github")
    assert summary.read_text() == "before\n"
    result = run(tmp_path, make_report(), "--github", "--md", str(page))
    assert result.exit_code == 0
    assert summary.read_text() == "before\n" + page.read_text()
    assert page.read_text().startswith("### bakit gate: passed\n")
    for place in (tmp_path, Path("/dev/full")):
        monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(place))
        result = run(tmp_path, make_report(), "--github")
        assert result.exit_code == 2
        assert result.stderr.startswith(f"bakit: {place}: the page cannot be written (")


def test_a_new_baseline_that_lacks_a_bundle_says_so(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline.json"
    make_report(make_bundle(), make_bundle("gone")).write(baseline)
    options = ("--baseline", str(baseline))
    assert run(tmp_path, make_report(), *options).exit_code == 1
    result = run(tmp_path, make_report(), *options, "--update")
    assert result.exit_code == 0
    assert "note: gone: no longer in the baseline" in result.output
    assert read_report(baseline) == make_report()
    baseline.write_text("damaged")
    assert run(tmp_path, make_report(), *options, "--update").exit_code == 0


# Names that a terminal or GitHub would obey

HOSTILE = "\x1b]0;title\x07\x1b[31m\u202eint8\n::error::\r\x9b2J"


@given(name=st.text(min_size=1) | st.just(HOSTILE))
@settings(deadline=None, max_examples=10)
def test_no_name_reaches_the_terminal_raw(name: str, tmp_path_factory: Any) -> None:
    folder = tmp_path_factory.mktemp("names")
    report = make_report(make_bundle("new", high=3.0), make_bundle(f"x{name}", error=name))
    report.write(folder / "report.json")
    for options in (["--github"], ["--json"], ["--max-p90-ratio", "1", "--ratio-to", "gone"]):
        result = CliRunner().invoke(main, ["gate", str(folder / "report.json"), *options])
        assert result.exit_code in {1, 2}
        assert all(letter.isprintable() or letter == "\n" for letter in result.output)
    gated = Gate().check(report)
    page = render_checks(gated)
    assert all(letter.isprintable() or letter == "\n" for letter in page)
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(gated.all_checks)
    write_junit(gated, folder / "gate.xml")
    ET.parse(folder / "gate.xml")


def test_github_obeys_no_command_in_a_name(tmp_path: Path) -> None:
    report = make_report(make_bundle("::warning::obeyed"))
    lines = run(tmp_path, report, "--github").output.splitlines()
    token = lines[0].removeprefix("::stop-commands::")
    assert token != lines[0]
    end = lines.index(f"::{token}::")
    assert any("::warning::obeyed" in line for line in lines[:end])
    assert not any("obeyed" in line for line in lines[end:])
    assert run(tmp_path, report, "--github").output.splitlines()[0] != lines[0]


def test_annotations_name_what_was_not_measured() -> None:
    lines = github_lines(Gate().check(make_report(make_reference()), require=["gone"]))
    assert lines[0].startswith("::error title=bakit gate%3A gone%3A not-measured::it is required")
    assert lines[1].startswith("::error title=bakit gate%3A the report%3A not-measured::no bundle")


# The action of GitHub


def step(name: str) -> str:
    """Return the script of a step of action.yml."""
    text = (ROOT / "action.yml").read_text()
    _, _, text = text.partition(f"- name: {name}\n")
    _, _, text = text.partition("      run: |\n")
    lines = itertools.takewhile(lambda line: line.startswith(" " * 8), text.splitlines())
    return textwrap.dedent("\n".join(lines))


def act(folder: Path, bakit: str, name: str, **inputs: str) -> int:
    """Run a step as GitHub does, with a program in place of bakit."""
    program = folder / "bin" / "bakit"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f"#!/bin/sh\n{bakit}\n")
    program.chmod(0o755)
    environment = {"PATH": f"{program.parent}:{os.environ['PATH']}", **inputs}
    environment |= {name: str(folder / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step(name)]
    return subprocess.run(command, cwd=folder, env=environment, check=False).returncode


def test_the_action_gates_no_report_of_an_earlier_run(tmp_path: Path) -> None:
    (tmp_path / "report.json").write_text("old")
    inputs = {"BUNDLES": "a b", "DATA": "data", "REPORT": "report.json", "OPTIONS": ""}
    assert act(tmp_path, "exit 1", "Bench", **inputs) == 0
    assert not (tmp_path / "report.json").exists()
    assert act(tmp_path, "exit 2", "Bench", **inputs) != 0


def test_the_action_requires_each_bundle_that_is_named(tmp_path: Path) -> None:
    inputs = {"REPORT": "r", "LIMITS": "--max-p90-ms 9", "REQUIRE": "a b", "JUNIT": "j"}
    assert act(tmp_path, 'echo "$@" > arguments; exit 1', "Gate", **inputs) == 1
    words = "gate r --max-p90-ms 9 --require a --require b --junit j --github\n"
    assert (tmp_path / "arguments").read_text() == words


@pytest.mark.parametrize(("status", "passed"), [(0, "true"), (1, "false"), (2, "false")])
def test_the_action_reports_its_result_and_a_summary(tmp_path: Path, status, passed) -> None:
    bakit = f'test $1 = report && echo table > "$4" && exit 0; exit {status}'
    inputs = {"REPORT": "r", "LIMITS": "", "REQUIRE": "", "JUNIT": "j"}
    assert act(tmp_path, bakit, "Gate", **inputs) == status
    assert (tmp_path / "GITHUB_OUTPUT").read_text() == f"passed={passed}\n"
    assert (tmp_path / "GITHUB_STEP_SUMMARY").read_text() == "table\n"


def test_the_action_pins_what_it_uses() -> None:
    text = (ROOT / "action.yml").read_text()
    uses = re.findall(r"uses: (\S+)", text)
    assert uses
    assert all(re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", item) for item in uses)
