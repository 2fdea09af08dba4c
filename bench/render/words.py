"""Numbers and names as people read them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport

STANDINGS = {
    "ship": "ship this",
    "option": "option",
    "beaten": "beaten",
    "undecided": "too few images",
    "refused": "beyond a limit",
    "reference": "reference",
    "unmeasured": "not measured",
}
"""Outcomes of ``bakit.bench.gate.recommend`` in words."""

NONE = "\N{EN DASH}"
"""Stands for what was not measured."""
MINUS = "\N{MINUS SIGN}"


def fixed(number: float | None, digits: int = 2) -> str:
    """Return a number with so many decimals, a dash for none."""
    if number is None or not math.isfinite(number):
        return NONE
    return f"{round(number, digits) + 0.0:,.{digits}f}".replace("-", MINUS)  # + 0.0: no -0.00


def signed(number: float | None, digits: int = 3) -> str:
    """Return a number with its sign, also a plus; a dash for none."""
    if number is None or not math.isfinite(number):
        return NONE
    return f"{round(number, digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def milliseconds(number: float | None) -> str:
    """Return a time in milliseconds with as many decimals as mean something."""
    if number is None or not math.isfinite(number):
        return NONE
    return fixed(number, 0 if number >= 100 else 1 if number >= 10 else 2)


def interval(low: float, high: float, digits: int = 3) -> str:
    """Return ``[low, high]`` with signs."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def percent(share: float | None) -> str:
    """Return a share of 0..1 in per cent; a dash for nothing."""
    return f"{100 * share:.1f} %" if share and math.isfinite(share) else NONE


def drift_words(drift: DriftReport | None) -> str:
    """Return a drift with its interval, in months."""
    if drift is None:
        return "not measured"
    if drift.is_reference:
        return "reference"
    return f"{signed(drift.drift_months)} {interval(*drift.drift_ci95_months)}"


def change_words(drift: DriftReport | None) -> str:
    """Return the mean and the 99th percentile of the change of a prediction, in months."""
    if drift is None or drift.is_reference:
        return NONE
    return f"{fixed(drift.mean_abs_change_months)} / {fixed(drift.p99_abs_change_months)}"


def stage_ms(bundle: BundleReport, stage: str, figure: str) -> float | None:
    """Return ``p50_ms``, ``p90_ms``, ``p99_ms`` or ``mean_ms`` of a stage; None if unknown."""
    times = bundle.latency.stages.get(stage) if bundle.latency else None
    if times is None:
        return None
    value: float = getattr(times, figure)
    return value if math.isfinite(value) else None


def shortened(text: str, length: int = 34) -> str:
    """Return a name that fits into a picture, without what is not printable."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}"


SAME_MONTHS = 0.05
"""A bundle that moves no prediction by more than this has no pictures of what it moves."""


def is_same(drift: DriftReport) -> bool:
    """Return whether a bundle says what the float model says, to a twentieth of a month."""
    return drift.max_abs_change_months <= SAME_MONTHS


def same_words(labels: Sequence[str]) -> str:
    """Return a sentence that names the bundles without a picture."""
    if not labels:
        return ""
    return (
        f" Not drawn, since no prediction of theirs moves by more than {SAME_MONTHS:g} months: "
        f"{', '.join(labels)}."
    )
