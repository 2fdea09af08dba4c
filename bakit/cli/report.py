"""``bakit report`` and ``bakit evidence``, their tables and files, and the project's goal."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bakit.cli.options import OUT_FILE, PATH, several
from bakit.cli.tables import echo, next_step, print_line, print_table, safe
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.gate.check import Gate
    from bakit.bench.gate.goal import GoalLine
    from bakit.bench.gate.recommend import Recommendation, Standing
    from bakit.bench.report.document import BundleReport, Report
    from bakit.bundle import Bundle

STAGES = ("decode", "localize", "preprocess", "regress", "total")
FIGURES = (
    *("p50, ms", "size, MB", "INT8", "load, ms", "memory, MB", "MAE, months"),
    "drift, months [95 %]",
)
"""Columns of the table of bundles, as in ``bakit.bench.render.words.bundle_cells``."""


def _check_html(
    _context: click.Context, _option: click.Parameter, file: Path | None
) -> Path | None:
    if file is not None:
        from bakit.bench.render import check_html

        check_html()
    return file


page_options = several(
    click.option(
        "--html",
        "html_file",
        type=OUT_FILE,
        callback=_check_html,
        metavar="FILE",
        help="Write the report as one self-contained HTML page (needs the extra report).",
    ),
    click.option(
        "--md",
        "md_file",
        type=OUT_FILE,
        metavar="FILE",
        help="Write the report as Markdown, short enough for a pull request.",
    ),
)
"""Options of ``write_pages``."""


def write_pages(report: Report, html_file: Path | None, md_file: Path | None) -> list[Path]:
    """Write the requested HTML and Markdown; return the files."""
    from bakit.bench.render import render_html, render_markdown
    from bakit.files import write_file

    pages = ((html_file, render_html), (md_file, render_markdown))
    drawn = [(path, render(report).encode()) for path, render in pages if path is not None]
    for path, data in drawn:
        write_file(path, data)
    return [path for path, _ in drawn]


@click.command("report")
@click.argument("report", type=PATH)
@page_options
def command(report: Path, html_file: Path | None, md_file: Path | None) -> None:
    """Show a REPORT written by bakit bench --json as tables, HTML or Markdown.

    The bundles are not needed, so the report may come from another machine.

    \b
    Example:
      bakit report report.json
      bakit report report.json --html report.html --md report.md
    """
    from bakit.bench import read_report
    from bakit.files import check_outputs

    check_outputs(html_file, md_file, inputs=[report])
    content = read_report(report)
    written = write_pages(content, html_file, md_file)
    if not written:
        print_report(content)
    for path in written:
        echo(f"report: {path}")
    next_step(*next_command(content, report))


@click.command("evidence")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
def evidence_command(files: tuple[Path, ...]) -> None:
    """Print what boards measured, as a Markdown table: one line for each engine.

    The files come from a kit (bakit bench --kit) and are written on the board by: python3
    bakit-kit/agent.py evidence

    Exit status: 0 done, 2 a file is not an evidence file.

    \b
    Example:
      bakit evidence evidence-Jetson-Orin-Nano-L4T-36.4.3.json.gz
    """
    from bakit.bench.device.evidence import read_evidence, rows, table

    lines = [line for file in files for line in rows(read_evidence(file))]
    echo("\n".join(map(safe, table(lines).splitlines())))
    next_step("bakit bench BUNDLE --host user@device --data DATA --reference FLOAT")


def print_report(report: Report, gate: Gate | None = None) -> None:
    """Print tables and the recommendation on stdout; by default with the gate's own limits."""
    from bakit.bench.gate.recommend import DEFAULT_GATE, recommend

    advice = recommend(report, gate or DEFAULT_GATE)
    _print_bundles(report, advice)
    _print_times(report, advice)
    for line in (*_notes(report), "", advice.sentence, *advice.others, *advice.caveats):
        print_line(line)


def next_command(report: Report, report_file: Path | None) -> tuple[str | Path, ...]:
    """Return the words of the suggested next command after a benchmark."""
    if report.data is None:
        then = "bakit bench --data DATA --json report.json   (labels.csv, images/: measures drift)"
        return (then,)
    if report_file is None:
        return ("bakit bench --data DATA --json report.json, then bakit gate report.json",)
    return "bakit gate", report_file


def _ranked(report: Report, advice: Recommendation) -> list[tuple[Standing, BundleReport]]:
    bundles = {bundle.name: bundle for bundle in report.bundles}
    return [(standing, bundles[standing.name]) for standing in advice.standings]


def _print_bundles(report: Report, advice: Recommendation) -> None:
    from rich.text import Text

    from bakit.bench.render.words import MINUS, NONE, STANDINGS, bundle_cells

    plain = str.maketrans(NONE + MINUS, "--")  # not every terminal has these characters
    styles = {"ship": "bold green", "refused": "red", "unmeasured": "red"}
    rows: list[tuple[str | Text, ...]] = []
    for standing, bundle in _ranked(report, advice):
        cells = bundle_cells(bundle)
        what = f"{bundle.target} {bundle.precision.value}"
        outcome = Text(STANDINGS[standing.outcome], styles.get(standing.outcome, ""))
        figures = [cells[name].translate(plain) for name in FIGURES]
        rows.append((bundle.name, what, outcome, *figures))
    columns = ("bundle", "target\nprecision", "standing")
    heads = [name.replace(", ", "\n") for name in FIGURES]
    print_table("Bundles, best first", (*columns, *heads), rows, left=range(len(columns)))


def _print_times(report: Report, advice: Recommendation) -> None:
    figures = [*((stage, "p50_ms") for stage in STAGES), ("total", "p90_ms"), ("total", "p99_ms")]
    columns = ("bundle", *(f"{stage}\n{figure[:3]} ms" for stage, figure in figures))
    rows = [
        [bundle.name, *(_fixed(bundle.stage_ms(*figure)) for figure in figures)]
        for _, bundle in _ranked(report, advice)
    ]
    print_table("Latency of one query", columns, rows)


def _fixed(number: float | None) -> str:
    return "-" if number is None else f"{number:.2f}"


def _notes(report: Report) -> list[str]:
    """Return the conditions of the measurement, one per line."""
    from bakit.bench.render.words import NONE, median_interval

    queries = min((b.latency.queries for b in report.bundles if b.latency), default=0)
    notes = [f"{report.machine}; {queries} queries per bundle", *_phone_notes(report)]
    notes += [f"{bundle.name}: {bundle.ran}" for bundle in report.bundles if bundle.ran]
    notes += [f"failed: {bundle.name}: {bundle.error}" for bundle in report.bundles if bundle.error]
    medians = [(bundle.name, median_interval(bundle.latency)) for bundle in report.bundles]
    notes += [f"{n}: 95 % interval of p50 in this run, ms: {m}" for n, m in medians if m != NONE]
    shaky = {
        bundle.name: bundle.latency.stability
        for bundle in report.bundles
        if bundle.latency and bundle.latency.stability and bundle.latency.stability.warning
    }
    if shaky:
        notes += [f"{name}: {stability.warning}" for name, stability in shaky.items()]
        notes += [
            f"{bundle.name}: steady tail, from query {start + 1}: {tail['total'].p50_ms:.2f} ms "
            f"median, {tail['total'].p90_ms:.2f} ms p90"
            for bundle in report.bundles
            if (latency := bundle.latency)
            and (tail := latency.steady_tail)
            and latency.stability
            and (start := latency.stability.steady_from) is not None
        ]
    causes = {cause: None for stability in shaky.values() for cause in stability.causes}
    notes += [f"likely cause: {cause}" for cause in causes]
    if report.data is None:
        return notes
    which = "images" if report.data.part == "all" else "images that no model was trained on"
    notes.append(f"drift on {report.data.samples} of {report.data.available} {which}")
    if report.data.left_out:
        notes.append(f"left out: {report.data.left_out} images of its training and validation")
    references = {
        bundle.drift.reference: bundle.drift.reference_target
        for bundle in report.bundles
        if bundle.drift
    }
    return [*notes, *(f"reference: {name} ({target})" for name, target in references.items())]


def _phone_notes(report: Report) -> list[str]:
    """Return the conditions of a phone's measurement, one per line; none without a phone."""
    phone, notes = report.phone, []
    if phone is None:
        return []
    if phone.runs_per_sample > 1:
        notes.append(f"coarse clock: each time is the mean of up to {phone.runs_per_sample} runs")
    if phone.golden_max_difference_months:
        worst = max(phone.golden_max_difference_months.values())
        notes.append(f"golden predictions: within {worst:.4f} months of the bundles' manifests")
    if not report.host.is_android:
        notes.append(f"images were cropped and the reference ran on: {report.host.cpu}")
    return notes


def goal_bundles(bundles: Sequence[Path], data: Path | None) -> list[Bundle]:
    """Read the bundles to check against the goal, before the measurement.

    Raises:
        InputError: If there is no labelled folder or no INT8 bundle, or a bundle is too old.
    """
    from bakit.bench.gate.goal import check_candidates
    from bakit.bundle import Bundle

    if data is None:
        message = "--goal also checks MAE and drift, which need labelled images: add --data"
        raise InputError(message)
    return check_candidates([Bundle.read(path) for path in bundles])


def finish_goal(
    report: Report, bundles: Sequence[Bundle], goal_json: Path | None, *, err: bool
) -> bool:
    """Check the goal, print and optionally write the result; return whether the goal is met."""
    import msgspec

    from bakit.bench.gate.goal import check_goal
    from bakit.files import write_file

    result = check_goal(report, bundles)
    for bundle, lines in groupby(result.lines, lambda line: line.bundle):
        echo(f"goal of {safe(bundle)}", err=err)
        for line in lines:
            echo(_goal_text(line), err=err)
    missed = sum(not line.passed for line in result.lines)
    echo(f"the goal is missed: {missed} failed" if missed else "the goal is met", err=err)
    if goal_json is not None:
        document = msgspec.json.format(msgspec.json.encode(result), indent=2)
        write_file(goal_json, document + b"\n")
        echo(f"goal: {goal_json}", err=err)
    return result.passed


def _goal_text(line: GoalLine) -> str:
    verdict = "pass" if line.passed else "FAIL"
    bound = "at most" if line.bound == "most" else "at least"
    value = "not measured" if line.value is None else _number(line.value)
    if line.estimated and line.value is not None:
        end = "no interval: too few, or unsteady"
        if line.upper is not None:
            end = f"at most {_number(line.upper)}"
        value += f" ({end})"
    limit = f"{bound} {_number(line.limit)}"
    text = f"{verdict}  {line.figure:38} {value:>12} {line.unit:8} {limit}"
    return text if line.passed else f"{text}  ({line.source})"


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
