"""What ``bakit bench --goal`` reads beforehand, prints and writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from bakit.cli.tables import safe
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bakit.bench.gate.goal import GoalLine, GoalResult
    from bakit.bench.report.document import Report
    from bakit.bundle import Bundle


def goal_bundles(bundles: Sequence[Path], data: Path | None) -> list[Bundle]:
    """Read the bundles that the goal is about, before anything is measured.

    Raises:
        InputError: If there is no labelled folder or no INT8 bundle, or one is too old.
    """
    from bakit.bench.gate.goal import check_candidates
    from bakit.bundle import Bundle

    if data is None:
        message = "the goal is about MAE and drift as well, which need labelled images: give --data"
        raise InputError(message)
    return check_candidates([Bundle.read(path) for path in bundles])


def finish_goal(
    report: Report, bundles: Sequence[Bundle], goal_json: Path | None, *, err: bool
) -> bool:
    """Check the goal, print its lines, write the result if asked; return whether it is met."""
    import msgspec

    from bakit.bench.gate.goal import check_goal
    from bakit.files import write_file

    result = check_goal(report, bundles)
    print_goal(result, err=err)
    if goal_json is not None:
        document = msgspec.json.format(msgspec.json.encode(result), indent=2)
        write_file(goal_json, document + b"\n")
        click.echo(f"goal: {goal_json}", err=err)
    return result.passed


def print_goal(result: GoalResult, *, err: bool = False) -> None:
    """Print the lines of the goal, and whether it is met.

    Args:
        result: The result.
        err: On stderr instead of stdout.
    """
    bundle = ""
    for line in result.lines:
        if line.bundle != bundle:
            bundle = line.bundle
            click.echo(f"goal of {safe(bundle)}", err=err)
        click.echo(_goal_text(line), err=err)
    missed = sum(not line.passed for line in result.lines)
    word = "the goal is met" if result.passed else f"the goal is missed in {missed} lines"
    if missed == 1:
        word = "the goal is missed in 1 line"
    click.echo(word, err=err)


def _goal_text(line: GoalLine) -> str:
    verdict = "pass" if line.passed else "FAIL"
    bound = "at most" if line.bound == "most" else "at least"
    value = "not measured" if line.value is None else _number(line.value)
    limit = f"{bound} {_number(line.limit)}"
    text = f"{verdict}  {line.figure:38} {value:>12} {line.unit:8} {limit}"
    return text if line.passed else f"{text}  ({line.source})"


def _number(value: float) -> str:
    if value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3f}" if abs(value) < 1 else f"{value:.2f}"
