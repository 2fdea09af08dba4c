"""Format numbers and names for reports."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from bakit.bench.bounds import MIN_QUERIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bakit.bench.report.document import BundleReport
    from bakit.bench.report.drift import DriftReport
    from bakit.bench.report.latency import LatencyReport

STANDINGS = {
    "ship": "ship this",
    "option": "option",
    "beaten": "dominated",
    "undecided": "too few images",
    "refused": "over a limit",
    "reference": "reference",
    "unmeasured": "not measured",
}
"""Display text for the outcomes of ``bakit.bench.gate.recommend``."""

NONE = "\N{EN DASH}"
"""Text for a missing value."""
MINUS = "\N{MINUS SIGN}"


def fixed(number: float | None, digits: int = 2) -> str:
    """Format a number with ``digits`` decimals; a dash for a missing value."""
    if number is None or not math.isfinite(number):
        return NONE
    return f"{round(number, digits) + 0.0:,.{digits}f}".replace("-", MINUS)  # + 0.0: no -0.00


def signed(number: float | None, digits: int = 3) -> str:
    """Format a number with its sign, plus or minus; a dash for a missing value."""
    if number is None or not math.isfinite(number):
        return NONE
    return f"{round(number, digits) + 0.0:+.{digits}f}".replace("-", MINUS)


def milliseconds(number: float | None) -> str:
    """Format milliseconds with 0 to 2 decimals; a dash for a missing value."""
    if number is None or not math.isfinite(number):
        return NONE
    return fixed(number, 0 if number >= 100 else 1 if number >= 10 else 2)


def median_interval(latency: LatencyReport | None) -> str:
    """Format the interval of the median total time in this run, or why there is none."""
    if latency is None or not latency.samples:
        return NONE
    if ends := latency.stages["total"].p50_ci95_ms:
        return f"{milliseconds(ends[0])} to {milliseconds(ends[1])}"
    few = latency.queries < MIN_QUERIES
    return f"none: {MIN_QUERIES} queries are needed" if few else "none: the speed changed"


def interval(low: float, high: float, digits: int = 3) -> str:
    """Format an interval as ``[low, high]`` with signs."""
    return f"[{signed(low, digits)}, {signed(high, digits)}]"


def percent(share: float | None) -> str:
    """Format a share of 0..1 as a percentage; a dash for 0 or a missing value."""
    return f"{100 * share:.1f} %" if share and math.isfinite(share) else NONE


def drift_words(drift: DriftReport | None) -> str:
    """Format a drift with its interval, in months."""
    if drift is None:
        return "not measured"
    if drift.is_reference:
        return "reference"
    return f"{signed(drift.drift_months)} {interval(*drift.drift_ci95_months)}"


def change_words(drift: DriftReport | None) -> str:
    """Format the mean and the 99th percentile of the changes, in months."""
    if drift is None or drift.is_reference:
        return NONE
    return f"{fixed(drift.mean_abs_change_months)} / {fixed(drift.p99_abs_change_months)}"


def bundle_cells(bundle: BundleReport) -> dict[str, str]:
    """Return the figures of a bundle by the heading of their column."""
    drift, footprint = bundle.drift, bundle.footprint
    return {
        "p50, ms": milliseconds(bundle.stage_ms("total", "p50_ms")),
        "p99, ms": milliseconds(bundle.stage_ms("total", "p99_ms")),
        "size, MB": fixed(bundle.total_size_mb, 1),
        "INT8": percent(bundle.int8_share),
        "MAE, months": fixed(drift.bundle_mae_months if drift else None),
        "drift, months [95 %]": drift_words(drift),
        "change, months, mean / p99": change_words(drift),
        "load, ms": milliseconds(footprint.load_ms if footprint else None),
        "memory, MB": fixed(footprint.peak_rss_mb if footprint else None, 0),
    }


def shortened(text: str, length: int = 34) -> str:
    """Shorten a name to fit into a picture; unprintable characters become ``?``."""
    text = "".join(letter if letter.isprintable() else "?" for letter in text)
    return text if len(text) <= length else f"{text[: length - 9]}…{text[-8:]}"


SAME_MONTHS = 0.05
"""Bundles whose largest change is at most this have no plot of their changes."""


def is_same(drift: DriftReport) -> bool:
    """Return whether all predictions are within ``SAME_MONTHS`` of the float model's."""
    return drift.max_abs_change_months <= SAME_MONTHS


def same_words(labels: Sequence[str]) -> str:
    """Return a sentence that names the bundles without a plot."""
    if not labels:
        return ""
    return (
        f" Not shown, because no prediction changes by more than {SAME_MONTHS:g} months: "
        f"{', '.join(labels)}."
    )
