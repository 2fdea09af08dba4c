"""SVG, element by element: every value that goes in is escaped.

Pictures have no colours of their own but classes, so that the page's style sheet gives them those
of a light or dark screen or of paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence


def element(name: str, *children: Markup | str, **attributes: str | float | None) -> Markup:
    """Return an element; text among the children is escaped, attributes that are None left out.

    Args:
        name: Name of the element.
        children: Elements and text.
        attributes: ``class_`` stands for ``class``, other underscores for hyphens.
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
    """Return a picture.

    Args:
        children: What is in it.
        label: What it shows, for those who do not see it.
        height: In pixels, or in units of ``width``.
        width: If given, the picture scales as a whole. If not, it is as wide as its place,
            positions are in per cent, and letters keep their size on any screen.
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
    """From numbers to 0..1.

    Attributes:
        low: What is at 0.
        high: What is at 1, more than ``low``.
        log: Whether equal ratios have equal lengths; both ends are positive then.
    """

    low: float
    high: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """Return where a number is, 0..1; what is outside is put at the end."""
        value = min(max(value, self.low), self.high)
        if self.log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)

    def ticks(self, most: int = 6) -> list[float]:
        """Return round numbers within the scale, at least two where that is possible."""
        if self.log and self.high / self.low > 4:
            return _log_ticks(self.low, self.high, most)
        # A short logarithmic axis is nearly a linear one.
        step = _step((self.high - self.low) / max(most - 1, 1))
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(index * step, 10) + 0.0 for index in range(first, last + 1)]


def _step(least: float) -> float:
    """Return the smallest of 1, 2, 2.5, 5 times a power of ten that is not below ``least``."""
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * m for m in (1, 2, 2.5, 5, 10) if power * m >= least * (1 - 1e-9))


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
    """Return ends that hold all finite values with some room, however few or equal they are."""
    finite = [value for value in (*values, *include) if math.isfinite(value)] or [0.0, 1.0]
    low, high = min(finite), max(finite)
    room = (high - low) * share or max(abs(high) * 0.1, 0.5)
    return low - room, high + room


def log_around(values: Iterable[float]) -> tuple[float, float]:
    """Return positive ends that hold all positive finite values with some room."""
    finite = [value for value in values if math.isfinite(value) and value > 0] or [1.0, 10.0]
    low, high = min(finite), max(finite)
    room = max((high / low) ** 0.05, 1.08)
    return low / room, high * room
