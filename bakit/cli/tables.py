"""Tables and lines that the commands print, on a terminal or in a log."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from rich.console import Console
    from rich.table import Table

WIDTH = 120
"""Columns if the output is not a terminal, so that a log has every number."""


def new_console(width: int = WIDTH) -> Console:
    """Return a console on stdout, as wide as the terminal; ``width`` columns if it is none."""
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
    """Return an empty table; it has no header if no column has a name.

    Args:
        title: Printed above it.
        columns: Column names.
        left: Left-aligned columns; the others are right-aligned.
        overflow: How to shorten a word that is wider than its column.
        wrap: Whether all columns may wrap, not only the first.
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
    """Print a line without markup and without wrapping."""
    console.print(safe(line), markup=False, emoji=False, highlight=False, soft_wrap=True)


def safe(text: str, *, short: bool = False) -> str:
    """Escape control characters and characters that the output cannot encode.

    Args:
        text: Text that may contain any character, such as a file name.
        short: Replace each by a question mark instead.
    """
    seen = "".join(
        letter if letter.isprintable() else "?" if short else repr(letter)[1:-1] for letter in text
    )
    encoding = sys.stdout.encoding or "utf-8"
    return seen.encode(encoding, "replace" if short else "backslashreplace").decode(encoding)
