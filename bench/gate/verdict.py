"""Verdicts of the gate, and known failures."""

from __future__ import annotations

from datetime import date
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import msgspec

from bakit.documents import UNREADABLE
from bakit.errors import InputError, unknown
from bakit.files import read_regular
from bakit.sealed import MAX_FILE_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

Outcome: TypeAlias = Literal[
    "fail", "not-measured", "too-few-images", "unsteady", "improved", "known", "undecided", "pass"
]
"""The gravest first.

``not-measured``: a bundle is missing, or a limit applied to no bundle. ``too-few-images``: the
estimate is within the limit and its interval is not. ``unsteady``: times of two runs cannot be
compared, as one was not stable. ``improved``: better than the baseline by more than noise, so the
baseline is due. ``known``: a failure that is expected. ``undecided``: too few images for a default
limit, while its upper end is within ``ROOM`` (``bakit.bench.gate.accuracy``) or others were asked
for."""

NOTED: tuple[Outcome, ...] = ("known", "undecided")
PASSING: tuple[Outcome, ...] = ("pass", *NOTED)
OPEN: tuple[Outcome, ...] = ("too-few-images", "undecided")
"""Outcomes of checks whose estimates are within the limit and whose upper ends are not."""

REPORT = "the report"
"""Stands for the bundle's name where a check is of the whole report."""

SCHEMA_VERSION = 2
"""Version of ``GateResult`` as a document. Version 1 had no numbers in its checks."""


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One figure of a bundle against one limit.

    Attributes:
        limit: Name of the limit, as in ``Gate``.
        outcome: What came of it.
        text: The figure and the limit, in words.
        groups: Children that it comes from most, in words.
        advice: What to try; empty where it passes.
        images_needed: Images like these, of as many patients, with which all limits on ages pass
            in nine of ten draws (``bakit.bench.gate.power``); None unless there are too few, or if
            no number is known.
        reason: Why a known failure is expected.
        value: The figure; None if there is none.
        upper: Upper end of its 95 % interval; None likewise.
        bound: The limit as a number: a minimum if the name of the limit begins with ``min``, else
            a maximum. None likewise.
        unit: Unit of the three; empty for a ratio.
    """

    limit: str
    outcome: Outcome
    text: str
    groups: tuple[str, ...] = ()
    advice: str = ""
    images_needed: int | None = None
    reason: str | None = None
    value: float | None = None
    upper: float | None = None
    bound: float | None = None
    unit: str = ""

    def __str__(self) -> str:
        return "; ".join(self.lines)

    @property
    def lines(self) -> list[str]:
        """The figure and the limit, then where it comes from and what to try: a line each."""
        parts = [self.text]
        if self.images_needed is not None:
            parts.append(f"too few images to decide: at least {self.images_needed:,} are needed")
        elif self.outcome in OPEN:
            parts.append("too few images to decide")
        if self.groups:
            parts.append(f"most in {', '.join(self.groups)}")
        if self.advice:
            parts.append(f"try: {self.advice}")
        if self.reason is not None:
            parts.append(self.reason)
        return parts


class Verdict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate's verdict on one bundle.

    Attributes:
        name: The bundle.
        passed: Whether it is within every limit, but for known failures.
        failures: Each check that is not, in a line.
        outcome: The gravest of its checks.
        checks: All checks.
        notes: What does not fail it and should be known.
    """

    name: str
    passed: bool
    failures: tuple[str, ...]
    outcome: Outcome = "pass"
    checks: tuple[Check, ...] = ()
    notes: tuple[str, ...] = ()


class GateResult(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The gate's verdict on a report.

    Attributes:
        passed: Whether every check passed.
        failures: All failures; each names its bundle.
        bundles: One verdict for each bundle: in the order of the report, then those missing in it.
        outcome: The gravest of all checks.
        notes: What does not fail the gate and should be known.
        checks: Checks of the whole report: what was not measured.
        schema_version: Version of this document; 1 if it has none.
    """

    passed: bool
    failures: tuple[str, ...]
    bundles: tuple[Verdict, ...]
    outcome: Outcome = "pass"
    notes: tuple[str, ...] = ()
    checks: tuple[Check, ...] = ()
    schema_version: int = 1

    @property
    def all_checks(self) -> list[tuple[str, Check]]:
        """Every check, with the name of its bundle."""
        checks = [(verdict.name, check) for verdict in self.bundles for check in verdict.checks]
        return [*checks, *((REPORT, check) for check in self.checks)]


class KnownFailure(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A failure that is expected for a while.

    Attributes:
        bundle: Names of bundles; ``*`` and ``?`` stand for anything.
        limit: Name of the limit, as in ``Gate``.
        reason: Why it is accepted.
        expires: The last day on which it is.
    """

    bundle: str
    limit: str
    reason: str
    expires: date


def read_known_failures(path: Path, limits: Sequence[str]) -> tuple[KnownFailure, ...]:
    """Read a JSON list of known failures of some limits.

    Raises:
        InputError: If it cannot be read, is anything else, or names an unknown limit.
    """
    try:
        known = msgspec.json.decode(
            read_regular(path, MAX_FILE_BYTES), type=tuple[KnownFailure, ...]
        )
    except (OSError, *UNREADABLE) as error:
        reason = getattr(error, "strerror", None) or error
        message = (
            f"{path}: no list of known failures ({reason}); write "
            '[{"bundle": "*-int8", "limit": "max_p99_change_months", "reason": "why", '
            '"expires": "2030-01-31"}]'
        )
        raise InputError(message) from error
    for failure in known:
        if failure.limit not in limits:
            message = f"{path}: {unknown('limit', failure.limit, limits)}"
            raise InputError(message)
        if not failure.reason.strip():
            message = f"{path}: the known failure of {failure.bundle} needs a reason"
            raise InputError(message)
    return known


def make_verdict(
    name: str,
    checks: Iterable[Check],
    known: Sequence[KnownFailure],
    today: date,
    notes: Sequence[str] = (),
) -> Verdict:
    """Judge a bundle by its checks, after excusing failures that are known today."""
    excused = tuple(_excuse(name, check, known, today) for check in checks)
    failures = tuple(str(check) for check in excused if check.outcome not in PASSING)
    notes = (*notes, *(str(check) for check in excused if check.outcome in NOTED))
    outcome = gravest(check.outcome for check in excused)
    return Verdict(name, not failures, failures, outcome, excused, notes)


def gravest(outcomes: Iterable[Outcome]) -> Outcome:
    """Return the gravest of some outcomes."""
    return min(outcomes, key=get_args(Outcome).index, default="pass")


def make_result(
    verdicts: Sequence[Verdict],
    known: Sequence[KnownFailure],
    checks: Sequence[Check] = (),
    notes: Sequence[str] = (),
) -> GateResult:
    """Join the verdicts and the checks of the report; name known failures that excuse nothing."""
    failures = [f"{v.name}: {failure}" for v in verdicts for failure in v.failures]
    failures += [f"{REPORT}: {check}" for check in checks if check.outcome not in PASSING]
    return GateResult(
        passed=not failures,
        failures=tuple(failures),
        bundles=tuple(verdicts),
        outcome=gravest([*(v.outcome for v in verdicts), *(check.outcome for check in checks)]),
        notes=(*notes, *_idle(known, verdicts)),
        checks=tuple(checks),
        schema_version=SCHEMA_VERSION,
    )


def _idle(known: Sequence[KnownFailure], verdicts: Sequence[Verdict]) -> list[str]:
    """Return a line for each known failure that does not fail, or was not checked."""
    lines = []
    for failure in known:
        met = [
            check.outcome
            for verdict in verdicts
            if fnmatchcase(verdict.name, failure.bundle)
            for check in verdict.checks
            if check.limit == failure.limit
        ]
        if all(outcome == "pass" for outcome in met):
            happens = "passes again" if met else "matches no check"
            lines.append(
                f"{failure.bundle}: {failure.limit} {happens}: take it from the known failures"
            )
    return lines


def _excuse(name: str, check: Check, known: Sequence[KnownFailure], today: date) -> Check:
    """Return a check, with what is known of its failure."""
    if check.outcome in PASSING:
        return check
    for failure in known:
        if failure.limit != check.limit or not fnmatchcase(name, failure.bundle):
            continue
        if today <= failure.expires:
            reason = f"known until {failure.expires}: {failure.reason}"
            return msgspec.structs.replace(check, outcome="known", reason=reason)
        reason = f"was known until {failure.expires}, which is over: {failure.reason}"
        return msgspec.structs.replace(check, reason=reason)
    return check
