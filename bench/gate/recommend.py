"""Which bundle of a report to ship on its machine: the Pareto front, and a sentence.

Pure and without numpy: the terminal, the page and the pull request say the same.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec

from bakit.bench.gate.check import Gate
from bakit.bench.report.device import PHANTOMS
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bakit.bench.report.document import BundleReport, Report

Outcome: TypeAlias = Literal[
    "ship", "option", "reference", "beaten", "undecided", "refused", "unmeasured"
]
"""Best first."""

DEFAULT_GATE = Gate()
MAX_DRIFT_MONTHS = DEFAULT_GATE.max_drift_months or math.inf
"""The gate's limit on the drift."""
SAME_TIME = 1.05
"""Times count as the same up to this ratio: two runs of one bundle differ by as much."""
SAME_SIZE = 1.01
"""Sizes count as the same up to this ratio."""
SAME_DRIFT_MONTHS = 0.01
"""Upper ends of a drift count as the same up to this difference."""


@dataclass(frozen=True)
class Standing:
    """The rank of a bundle among the others of its report.

    Attributes:
        name: The bundle.
        label: A short name, unique in the report.
        outcome: ``ship``: the one to take. ``option``: on the Pareto front, better in something.
            ``reference``: torch, which is there to compare with. ``beaten``: another is at least
            as good in everything. ``undecided``: there are too few images to say. ``refused``: it
            breaks a limit of the gate on ages. ``unmeasured``: it failed, or the run ended before.
        reason: The same in words.
        p50_ms: Median time of a prediction; None if it was not measured.
        size_mb: Size of the model files, in 10^6 bytes.
        drift_upper_months: Upper end of the drift's 95 % interval, 0 for the float model itself;
            None if it was not measured.
    """

    name: str
    label: str
    outcome: Outcome
    reason: str
    p50_ms: float | None
    size_mb: float
    drift_upper_months: float | None


@dataclass(frozen=True)
class Recommendation:
    """The bundle to ship.

    Attributes:
        ship: Name of the bundle; None if there is none to recommend.
        sentence: Says so, with its numbers.
        others: When another bundle of the front would be the better one, a sentence each.
        caveats: What the reader should know before relying on it, a sentence each.
        standings: All bundles, best first.
    """

    ship: str | None
    sentence: str
    others: tuple[str, ...]
    caveats: tuple[str, ...]
    standings: tuple[Standing, ...]


def recommend(report: Report, gate: Gate = DEFAULT_GATE) -> Recommendation:
    """Recommend a bundle to ship.

    A bundle is a candidate if it was measured and passes the gate, by default its own limits. Among
    the candidates that no other beats in time, size and drift (the Pareto front) it is the
    fastest; of those that are as fast, the smallest. In a fleet, one is recommended for each
    device.
    """
    if report.devices:
        return _for_each(report, gate)
    labels = short_labels(report.bundles)
    gated = _gated(report, gate)
    measured = [_measured(bundle, labels[bundle.name], gated) for bundle in report.bundles]
    candidates = [s for s in measured if s.outcome == "option"]
    front = [s for s in candidates if not any(_beats(other, s) for other in candidates)]
    front.sort(key=lambda s: (_time(s), s.size_mb, s.name))
    ship = _choose(front)
    standings = [_ranked(s, candidates, front, ship) for s in measured]
    order = get_args(Outcome)
    standings.sort(key=lambda s: (order.index(s.outcome), s.p50_ms or math.inf, s.name))
    return Recommendation(
        ship=ship.name if ship else None,
        sentence=_sentence(report, ship, standings, gate),
        others=(*_others(front, ship), *_why_not_int8(standings, ship)),
        caveats=_caveats(report, [ship] if ship else []),
        standings=tuple(standings),
    )


def _for_each(report: Report, gate: Gate) -> Recommendation:
    """Join the recommendations for the devices of a fleet."""
    parts = {name: recommend(report.of_device(name), gate) for name in report.devices}
    standings = [s for part in parts.values() for s in part.standings]
    ships = [s for s in standings if s.name in {part.ship for part in parts.values()}]
    return Recommendation(
        ship=None,
        sentence=" ".join(f"{name}: {part.sentence}" for name, part in parts.items()),
        others=tuple(f"{name}: {line}" for name, part in parts.items() for line in part.others),
        caveats=_caveats(report, ships),  # counted over all devices
        standings=tuple(replace(s, label=s.name) for s in standings),
    )


def short_labels(bundles: Sequence[BundleReport]) -> dict[str, str]:
    """Return ``onnx INT8`` for each bundle by its name; its name where that is not unique."""
    labels = {b.name: f"{b.target} {b.precision.value.upper()}" for b in bundles}
    counts = Counter(labels.values())
    return {name: label if counts[label] == 1 else name for name, label in labels.items()}


def at_most(drift_months: float) -> str:
    """Return an upper bound in months, at least 0 and rounded up: it must stay one.

    Less than a thousandth of a month is rounding of another library, and is not counted.
    """
    return f"{math.ceil(max(drift_months - 0.001, 0.0) * 100) / 100:.2f}"


def _gated(report: Report, gate: Gate) -> dict[str, tuple[Outcome, str]]:
    """Return what the gate has against the ages of each bundle whose drift was measured."""
    found: dict[str, tuple[Outcome, str]] = {}
    for bundle in report.bundles:
        if bundle.drift is None or bundle.error is not None:
            continue
        try:
            alone = msgspec.structs.replace(report, bundles=(bundle,), partial=False)
            (verdict,) = gate.check(alone).bundles
        except InputError as error:  # damaged predictions
            found[bundle.name] = ("refused", str(error))
            continue
        if not verdict.passed:
            worst = next(c for c in verdict.checks if c.outcome == verdict.outcome)
            if verdict.outcome != "too-few-images":
                found[bundle.name] = ("refused", worst.text)
                continue
            text = f"too few images to decide: {worst.text}"
            if worst.images_needed is not None:
                text += f"; at least {worst.images_needed:,} are needed"
            found[bundle.name] = ("undecided", text)
    return found


def _measured(
    bundle: BundleReport, label: str, gated: Mapping[str, tuple[Outcome, str]]
) -> Standing:
    """Return a bundle's standing before it is compared: a candidate is an option."""
    time = bundle.stage_ms("total", "p50_ms")
    outcome: Outcome
    if bundle.error is not None:
        outcome, reason = "unmeasured", f"failed: {bundle.error}"
    elif time is None:
        outcome, reason = "unmeasured", "its time was not measured"
    elif bundle.name in gated:
        outcome, reason = gated[bundle.name]
    elif bundle.target == "torch":
        outcome, reason = "reference", "the float model itself, to compare with"
    else:
        outcome, reason = "option", ""
    size_mb, drift, upper = bundle.total_size_mb, bundle.drift, None
    if drift is not None:
        upper = 0.0 if drift.is_reference else drift.drift_ci95_months[1]
    return Standing(bundle.name, label, outcome, reason, time, size_mb, upper)


def _time(standing: Standing) -> float:
    """Return the time of a candidate, which has one."""
    assert standing.p50_ms is not None
    return standing.p50_ms


def _better_in(one: Standing, other: Standing, words: tuple[str, str, str]) -> list[str]:
    """Return the words for time, size and drift in which one is better, beyond noise."""
    mine, theirs = one.drift_upper_months or 0.0, other.drift_upper_months or 0.0
    better = (
        _time(one) * SAME_TIME < _time(other),
        one.size_mb * SAME_SIZE < other.size_mb,
        mine + SAME_DRIFT_MONTHS < theirs,
    )
    return [word for word, wins in zip(words, better, strict=True) if wins]


def _beats(one: Standing, other: Standing) -> bool:
    """Return whether one is nowhere worse and somewhere better."""
    words = ("time", "size", "drift")
    return bool(_better_in(one, other, words)) and not _better_in(other, one, words)


def _choose(front: Sequence[Standing]) -> Standing | None:
    """Return the smallest of the fastest; ``front`` is sorted by time."""
    as_fast = [s for s in front if _time(s) <= _time(front[0]) * SAME_TIME]
    return min(as_fast, key=lambda s: s.size_mb, default=None)


def _ranked(
    me: Standing, candidates: Sequence[Standing], front: Sequence[Standing], ship: Standing | None
) -> Standing:
    """Return the standing of a bundle among the candidates."""
    if me.outcome != "option":
        return me
    if me is ship:
        first = "the fastest" if len(candidates) > 1 else "the only one"
        reason = f"{first} within the limits"
        if any(_time(s) < _time(me) for s in candidates):
            reason = "as fast as any, and smaller"
        return replace(me, outcome="ship", reason=reason)
    winners = [s for s in front if _beats(s, me)] or [s for s in candidates if _beats(s, me)]
    if not winners:
        return replace(me, reason=_merit(me, ship))
    better = _better_in(winners[0], me, ("faster", "smaller", "nearer to the float model"))
    reason = f"{winners[0].label} is {' and '.join(better)}, and nowhere worse"
    return replace(me, outcome="beaten", reason=reason)


def _merit(me: Standing, ship: Standing | None) -> str:
    """Compare a bundle of the front with the recommended one, in words."""
    if ship is None:
        return "no other is as good in everything"
    gains = _better_in(me, ship, ("faster", "smaller", "nearer to the float model"))
    losses = _better_in(ship, me, ("slower", "larger", "further from the float model"))
    if not gains:
        return f"much like {ship.label}"
    return f"{' and '.join(gains)} than {ship.label}, but {' and '.join(losses)}"


def _sentence(
    report: Report, ship: Standing | None, standings: Sequence[Standing], gate: Gate
) -> str:
    if ship is not None:
        start = "Ship" if ship.drift_upper_months is not None else "By time and size alone, take"
        costs = f"{start} {ship.label}: {_ms(ship.p50_ms)} a radiograph (median), "
        if ship.drift_upper_months is None:
            return f"{costs}{ship.size_mb:.3g} MB."
        if report.bundles and _is_reference(report, ship.name):
            return f"{costs}{ship.size_mb:.3g} MB, and it is the float model itself."
        return (
            f"{costs}{ship.size_mb:.3g} MB, and an MAE at most "
            f"{at_most(ship.drift_upper_months)} months above the float model's "
            f"(95 % upper bound; the limit is {gate.max_drift_months or math.inf:g})."
        )
    undecided = [s for s in standings if s.outcome == "undecided"]
    refused = undecided or [s for s in standings if s.outcome == "refused"]
    if refused:
        nearest = min(refused, key=_distance)
        why = "none is shown to be" if undecided else "none is"
        return (
            f"Ship none of these yet: {why} within the gate's limits. The nearest is "
            f"{nearest.label}: {nearest.reason}."
        )
    if any(s.outcome == "reference" for s in standings):
        return "There is nothing to choose yet: only the float model in torch was measured."
    return "There is nothing to choose yet: no bundle was measured."


def _distance(standing: Standing) -> float:
    upper = standing.drift_upper_months
    return upper if upper is not None and math.isfinite(upper) else math.inf


def _is_reference(report: Report, name: str) -> bool:
    return any(b.name == name and b.drift and b.drift.is_reference for b in report.bundles)


def _others(front: Sequence[Standing], ship: Standing | None) -> tuple[str, ...]:
    """Return when another bundle of the front would be the better choice."""
    if ship is None:
        return ()
    others = []
    smallest = min(front, key=lambda c: (c.size_mb, _time(c)))
    if smallest.size_mb * SAME_SIZE < ship.size_mb:
        others.append(f"If size matters most: {smallest.label} ({_numbers(smallest)}).")
    if ship.drift_upper_months is not None:
        truest = min(front, key=lambda c: (_coarse(c.drift_upper_months), _time(c)))
        if (truest.drift_upper_months or 0.0) + SAME_DRIFT_MONTHS < ship.drift_upper_months:
            others.append(
                "If every prediction must stay nearest to the float model's: "
                f"{truest.label} ({_numbers(truest)})."
            )
    return tuple(others)


def _why_not_int8(standings: Sequence[Standing], ship: Standing | None) -> list[str]:
    """Return why each INT8 bundle is not the recommended one; nothing if one is."""
    if ship is None or "INT8" in ship.label:
        return []
    return [
        f"{s.label} is not the choice: {s.reason}."
        for s in standings
        if "INT8" in s.label and s.outcome in {"option", "beaten", "undecided", "refused"}
    ]


def _numbers(standing: Standing) -> str:
    return f"{_ms(standing.p50_ms)}, {standing.size_mb:.3g} MB"


def _coarse(drift_months: float | None) -> int:
    return round((drift_months or 0.0) / SAME_DRIFT_MONTHS)


def _ms(milliseconds: float | None) -> str:
    assert milliseconds is not None  # of a bundle that was measured
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds:,.0f} ms"


def _caveats(report: Report, ships: Sequence[Standing]) -> tuple[str, ...]:
    caveats = []
    if report.partial:
        caveats.append("The run was interrupted: what it had not come to is missing.")
    if report.on_phone:
        caveats.append(
            "A phone ran the two networks alone: decoding and cropping a radiograph comes on top."
        )
        if report.data is not None and report.data.folder == PHANTOMS:
            caveats.append(
                "Drift is of phantoms: it shows whether the phone computes what a computer does, "
                "not how well radiographs are read. Bench with --data for that."
            )
    failed = sum(bundle.error is not None for bundle in report.bundles)
    if failed:
        who = "One bundle" if failed == 1 else f"{failed} bundles"
        caveats.append(f"{who} failed and could not be compared.")
    if report.data is None or any(ship.drift_upper_months is None for ship in ships):
        caveats.append(
            "Drift was not measured: whether a bundle still reads ages right is not known. "
            "Bench with --data before shipping."
        )
    if len({bundle.checkpoint_sha256 for bundle in report.bundles}) > 1:
        caveats.append(
            "The bundles are of several checkpoints: drift is measured against each one's own "
            "float model, so compare their MAEs as well."
        )
    shaky = [b for b in report.bundles if b.latency and b.latency.stability]
    warned = [b for b in shaky if b.latency and b.latency.stability and b.latency.stability.warning]
    if warned:
        caveats.append(
            f"Timings were noisy for {len(warned)} of {len(shaky)} bundles; the ranking may change."
        )
    return tuple(caveats)
