"""Pictures with a row for each bundle, as wide as their place: axis and names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bakit.bench.render.svg import element
from bakit.bench.render.words import MINUS, shortened

if TYPE_CHECKING:
    from markupsafe import Markup

    from bakit.bench.render.svg import Scale

AXIS = 32
"""Pixels below the rows, for ticks and unit."""


def x_percent(share: float) -> str:
    """Return a place from left to right, 0..1, as SVG has it."""
    return f"{100 * share:.3f}%"


def axis(scale: Scale, top: float, bottom: float, unit: str, most: int = 6) -> list[Markup]:
    """Return grid lines and tick labels of a horizontal axis."""
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
    """Return a row's name on the left and its number on the right."""
    return [
        element("text", shortened(label), x="0", y=y, class_="name"),
        element("text", value, x="100%", y=y, class_="value", text_anchor="end"),
    ]
