"""Values with bounds: what another machine may put into a measurement, and intervals without."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

if TYPE_CHECKING:
    from collections.abc import Sequence

# One line, and nothing that a terminal obeys.
PRINTABLE = r"\A[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z"
Text = Annotated[str, Meta(max_length=1000, pattern=PRINTABLE)]
Amount = Annotated[float, Meta(ge=0, le=1e12)]
Celsius = Annotated[float, Meta(ge=-100, le=300)]
Months = Annotated[float, Meta(ge=-1e6, le=1e6)]
Watts = Annotated[float, Meta(ge=-1e4, le=1e5)]
Count = Annotated[int, Meta(ge=0, le=10**9)]
Nanoseconds = Annotated[int, Meta(ge=1, le=10**14)]
Few = Meta(max_length=100)
Stage = Literal["localize", "regress", "total"]

UNBOUNDED = 1e6
"""End of an interval that is as good as unbounded, in months; JSON has no infinity."""

MIN_QUERIES = 368
"""Fewest queries of an interval of latency: in fewer, slow changes of speed hide in the noise."""


def interval_text(ends: Sequence[float], form: str, between: str = " to ") -> str:
    """Format an interval; ``unknown`` if it is unbounded."""
    if ends[1] - ends[0] >= UNBOUNDED:
        return "unknown"
    return between.join(f"{round(end, 3) + 0.0:{form}}" for end in ends)  # no -0.00
