"""``bakit gate``."""

from __future__ import annotations

import math
import os
import secrets
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bakit.cli.options import OUT_FILE, PATH, Parsed, json_option, several
from bakit.cli.tables import echo, echo_json, next_step, print_line, print_table
from bakit.errors import InputError
from bakit.files import append_file, check_outputs, write_file

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench import Gate, GateResult, Report

ACCURACY = {
    "max_drift_months": (0.25, "Maximum drift: MAE of the bundle minus MAE of the float model."),
    "max_drift_pct": (None, "The same in percent of the float model's MAE."),
    "max_mae_months": (None, "Maximum mean absolute error."),
    "max_mean_change_months": (0.75, "Maximum mean absolute change from the float model."),
    "max_p99_change_months": (5.0, "Maximum 99th percentile of that change."),
    "max_group_drift_months": (1.5, "Maximum drift in any group of one sex and age range."),
    "max_group_change_months": (1.5, "Maximum mean signed change in such a group."),
}
"""Limits on accuracy: default and help text."""

COST = {
    "max_p90_ms": "Maximum 90th percentile of the total latency.",
    "max_p90_ratio": "Maximum ratio of that to the baseline's, --ratio-to's or the reference's.",
    "max_size_mb": "Maximum total size of the model files.",
    "min_int8_share": "Minimum share of an INT8 bundle's multiply-adds in INT8, 0..1.",
}


def _limit(text: str) -> float:
    """Return a number of at least 0; infinity, which no figure exceeds, for ``none``."""
    if text.lower() == "none":
        return math.inf
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not (math.isfinite(number) and number >= 0):
        message = f"{text!r} is not a limit: use a number from 0 up, or none"
        raise InputError(message)
    return number


_LIMIT = Parsed("number|none", _limit)


_ALSO = {"min_int8_share": ["--require-int8-share"], "max_mae_months": ["--max-mae"]}
_HELP = {
    name: words if default is None else f"{words}  [default: {default:g}]"
    for name, (default, words) in ACCURACY.items()
} | COST
_limits = several(
    *[
        click.option(
            f"--{name.replace('_', '-')}", *_ALSO.get(name, ()), name, type=_LIMIT, help=words
        )
        for name, words in _HELP.items()
    ]
)


@click.command("gate")
@click.argument("report", type=PATH)
@click.option(
    "--baseline",
    type=PATH,
    help="Earlier report of the same checkpoint on the same images: errors and changes may be "
    "worse by up to --max-drift-months; if they are better, run with --update.",
)
@click.option("--update", is_flag=True, help="Replace --baseline by REPORT if the gate passes.")
@_limits
@click.option(
    "--ratio-to", metavar="BUNDLE", help="Bundle of REPORT that --max-p90-ratio divides by."
)
@click.option(
    "--require-provider",
    metavar="UNIT",
    help="Fail if another unit ran a part of a regressor, such as CPU kernels beside a delegate.",
)
@click.option("--no-drift", is_flag=True, help="Switch off the default limits on accuracy.")
@click.option(
    "--require",
    multiple=True,
    metavar="NAME",
    help="Fail if this bundle was not measured; may be repeated.",
)
@click.option(
    "--known",
    type=PATH,
    metavar="FILE",
    help="JSON list of expected failures: bundle, limit, reason, expires.",
)
@click.option("--junit", type=OUT_FILE, metavar="FILE", help="Write JUnit XML.")
@click.option("--md", type=OUT_FILE, metavar="FILE", help="Write the table of checks as Markdown.")
@click.option(
    "--github/--no-github",
    default=None,
    help="Print GitHub annotations and add the table to the job summary.  [default: if "
    "GITHUB_ACTIONS is true]",
)
@json_option("Print the result as one JSON object.")
@click.pass_context
def command(
    ctx: click.Context,
    /,
    report: Path,
    baseline: Path | None,
    known: Path | None,
    junit: Path | None,
    md: Path | None,
    require: tuple[str, ...],
    *,
    update: bool,
    no_drift: bool,
    github: bool | None,
    as_json: bool,
    **limits: Any,  # noqa: ANN401  # click's own type
) -> None:
    """Pass or fail every bundle of a REPORT written by bakit bench --json.

    A figure that is estimated from images passes if the upper end of its 95 % interval is within
    the limit. "none" switches a limit off. A default limit on the p99 or on groups, which few
    images decide, is undecided and does not fail while the upper end is within twice the limit;
    a limit given here has no such room.

    Nothing passes that was not measured. The gate fails if REPORT lacks a bundle of --baseline or
    --require, if a limit given here applies to no bundle, or if REPORT has only references. A
    REPORT whose figures do not follow from its ages and times is refused.

    Exit status: 0 all checks pass; 1 one fails, was not measured, has too few images to decide, or
    is better than the baseline by more than noise; 2 the report or a limit cannot be used.

    \b
    Example:
      bakit bench --data DATA --json report.json
      bakit gate report.json --max-drift-months 0.25 --junit gate.xml
    """
    from bakit.bench import read_report
    from bakit.bench.gate.check import LIMITS
    from bakit.bench.gate.output import github_lines, write_junit
    from bakit.bench.gate.recount import check_figures
    from bakit.bench.gate.verdict import read_known_failures
    from bakit.bench.render.markdown import render_checks

    if update and baseline is None:
        message = "--update needs --baseline FILE, the file to replace"
        raise click.UsageError(message)
    gate = _gate(limits, no_drift=no_drift)
    given = {name for name, limit in limits.items() if limit is not None}
    check_outputs(junit, md, inputs=filter(None, (report, baseline, known)))
    expected = () if known is None else read_known_failures(known, LIMITS)
    measured = read_report(report)
    earlier = None if baseline is None or update else read_report(baseline)
    result = gate.check(measured, earlier, expected, require=require, explicit=given)
    check_figures(measured)
    if junit is not None:
        write_junit(result, junit)
    if github is None:
        github = os.environ.get("GITHUB_ACTIONS") == "true"
    _write_markdown(render_checks(result), md, github=github)
    dropped = _dropped(measured, baseline) if update else ()
    if baseline is not None and update and result.passed:
        measured.write(baseline)
    if as_json:
        echo_json(result)
        ctx.exit(0 if result.passed else 1)
    # Between these lines GitHub obeys nothing that a bundle's name may hold.
    token = secrets.token_hex(16)
    if github:
        echo(f"::stop-commands::{token}")
    _print(result)
    if update:
        kept = f"{baseline} was not changed"
        echo(f"baseline: {baseline}" if result.passed else kept)
        for name in dropped if result.passed else ():
            print_line(f"note: {name}: no longer in the baseline")
    if github:
        echo(f"::{token}::")
        for line in github_lines(result):
            echo(line)
    if result.passed:
        next_step("bakit sign BUNDLE --key FILE   (then ship it)")
    else:
        next_step("bakit report", report, "--html report.html   (which images changed)")
    ctx.exit(0 if result.passed else 1)


def _gate(limits: dict[str, Any], *, no_drift: bool) -> Gate:
    from bakit.bench import Gate

    chosen = dict(limits)
    for name, (default, _) in ACCURACY.items():
        if chosen[name] is None and not no_drift:
            chosen[name] = default
    return Gate(**{name: None if value == math.inf else value for name, value in chosen.items()})


def _dropped(report: Report, baseline: Path | None) -> list[str]:
    """Return the bundles that a new baseline does not have any more."""
    from bakit.bench import read_report

    if baseline is None or not baseline.exists():
        return []
    try:
        before = read_report(baseline)
    except InputError:  # it is replaced
        return []
    present = {bundle.name for bundle in report.bundles}
    return [bundle.name for bundle in before.bundles if bundle.name not in present]


def _write_markdown(text: str, path: Path | None, *, github: bool) -> None:
    """Write a page, and on GitHub add it to the summary of the job.

    Raises:
        InputError: If either cannot be written.
    """
    summary = os.environ.get("GITHUB_STEP_SUMMARY") if github else None
    try:
        if path is not None:
            write_file(path, text.encode())
        if summary:
            append_file(Path(summary), text.encode())
    except OSError as error:
        message = f"{error.filename}: the page cannot be written ({error.strerror or error})"
        raise InputError(message) from error


def _print(result: GateResult) -> None:
    from bakit.bench.gate.output import COLUMNS, table_rows
    from bakit.bench.gate.verdict import REPORT

    for name, rows in groupby(table_rows(result), itemgetter(0)):
        # The unit of all three figures is that of the limit: so 80 columns are enough.
        cells = [
            (check, value.split()[0], upper.split()[0], limit, verdict)
            for _, check, value, upper, limit, verdict in rows
        ]
        print_table(f"Checks of {name}", COLUMNS[1:], cells, left=(0, 4))
    for bundle in result.bundles:
        print_line(f"{'pass' if bundle.passed else bundle.outcome}  {bundle.name}")
        open_checks = [check for check in bundle.checks if check.outcome != "pass"]
        for check in open_checks:
            _print_lines([f"{check.limit}: {check.lines[0]}", *check.lines[1:]])
        printed = set(map(str, open_checks))
        _print_lines([f"note: {note}" for note in bundle.notes if note not in printed])
    for check in result.checks:
        echo(f"{check.outcome}  {REPORT}")
        _print_lines(check.lines)
    for note in result.notes:
        print_line(f"note: {note}")


def _print_lines(lines: Sequence[str]) -> None:
    for line in lines:
        print_line(line, 6 * " ")
