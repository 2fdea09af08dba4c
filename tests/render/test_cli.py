"""``bakit report`` and what ``bakit bench`` prints."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from click.testing import CliRunner

from bakit.bench.gate.recommend import recommend
from bakit.bench.render import render_html
from bakit.bench.report.document import read_report
from bakit.bench.report.latency import pack_samples
from bakit.cli import main
from bakit.cli.report import next_command, print_report
from bakit.cli.tables import next_step
from bakit.studies.demo import GATE, DemoResult


@pytest.fixture
def run():
    return lambda *arguments: CliRunner().invoke(main, ["report", *map(str, arguments)])


@pytest.fixture
def report_file(make_report, tmp_path):
    path = tmp_path / "report.json"
    make_report().write(path)
    return path


def test_tables_rank_and_the_next_command_follows(run, report_file):
    result = run(report_file)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    first = next(index for index, line in enumerate(lines) if "model-onnx-int8" in line)
    assert "ship this" in lines[first]
    assert "option" in lines[first + 1]
    assert any(line.startswith("Ship onnx INT8: 5 ms a radiograph") for line in lines)
    assert result.stderr == f"next: bakit gate {report_file}\n"


@pytest.mark.parametrize(
    ("queries", "ends", "words"),
    [
        (120, None, "none: 368 queries are needed"),
        (400, None, "none: the speed changed"),
        (400, (4.9, 5.125), "4.90 to 5.12"),
    ],
)
def test_the_interval_of_this_run_or_why_there_is_none_is_printed(
    make_bundle, make_report, capsys, queries, ends, words
):
    bundle = make_bundle()
    total = msgspec.structs.replace(bundle.latency.stages["total"], p50_ci95_ms=ends)
    packed = pack_samples([5 * 10**6] * queries)
    latency = msgspec.structs.replace(
        bundle.latency, queries=queries, stages={"total": total}, samples={"total": packed}
    )
    report = make_report(msgspec.structs.replace(bundle, latency=latency))
    print_report(report)
    line = f"model-onnx-int8: 95 % interval of p50 in this run, ms: {words}"
    assert line in capsys.readouterr().out.splitlines()
    assert words in render_html(report)
    summary = msgspec.structs.replace(latency, samples={})  # as of a phone's own program
    print_report(make_report(msgspec.structs.replace(bundle, latency=summary)))
    assert "in this run" not in capsys.readouterr().out


def test_a_page_and_markdown_are_written(run, report_file, tmp_path):
    html, md = tmp_path / "new/report.html", tmp_path / "report.md"
    result = run(report_file, "--html", html, "--md", md)
    assert result.exit_code == 0
    assert result.stdout == f"report: {html}\nreport: {md}\n"
    assert html.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert md.read_text(encoding="utf-8").startswith("### Ship onnx INT8")


def test_one_file_for_both_is_refused(refused, report_file):
    message = refused("report", report_file, "--html", "a", "--md", "./a")
    assert "a: given for two outputs; use another file" in message


def test_what_is_no_report_is_refused(refused, tmp_path):
    assert "cannot be read" in refused("report", "missing.json")
    (tmp_path / "other.json").write_text("{}")
    assert "not a report of bakit bench" in refused("report", "other.json", "--html", "a.html")


def test_damaged_times_are_refused(refused, make_bundle, make_report, tmp_path):
    report = make_report(make_bundle())
    report.bundles[0].latency.samples["total"] = "@@"
    try:
        report.write(tmp_path / "bad.json")
        assert "damaged" in refused("report", "bad.json", "--html", "a.html")
    finally:
        del report


@pytest.mark.parametrize(
    ("fields", "file", "words"),
    [
        ({"data": None}, None, "next: bakit bench --data DATA"),
        ({}, None, "then bakit gate report.json\n"),
        ({}, "my report.json", "next: bakit gate 'my report.json'\n"),
    ],
)
def test_the_next_command_fits(make_report, capsys, fields, file, words):
    next_step(*next_command(make_report(**fields), file and Path(file)))
    assert words in capsys.readouterr().err


def test_a_terminal_is_not_told_what_to_do_by_names(hostile_report, capsys):
    print_report(hostile_report)
    out = capsys.readouterr().out
    assert "\x00" not in out
    assert "alert(1)" in out


def test_failed_bundles_and_interruptions_are_printed(make_bundle, make_report, capsys):
    failed = make_bundle("openvino", error="it crashed", latency=None, footprint=None, drift=None)
    print_report(make_report(make_bundle(), failed, partial=True))
    out = capsys.readouterr().out
    assert "not measured" in out
    assert "failed: model-openvino-int8: it crashed" in out
    assert "The run was interrupted" in out


def test_the_demo_recommends_by_the_limits_of_its_gate(
    make_bundle, make_report, monkeypatch, tmp_path
):
    floats = make_bundle("onnx", "fp32", 6.0, 31.0, 0.0, 0.0)
    report = make_report(floats, make_bundle(change=1.75))
    some = SimpleNamespace(age_months=146.0)
    result = DemoResult(some, some, report, GATE.check(report), tmp_path / "report.json")
    monkeypatch.setattr("bakit.studies.demo.run_demo", lambda _out, _say: result)
    printed = CliRunner().invoke(main, ["demo"])
    assert printed.exit_code == 0, printed.output
    assert "Ship onnx INT8" in printed.stdout
    assert "the limit is 4)" in " ".join(printed.stdout.split())
    assert "over a limit" not in printed.stdout
    assert "gate: passed" in printed.stdout
    assert recommend(report).ship == floats.name, "the default limits are for real radiographs"


def test_what_was_written_can_be_read(report_file, make_report):
    assert read_report(report_file) == make_report()
