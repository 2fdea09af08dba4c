"""Figure: latency and size of the bundles, with the Pareto front."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench.gate.recommend import at_most
from bakit.bench.render.figure import Figure, Panel, Scale, Table, log_around
from bakit.bench.render.words import drift_words, fixed, milliseconds, shortened

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bench.gate.recommend import Recommendation, Standing
    from bakit.bench.report.document import BundleReport

_LABEL = 31.0  # height of a name with its drift, in pixels
_PHONE = 294.0  # width of the narrowest plot, in pixels

_ROLES = {
    "ship": ("dot ship", "recommended"),
    "option": ("dot option", "on the Pareto front"),
    "beaten": ("dot beaten", "dominated by another bundle"),
    "undecided": ("dot beaten square", "too few images to decide"),
    "refused": ("dot bad square", "over a limit"),
    "reference": ("dot beaten", "float model in torch"),
    "unmeasured": ("dot beaten", "not measured"),
}


class Mark(NamedTuple):
    """A bundle: its place, and its name right (``side`` 1) or left (-1) of it on a free line."""

    at: float
    top: float
    kind: str
    name: str
    bound: str
    side: int
    line: float


@dataclass(frozen=True)
class Front:
    """Bundles by latency (``x``) and size, whose ticks have their heights in pixels."""

    x: Scale
    sizes: Sequence[tuple[float, float]]
    height: float
    marks: Sequence[Mark]


def front_figure(
    recommendation: Recommendation, bundles: Mapping[str, BundleReport]
) -> Figure | None:
    """Draw bundles by latency and size; None if fewer than two were measured."""
    shown = [s for s in recommendation.standings if s.p50_ms is not None]
    if len(shown) < 2:
        return None
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
        "front",
        "Latency, size and drift",
        "Further left is faster, further down is smaller. The number below each name is the upper "
        "bound of the drift. A bundle is on the Pareto front if no other bundle is at least as "
        "good in all three and better in one.",
        (Panel(label, _front(shown)),),
        tuple(role for outcome, role in _ROLES.items() if outcome in used),
        (Table(head, table, words=(4, 5)),),
    )


def _front(shown: Sequence[Standing]) -> Front:
    x = Scale(*log_around([s.p50_ms or 0.0 for s in shown]), log=True)
    y = Scale(*log_around([s.size_mb for s in shown]), log=True)
    height = max(300.0, 70.0 + _LABEL * len(shown))
    bottom = height - 26

    def top_of(size_mb: float) -> float:
        return round(bottom - 16 - y(size_mb) * (bottom - 44), 1)

    places = [(x(s.p50_ms or x.low), top_of(s.size_mb)) for s in shown]
    taken = [(_PHONE * at - 9, top - 9, _PHONE * at + 9, top + 9) for at, top in places]
    marks = []
    for s, (at, top) in reversed(list(zip(shown, places, strict=True))):  # the best is on top
        name, bound = shortened(s.label, 26), _bound(s)
        width = 14 + max(7.6 * len(name), 6.4 * len(bound))
        place = _free(_PHONE * at, top, width, bottom, taken)
        marks.append(Mark(at, top, _ROLES[s.outcome][0], name, bound, *place))
    return Front(x, [(tick, top_of(tick)) for tick in y.ticks(4)], height, marks)


def _free(
    x: float, y: float, width: float, bottom: float, taken: list[tuple[float, float, float, float]]
) -> tuple[int, float]:
    """Find a free side and height for a name and add its box to ``taken``.

    Boxes are computed for a narrow screen; on a wide one the distances are larger.
    """
    first = 1 if x < _PHONE / 2 else -1
    shifts = [0.0, *(sign * _LABEL * step / 2 for step in range(1, 40) for sign in (-1, 1))]
    for side, line in ((side, y + shift) for shift in shifts for side in (first, -first)):
        left, right = sorted((x + 10 * side, x + side * width))
        if left < -17 or right > _PHONE + 17 or not 14 <= line <= bottom - 16:
            continue
        if all(right < a or c < left or line + 16 < b or d < line - 14 for a, b, c, d in taken):
            taken.append((left, line - 14, right, line + 16))
            return side, line
    return first, y


def _bound(standing: Standing) -> str:
    upper = standing.drift_upper_months
    if upper is None:
        return "drift not measured"
    return f"drift \N{LESS-THAN OR EQUAL TO} {at_most(upper)} months"
