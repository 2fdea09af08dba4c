"""The gate's limits on ages: drift, errors and changes, of all children and of groups."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from bakit.bench.gate.advice import for_drift, worst_groups
from bakit.bench.gate.verdict import OPEN, Check, gravest
from bakit.bench.report.drift import MIN_TAIL_IMAGES, TAILS
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from bakit.bench.gate.check import Gate
    from bakit.bench.gate.verdict import Outcome
    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport, GroupDrift

LEAST_IMAGES = 30
"""Images below which an interval is not to be trusted (``mean_interval``)."""

P99_IMAGES = 368
"""Images below which a 99th percentile has no upper end (``images_for_quantile``)."""

EXACT_MONTHS = 0.01
"""A bundle all of whose ages are this near to the float model's repeats it: its figures pass,
however few the images. Export allows the same (``bakit.export.bundle``)."""

ROOM = 2.0
"""Factor on a default limit that few images decide: on the p99 and on groups. If the estimate is
within the limit, the upper end may be up to so many times the limit, and the check is undecided.
A sound bundle of 1,156 images is stopped in 2 of 100 draws instead of 20, and what is at twice a
limit is not let through more often than 1 in 40."""

RARE_MONTHS = 5.0
"""A change above which a child is counted as damaged where no limit says so."""


class Figure(NamedTuple):
    """An estimate with its 95 % interval, which is None if there are too few images for one."""

    words: str
    estimate: float
    interval: tuple[float, float] | None
    unit: str = "months"

    def check(
        self,
        name: str,
        outcome: Outcome,
        text: str,
        limit: float,
        groups: tuple[str, ...] = (),
        advice: str = "",
    ) -> Check:
        """Return a check of this figure against a limit."""
        upper = None if self.interval is None else self.interval[1]
        numbers = (self.estimate, upper, limit, self.unit)
        return Check(name, outcome, text, groups, advice, None, None, *numbers)


def accuracy_checks(
    gate: Gate, bundle: BundleReport, notes: list[str], named: Collection[str] = ()
) -> list[Check]:
    """Check a bundle's ages; what does not fail it is added to ``notes``.

    Limits whose names are in ``named`` have no ``ROOM``: what they do not decide does not pass.

    Raises:
        InputError: If a limit is set and the drift is not known, or predictions are damaged.
    """
    if all(getattr(gate, name) is None for name in AGE_LIMITS):
        return []
    drift = drift_of(bundle, "the report")
    checks = limit_checks(gate, bundle, named)
    if drift.is_reference:
        return checks
    if all(abs(row.bundle_months - row.float_months) <= EXACT_MONTHS for row in drift.rows):
        checks = [
            msgspec.structs.replace(check, outcome="pass", groups=(), advice="")
            if check.outcome in OPEN and check.limit != "max_mae_months"
            else check
            for check in checks
        ]
    notes += _unseen_groups(drift)
    left = drift.samples - sum(group.samples for group in drift.groups)
    if left and drift.groups:
        notes.append(f"{left} images are in no group of sex and age: too few of one sex")
    if gate.max_p99_change_months is None or drift.samples < P99_IMAGES:
        notes.append(_rare_damage(drift, gate.max_p99_change_months or RARE_MONTHS))
    return _with_images_needed(gate, bundle, checks, named)


def limit_checks(gate: Gate, bundle: BundleReport, named: Collection[str]) -> list[Check]:
    """Compare the drift of a bundle, which is known, with each limit on ages that is set."""
    drift = bundle.drift
    assert drift is not None
    checks = []
    for name in (*_FIGURES, *_GROUP_FIGURES):
        limit, room = getattr(gate, name), room_of(name, named)
        # The reference is no further from itself than 0, however few images there are.
        if limit is None or (drift.is_reference and name != "max_mae_months"):
            continue
        if name in _GROUP_FIGURES:
            groups = (*drift.groups, *drift.tails)
            figures = [(group, _GROUP_FIGURES[name](group)) for group in groups]
            checks.append(_group_check(name, figures, limit, room, bundle))
        else:
            checks.append(_check(name, limit, room, bundle))
    return checks


def room_of(name: str, named: Collection[str]) -> float:
    """Return how many times a limit the upper end may be before the gate fails."""
    few = name == "max_p99_change_months" or name in _GROUP_FIGURES
    return ROOM if few and name not in named else 1.0


def _unseen_groups(drift: DriftReport) -> list[str]:
    """Return a note on the tails of age with too few images for a check of their own."""
    groups = (*drift.groups, *drift.tails)
    seen = {(group.sex, group.from_months, group.to_months) for group in groups}
    unseen = []
    for sex, start, stop in TAILS:
        if (sex, start, stop) not in seen:
            ages = f"from {start / 12:g}" if start else f"under {stop / 12:g}"
            unseen.append(f"{'girls' if sex == 'F' else 'boys'} {ages}")
    if not (unseen and drift.groups):
        return []
    return [f"{', '.join(unseen)} years: not checked alone, fewer than {MIN_TAIL_IMAGES} images"]


def _rare_damage(drift: DriftReport, months: float) -> str:
    """Return the bound of the share of children whose age changes much."""
    from bakit.bench.statistics import share_bound  # noqa: PLC0415  # most gates need no numpy

    hits = sum(abs(row.bundle_months - row.float_months) > months for row in drift.rows)
    # Films of one patient are not independent.
    count = max(drift.patients or drift.samples, hits)
    return (
        f"rare damage: {hits} of {drift.samples} images changed by more than {months:g} months, "
        f"so up to {100 * share_bound(hits, count):.2g} % of children may; {P99_IMAGES} images "
        "decide"
    )


def _with_images_needed(
    gate: Gate, bundle: BundleReport, checks: list[Check], named: Collection[str]
) -> list[Check]:
    """Return the checks; where images are too few, with the number that all limits need."""
    open_checks = [check for check in checks if check.outcome in OPEN]
    if not open_checks:
        return checks
    from bakit.bench.gate.power import images_to_pass  # noqa: PLC0415  # most gates need no numpy

    # If all that is open is undecided, the gate passes: how many images would decide everything?
    passes = all(check.outcome == "undecided" for check in open_checks)
    needed = images_to_pass(gate, bundle, AGE_LIMITS if passes else named)
    advice = "bench more labelled images"
    if needed is None:
        advice = "correct the model or raise the limit; more images like these would not pass"
    return [
        msgspec.structs.replace(check, images_needed=needed, advice=advice)
        if check.outcome in OPEN
        else check
        for check in checks
    ]


def drift_of(bundle: BundleReport, where: str) -> DriftReport:
    """Return the drift of a bundle.

    Raises:
        InputError: If there is none, or its predictions are damaged; or if a bundle is marked as
            the reference, to which most limits do not apply, and is not.
    """
    drift = bundle.drift
    if drift is None:
        message = (
            f"{bundle.name}: {where} was benched without --data, so its drift is not known; "
            "bench it with --data, or gate latency and size alone with --no-drift"
        )
        raise InputError(message)
    counts = Counter(row.id for row in drift.rows)
    for name, count in counts.most_common(1):
        if count > 1:
            message = f"{bundle.name}: {where} has image {name!r} {count} times; bench again"
            raise InputError(message)
    if len(counts) != drift.samples or not counts:
        message = (
            f"{bundle.name}: {where} has predictions of {len(counts)} images and figures of "
            f"{drift.samples}; bench again"
        )
        raise InputError(message)
    for row in drift.rows:
        if not all(map(math.isfinite, (row.true_months, row.float_months, row.bundle_months))):
            message = f"{bundle.name}: {where} has an age of image {row.id!r} that is no number"
            raise InputError(message)
        if drift.is_reference and row.bundle_months != row.float_months:
            message = (
                f"{bundle.name}: {where} marks it as the reference, and its age of image "
                f"{row.id!r} is not the reference's; bench again"
            )
            raise InputError(message)
    return drift


def _relative_drift(drift: DriftReport) -> Figure:
    share = 100 / drift.float_mae_months if drift.float_mae_months else math.inf
    low, high = drift.drift_ci95_months
    words = "drift relative to the float model's MAE"
    return Figure(words, share * drift.drift_months, (share * low, share * high), "%")


_FIGURES: dict[str, Callable[[DriftReport], Figure]] = {
    "max_drift_months": lambda drift: Figure("drift", drift.drift_months, drift.drift_ci95_months),
    "max_drift_pct": _relative_drift,
    "max_mae_months": lambda drift: Figure(
        "MAE", drift.bundle_mae_months, drift.bundle_mae_ci95_months
    ),
    "max_mean_change_months": lambda drift: Figure(
        "mean change against the float model",
        drift.mean_abs_change_months,
        drift.mean_abs_change_ci95_months,
    ),
    "max_p99_change_months": lambda drift: Figure(
        "p99 of the change against the float model",
        drift.p99_abs_change_months,
        drift.p99_abs_change_ci95_months,
    ),
}


def _group_change(group: GroupDrift) -> Figure:
    """Return how far a group moved to one side: without its sign."""
    low, high = group.mean_change_ci95_months
    ends = sorted((abs(low), abs(high)))
    nearest = 0.0 if low <= 0 <= high else ends[0]
    return Figure("mean change to one side", abs(group.mean_change_months), (nearest, ends[1]))


_GROUP_FIGURES: dict[str, Callable[[GroupDrift], Figure]] = {
    "max_group_drift_months": lambda group: Figure(
        "drift", group.drift_months, group.drift_ci95_months
    ),
    "max_group_change_months": _group_change,
}


AGE_LIMITS = frozenset({*_FIGURES, *_GROUP_FIGURES})
"""Names of the limits on ages."""


def decide(figure: Figure, limit: float, samples: int, least: int, room: float = 1.0) -> Outcome:
    """Compare a figure of so many images with a limit.

    Below ``least`` images its interval is not to be trusted. What is not finite never passes. An
    upper end within ``room`` times the limit is undecided.
    """
    if not -math.inf < figure.estimate <= limit:  # NaN is not <= anything
        return "fail"
    if samples < least or figure.interval is None:
        return "too-few-images"
    low, high = figure.interval
    if not -math.inf < low <= high < math.inf:
        return "fail"
    if high <= limit:
        return "pass"
    if figure.estimate == limit:
        return "fail"
    return "undecided" if high <= room * limit else "too-few-images"


def _upper(figure: Figure) -> float:
    return math.inf if figure.interval is None else figure.interval[1]


def _check(name: str, limit: float, room: float, bundle: BundleReport) -> Check:
    drift = bundle.drift
    assert drift is not None
    if drift.mean_abs_change_ci95_months is None or drift.bundle_mae_ci95_months is None:
        message = (
            f"{bundle.name}: the report is of an older bakit and has no intervals of changes; "
            "bench again"
        )
        raise InputError(message)
    figure = _FIGURES[name](drift)
    least = P99_IMAGES if name == "max_p99_change_months" else LEAST_IMAGES
    outcome = decide(figure, limit, drift.patients or drift.samples, least, room)
    text = figure_text(figure, limit)
    if outcome == "pass":
        return figure.check(name, outcome, text, limit)
    groups = worst_groups(drift.groups, name)
    advice = _advice(name, outcome, bundle)
    return figure.check(name, outcome, text, limit, groups, advice)


def figure_text(figure: Figure, limit: float) -> str:
    """Return a figure and its limit in words."""
    unit = figure.unit
    reach = "no interval on so few images"
    if figure.interval is not None:
        reach = f"95 % interval up to {figure.interval[1]:.4g}"
    return f"{figure.words} {figure.estimate:.4g} {unit} ({reach}), limit {limit:.4g} {unit}"


def _advice(name: str, outcome: Outcome, bundle: BundleReport) -> str:
    if outcome in OPEN:
        return ""  # it follows for all limits together
    assert bundle.drift is not None
    if name == "max_mae_months":
        return "bakit evaluate shows where the model is wrong: its error is not the bundle's doing"
    return for_drift(bundle, bundle.drift)


def _group_check(
    name: str,
    figures: list[tuple[GroupDrift, Figure]],
    limit: float,
    room: float,
    bundle: BundleReport,
) -> Check:
    """Check all groups: the text is of the gravest, and all that are not within are named."""
    if not figures:
        text = "no group of sex and age has 20 images"
        return Check(name, "too-few-images", text, bound=limit, unit="months")
    outcomes = [decide(fig, limit, group.samples, 1, room) for group, fig in figures]
    outcome = gravest(outcomes)
    worst = [pair for pair, found in zip(figures, outcomes, strict=True) if found == outcome]
    group, figure = max(
        worst, key=lambda pair: (outcome == "fail" and pair[1].estimate, _upper(pair[1]))
    )
    text = f"{group.name}: {figure_text(figure, limit)}"
    if outcome == "pass":
        return figure.check(name, outcome, text, limit)
    groups = worst_groups([group for group, _ in worst], name)
    return figure.check(name, outcome, text, limit, groups, _advice(name, outcome, bundle))
