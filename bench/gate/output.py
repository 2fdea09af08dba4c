"""The gate's verdict as a table, as JUnit XML and as GitHub's annotations."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from bakit.bench.gate.verdict import NOTED, PASSING, REPORT
from bakit.files import write_file

if TYPE_CHECKING:
    from pathlib import Path

    from bakit.bench.gate.verdict import GateResult

COLUMNS = ("bundle", "check", "value", "upper end", "limit", "verdict")


def table_rows(result: GateResult) -> list[tuple[str, str, str, str, str, str]]:
    """Return a row for each check, as in ``COLUMNS``; names are as the report gives them."""
    rows = []
    for name, check in result.all_checks:
        value, upper, bound = (
            _number(number, check.unit) for number in (check.value, check.upper, check.bound)
        )
        if check.bound is not None:
            bound = f"{'>=' if check.limit.startswith('min') else '<='} {bound}"
        verdict = check.outcome.replace("-", " ")
        rows.append((name, check.limit, value, upper, bound, verdict))
    return rows


def _number(number: float | None, unit: str) -> str:
    return "-" if number is None else f"{number:.4g} {unit}".rstrip()


def write_junit(result: GateResult, path: Path) -> None:
    """Write JUnit XML: a suite for each bundle, a case for each limit, skipped if it is known."""
    root = ET.Element("testsuites", name="bakit gate")
    suites = [(verdict.name, verdict.checks) for verdict in result.bundles]
    suites += [(REPORT, result.checks)] if result.checks else []
    for name, checks in suites:
        outcomes = [check.outcome for check in checks]
        suite = ET.SubElement(
            root,
            "testsuite",
            name=_text(name),
            tests=str(len(outcomes)),
            failures=str(sum(outcome not in PASSING for outcome in outcomes)),
            errors="0",
            skipped=str(sum(outcome in NOTED for outcome in outcomes)),
        )
        for check in checks:
            case = ET.SubElement(
                suite, "testcase", classname=f"bakit gate.{_text(name)}", name=check.limit
            )
            if check.outcome in NOTED:
                ET.SubElement(case, "skipped", message=_text(str(check)))
            elif check.outcome != "pass":
                message = _text(str(check))
                failure = ET.SubElement(case, "failure", type=check.outcome, message=message)
                failure.text = message
            else:
                ET.SubElement(case, "system-out").text = _text(check.text)
    ET.indent(root)
    write_file(path, ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")


def github_lines(result: GateResult) -> list[str]:
    """Return workflow commands that GitHub shows beside a change: an error for each failure."""
    lines = []
    for name, check in result.all_checks:
        if check.outcome == "pass":
            continue
        level = "warning" if check.outcome in NOTED else "error"
        title = _property(f"bakit gate: {name}: {check.outcome}")
        lines.append(f"::{level} title={title}::{_data(str(check))}")
    lines += [f"::notice title=bakit gate::{_data(note)}" for note in result.notes]
    return lines


def _text(text: str) -> str:
    """Return text without the characters that XML cannot hold; a folder's name may."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
