"""Figures and their SVG elements; all values are escaped.

Elements have CSS classes instead of colours, so that the style sheet can set the colours for light
screens, dark screens and paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from bakit.bench.render.words import MINUS, shortened

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


AXIS = 32
"""Height of the axis below a picture, in pixels."""


@dataclass(frozen=True)
class Table:
    """The numbers of a figure; the first column and those in ``words`` are left-aligned."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One picture, with the title and note above it."""

    svg: Markup
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure; ``legend`` is a CSS class and a meaning each, ``axes`` describes all panels."""

    key: str
    title: str
    lead: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    axes: str = ""


def element(name: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """Return an element with its children: elements, and text to escape.

    ``class_`` becomes ``class``, other underscores become hyphens; attributes that are None are
    omitted.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(_attribute(key), _value(value))
        for key, value in attributes.items()
        if value is not None
    )
    inner = Markup("").join(escape(child) for child in children)
    return Markup("<{}{}>{}</{}>").format(Markup(name), written, inner, Markup(name))  # noqa: S704


def _attribute(key: str) -> str:
    return "viewBox" if key == "viewbox" else key.rstrip("_").replace("_", "-")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else f"{round(value, 2):g}"


def picture(
    children: Iterable[Markup], label: str, height: float, width: float | None = None
) -> Markup:
    """Return a picture; ``label`` describes it for screen readers.

    With a ``width`` it scales as a whole and ``height`` is in the same units. Without, it is as
    wide as its place, positions are in per cent, and letters keep their size on any screen.
    """
    size: dict[str, str | float]
    if width is None:
        size = {"width": "100%", "height": height}
    else:
        size = {"viewbox": f"0 0 {width:g} {height:g}"}
    return element(
        "svg", *children, xmlns="http://www.w3.org/2000/svg", role="img", aria_label=label, **size
    )


def dots(points: Iterable[tuple[float, float]], class_: str) -> Markup:
    """Return points as one path of strokes without length: some 12 bytes a point."""
    path = "".join(f"M{x:.1f} {y:.1f}h0" for x, y in points)
    return element("path", d=path, class_=class_)


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


def x_percent(share: float) -> str:
    """Return a horizontal position, 0..1, as a percentage for SVG."""
    return f"{100 * share:.3f}%"


def axis(scale: Scale, top: float, bottom: float, unit: str, most: int = 6) -> list[Markup]:
    """Draw grid lines and tick labels of a horizontal axis."""
    parts = []
    for tick in scale.ticks(most):
        at = scale(tick)
        anchor = "start" if at < 0.03 else "end" if at > 0.97 else "middle"
        x = x_percent(at)
        parts.append(element("line", x1=x, x2=x, y1=top, y2=bottom, class_="grid"))
        text = f"{tick:g}".replace("-", MINUS)
        parts.append(element("text", text, x=x, y=bottom + 15, class_="tick", text_anchor=anchor))
    parts.append(element("text", unit, x="100%", y=bottom + 28, class_="unit", text_anchor="end"))
    return parts


def names(label: str, value: str, y: float) -> list[Markup]:
    """Draw a row's name on the left and its number on the right."""
    return [
        element("text", shortened(label), x="0", y=y, class_="name"),
        element("text", value, x="100%", y=y, class_="value", text_anchor="end"),
    ]


def mark(x: str, y: float, size: float, class_: str) -> Markup:
    """Draw a circle, or a square if the class contains ``square``; ``x`` is a percentage."""
    if "square" not in class_:
        return element("circle", cx=x, cy=y, r=size, class_=class_)
    # SVG cannot add pixels to a percentage, so the square is in a nested SVG element.
    half = float(round(0.9 * size))
    box = {"x": -half, "y": -half, "width": 2 * half, "height": 2 * half}
    return element("svg", element("rect", **box, class_=class_), x=x, y=y, overflow="visible")
