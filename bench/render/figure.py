"""What the figures of the page show; ``charts.html.j2`` draws them.

Horizontal positions are shares of the picture's width, 0..1, so that letters keep their size on any
screen; vertical ones are pixels. The style sheet sets the colours, by CSS classes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


@dataclass(frozen=True)
class Table:
    """The numbers of a figure; the first column and those in ``words`` are left-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One picture, with the title and note above it; ``label`` describes it to screen readers."""

    label: str
    chart: object
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: Its id in the page.
        draw: The macro of ``charts.html.j2`` that draws the charts of its panels.
        title: Its heading.
        lead: The text below the heading.
        panels: The pictures.
        legend: A CSS class and a meaning each.
        tables: The same numbers as text.
        axes: Description of the axes of all panels.
    """

    key: str
    draw: str
    title: str
    lead: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    axes: str = ""


class Row(NamedTuple):
    """A row of a chart: its name on the left, its number on the right, and what is drawn below."""

    name: str
    number: str
    marks: Sequence[object]


@dataclass(frozen=True)
class Rows:
    """A chart of rows above one horizontal axis; ``limit`` is a position beyond which is bad."""

    scale: Scale
    unit: str
    rows: Sequence[Row]
    limit: float | None = None


@dataclass(frozen=True)
class Scale:
    """Maps numbers to 0..1, linearly or logarithmically."""

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return the position of a number, clipped to 0..1."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round numbers within the scale, at least two if possible."""
        if self.log and self.high / self.low > 4:
            return _log_ticks(self.low, self.high, most)
        # A short logarithmic axis is almost linear.
        step = _step((self.high - self.low) / max(most - 1, 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]


def _step(minimum: float) -> float:
    """Return the smallest step of 1, 2, 2.5 or 5 times a power of ten from ``minimum`` up."""
    power = 10.0 ** math.floor(math.log10(minimum))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= minimum * (1 - 1e-9))


def _log_ticks(low: float, high: float, most: int) -> list[float]:
    decades = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for marks in ((1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9), (1, 2, 3, 5, 7), (1, 2, 5), (1, 3), (1,)):
        ticks = [m * 10.0**d for d in decades for m in marks]
        ticks = [tick for tick in ticks if low * 0.9999 <= tick <= high * 1.0001]
        if len(ticks) <= most:
            break
    return ticks


def around(
    values: Iterable[float], include: Sequence[float] = (), share: float = 0.06
) -> tuple[float, float]:
    """Return the ends of a linear scale for all finite values, with a margin."""
    finite = [value for value in (*values, *include) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * share or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def log_around(values: Iterable[float]) -> tuple[float, float]:
    """Return the ends of a logarithmic scale for all positive finite values, with a margin."""
    finite = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = min(finite), max(finite)
    room = max((high / low) ** 0.05, 1.08)
    return low / room, high * room
