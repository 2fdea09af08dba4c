"""Figure: latency and size of the bundles, with the Pareto front."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.gate.recommend import at_most
from bakit.bench.render.svg import Figure, Panel, Scale, Table, element, log_around, mark, picture
from bakit.bench.render.words import drift_words, fixed, milliseconds, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from markupsafe import Markup

    from bakit.bench.gate.recommend import Recommendation, Standing
    from bakit.bench.report.document import BundleReport

_LABEL = 31.0  # height of a name with its drift, in pixels
_PHONE = 320.0  # width of the narrowest picture, in pixels


def front_figure(
    recommendation: Recommendation, bundles: Mapping[str, BundleReport]
) -> Figure | None:
    """Draw bundles by latency and size; None if fewer than two were measured."""
    shown = [s for s in recommendation.standings if s.p50_ms is not None]
    if len(shown) < 2:
        return None
    x = Scale(*log_around([s.p50_ms or 0.0 for s in shown]), log=True)
    y = Scale(*log_around([s.size_mb for s in shown]), log=True)
    height = max(300.0, 70.0 + _LABEL * len(shown))
    bottom = height - 26
    parts: list[Markup] = []
    for tick in x.ticks(6):
        at = f"{100 * (0.04 + 0.92 * x(tick)):.2f}%"
        parts.append(element("line", x1=at, x2=at, y1=0, y2=bottom, class_="grid"))
        parts.append(
            element("text", f"{tick:g}", x=at, y=bottom + 14, class_="tick", text_anchor="middle")
        )
    for tick in y.ticks(4):
        top = _up(y(tick), bottom)
        parts.append(element("line", x1="0", x2="100%", y1=top, y2=top, class_="grid"))
        parts.append(element("text", f"{tick:g} MB", x="0", y=top - 4, class_="tick"))
    unit: dict[str, str | float] = {
        "x": "100%",
        "y": bottom + 26,
        "class_": "unit",
        "text_anchor": "end",
    }
    parts.append(element("text", "ms, p50, logarithmic", **unit))
    parts += _labelled(shown, x, y, bottom)
    label = "Bundles by median latency and size: " + "; ".join(
        f"{s.label}, {milliseconds(s.p50_ms)} ms, {fixed(s.size_mb, 1)} MB, {_ROLES[s.outcome][1]}"
        for s in shown
    )
    head = ("bundle", "p50, ms", "size, MB", "drift [95 % interval], months", "standing", "reason")
    table = tuple(
        (
            s.label,
            milliseconds(s.p50_ms),
            fixed(s.size_mb, 1),
            drift_words(bundles[s.name].drift),
            _ROLES[s.outcome][1],
            s.reason,
        )
        for s in recommendation.standings
    )
    used = {s.outcome for s in shown}
    return Figure(
        "front",
        "Latency, size and drift",
        "Further left is faster, further down is smaller. The number below each name is the upper "
        "bound of the drift. A bundle is on the Pareto front if no other bundle is at least as "
        "good in all three and better in one.",
        (Panel(picture(parts, label, height + 6)),),
        tuple(role for outcome, role in _ROLES.items() if outcome in used),
        (Table(head, table, words=(4, 5)),),
    )


_ROLES = {
    "ship": ("dot ship", "recommended"),
    "option": ("dot option", "on the Pareto front"),
    "beaten": ("dot beaten", "dominated by another bundle"),
    "undecided": ("dot beaten square", "too few images to decide"),
    "refused": ("dot bad square", "over a limit"),
    "reference": ("dot beaten", "float model in torch"),
    "unmeasured": ("dot beaten", "not measured"),
}


def _up(share: float, bottom: float) -> float:
    return bottom - 16 - share * (bottom - 44)


def _labelled(shown: Sequence[Standing], x: Scale, y: Scale, bottom: float) -> list[Markup]:
    """Return marks with their names next to them."""
    shares = {s.name: 0.04 + 0.92 * x(s.p50_ms or x.low) for s in shown}
    tops = {s.name: _up(y(s.size_mb), bottom) for s in shown}
    places = [(_PHONE * shares[s.name], tops[s.name]) for s in shown]
    taken = [(left - 9, top - 9, left + 9, top + 9) for left, top in places]
    marks, names = [], []
    for s in reversed(shown):  # the best last, so that it is on top
        at, top = f"{100 * shares[s.name]:.2f}%", tops[s.name]
        marks.append(mark(at, top, 8.0, _ROLES[s.outcome][0]))
        words = shortened(s.label, 26)
        width = 14 + max(7.6 * len(words), 6.4 * len(_bound(s)))
        side, line = _free(_PHONE * shares[s.name], top, width, bottom, taken)
        if abs(line - top) > 4:
            lead = element("line", x1=0, y1=top - line, x2=12 * side, y2=-2, class_="leader")
            marks.insert(0, element("svg", lead, x=at, y=line, overflow="visible"))
        anchor = "start" if side > 0 else "end"
        for text, offset, kind in ((words, -1, "name"), (_bound(s), 13, "tick")):
            inner = element("text", text, x=14 * side, y=offset, class_=kind, text_anchor=anchor)
            names.append(element("svg", inner, x=at, y=line, overflow="visible"))
    return [*marks, *names]


def _free(
    x: float, y: float, width: float, bottom: float, taken: list[tuple[float, float, float, float]]
) -> tuple[float, float]:
    """Find a free side and height for a name and add its box to ``taken``.

    Boxes are computed for a narrow screen; on a wide one the distances are larger.
    """
    first = 1.0 if x < _PHONE / 2 else -1.0
    found = (first, y)
    shifts = [0.0, *(sign * _LABEL * step / 2 for step in range(1, 40) for sign in (-1, 1))]
    for side, line in ((side, y + shift) for shift in shifts for side in (first, -first)):
        left, right = sorted((x + 10 * side, x + side * width))
        if left < -4 or right > _PHONE + 4 or not 14 <= line <= bottom - 16:
            continue
        if all(right < a or c < left or line + 16 < b or d < line - 14 for a, b, c, d in taken):
            found = (side, line)
            taken.append((left, line - 14, right, line + 16))
            break
    return found


def _bound(standing: Standing) -> str:
    upper = standing.drift_upper_months
    if upper is None:
        return "drift not measured"
    return f"drift \N{LESS-THAN OR EQUAL TO} {at_most(upper)} months"
