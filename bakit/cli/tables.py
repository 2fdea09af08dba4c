"""What commands print for people: tables and lines, on a terminal and in a log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from rich.console import Console
    from rich.table import Table

WIDTH = 120
"""Columns when the output is no terminal, so that a log has every number."""


def new_console(width: int = WIDTH) -> Console:
    """Return stdout, as wide as the terminal, or of ``width`` columns where it is none."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else width)


def new_table(
    title: str,
    columns: Sequence[str],
    *,
    left: Container[int] = (0,),
    overflow: Literal["fold", "ellipsis"] = "fold",
    wrap: bool = False,
) -> Table:
    """Return an empty table; its header is left out where no column has a name.

    Args:
        title: Printed above it.
        columns: Their names.
        left: Columns that hold names or bars; the others hold numbers and stand to the right.
        overflow: What becomes of a word that is wider than its column.
        wrap: Whether numbers may break. Otherwise only the first column does in a narrow terminal.
    """
    from rich import box
    from rich.table import Table

    table = Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index in left else "right"
        no_wrap = index > 0 and not wrap
        table.add_column(column, justify=justify, overflow=overflow, no_wrap=no_wrap)
    return table


def print_line(console: Console, line: str) -> None:
    """Print a line as it is, in as many columns as it takes."""
    console.print(safe(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def safe(text: str, *, short: bool = False) -> str:
    """Escape what a terminal would obey or the output cannot encode: names may hold anything.

    Args:
        text: What to print.
        short: Put a question mark instead, where cells are narrow.
    """
    seen = "".join(
        letter if letter.isprintable() else "?" if short else repr(letter)[1:-1] for letter in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return seen.encode(encoding, "replace" if short else "backslashreplace").decode(encoding)
