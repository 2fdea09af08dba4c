"""Render a report as Markdown, short enough for a pull request."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from bakit.bench.gate.output import COLUMNS, table_rows
from bakit.bench.gate.recommend import recommend
from bakit.bench.render.words import STANDINGS, bundle_cells

if TYPE_CHECKING:
    from bakit.bench.gate.verdict import GateResult
    from bakit.bench.report.document import Report

_BOLD = ("ship", "undecided", "refused", "unmeasured")


def render_markdown(report: Report) -> str:
    """Return the recommendation, a table of the bundles, best first, and the machine."""
    advice = recommend(report)
    bundles = {bundle.name: bundle for bundle in report.bundles}
    lines = [f"### {escaped(advice.sentence)}", ""]
    lines += [f"* {escaped(line)}" for line in (*advice.others, *advice.caveats)]
    rows = []
    for standing in advice.standings:
        cells = bundle_cells(bundles[standing.name])
        del cells["load, ms"], cells["memory, MB"]
        words = STANDINGS[standing.outcome]
        words = f"**{words}**" if standing.outcome in _BOLD else words
        rows.append({"bundle": escaped(standing.name), "standing": words, **cells})
    if rows:
        head = tuple(rows[0])
        lines += ["", _line(head), _line(("---", "---", *["---:"] * (len(head) - 2)))]
        lines += [_line(tuple(row.values())) for row in rows]
    lines.append("")
    lines += [
        f"* {escaped(s.name)}: {escaped(s.reason)}"
        for s in advice.standings
        if s.outcome in {"beaten", "undecided", "refused", "unmeasured"}
    ]
    lines += ["", f"<sub>{escaped(_measured_on(report))}</sub>"]
    return "\n".join(lines) + "\n"


def render_checks(result: GateResult) -> str:
    """Return the gate's verdict, a table of all its checks, and what to do about failures."""
    word = "passed" if result.passed else result.outcome.replace("-", " ")
    lines = [f"### bakit gate: {word}", "", _line(COLUMNS)]
    lines.append(_line(("---", "---", "---:", "---:", "---:", "---")))
    for *cells, verdict in table_rows(result):
        shown = verdict if verdict == "pass" else f"**{verdict}**"
        lines.append(_line((*map(escaped, cells), shown)))
    notes = [f"{verdict.name}: {note}" for verdict in result.bundles for note in verdict.notes]
    notes += result.notes
    if result.failures or notes:
        lines.append("")
    lines += [f"* {escaped(failure)}" for failure in result.failures]
    lines += [f"* note: {escaped(note)}" for note in notes]
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Escape text for Markdown, in one line: names in a report are not trusted."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    # Entities for the characters of Markdown's syntax and of GitHub's mentions and links.
    text = re.sub(r"[\\`*_\[\]#|~@]", lambda found: f"&#{ord(found[0])};", text)
    return text.replace("://", "&#58;//")


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _measured_on(report: Report) -> str:
    host = report.host
    threads = report.settings.threads
    words = [report.machine]
    words.append("threads: one per CPU" if threads is None else f"threads: {threads}")
    if report.data is not None:
        part = "held-out test images" if report.data.part == "test" else "images"
        words.append(f"{report.data.samples:,} {part} of {report.data.folder}")
    words.append(f"bakit {host.versions.get('bakit', '?')}")
    return "; ".join(words)
