"""A figure: pictures, what they say in words, and their numbers as a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from markupsafe import Markup


@dataclass(frozen=True)
class Table:
    """The numbers of a figure.

    Attributes:
        head: Names of the columns.
        rows: Cells; the first of each row names it.
        words: Columns that hold words and stand to the left, besides the first.
    """

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    words: tuple[int, ...] = ()


@dataclass(frozen=True)
class Panel:
    """One picture.

    Attributes:
        svg: The picture.
        title: Above it; empty where the figure has only one.
        note: Below the title, small.
    """

    svg: Markup
    title: str = ""
    note: str = ""


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        key: Its anchor in the page.
        title: What it shows.
        lead: How to read it, in a sentence or two.
        panels: Its pictures.
        legend: Class and meaning of each colour or mark.
        tables: Its numbers.
        axes: What the axes of every panel are; empty where labels in the pictures say it.
    """

    key: str
    title: str
    lead: str
    panels: tuple[Panel, ...]
    legend: tuple[tuple[str, str], ...] = ()
    tables: tuple[Table, ...] = ()
    axes: str = ""
