"""Tables and lines that the commands print, on a terminal or in a log."""

from __future__ import annotations

import json
import re
import sys
from typing import TYPE_CHECKING, Literal

import click

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from rich.console import Console
    from rich.table import Table

_NOT_PLAIN = re.compile(r"[^\n -~]")

WIDTH = 120
"""Columns if the output is not a terminal, so that a log has every number."""


def echo(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """Print text, or a JSON document as bytes, with control characters escaped.

    All that the commands print outside of tables goes this way.

    Raises:
        InputError: If stdout is closed.
    """
    if not err:
        _check_stdout()
    if isinstance(text, bytes):
        text = _NOT_PLAIN.sub(_as_json, text.decode())
    click.echo("\n".join(map(safe, text.split("\n"))), err=err, nl=nl)


def _as_json(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _check_stdout() -> None:
    if sys.stdout is None:
        message = "stdout is closed, so the result is lost; redirect it to a file or /dev/null"
        raise InputError(message)


def new_console(width: int = WIDTH) -> Console:
    """Return a console on stdout, as wide as the terminal; ``width`` columns if it is none."""
    from rich.console import Console

    _check_stdout()
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
    from rich.text import Text

    table = Table(
        title=Text(safe(title)),
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
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return seen.encode(encoding, "replace" if short else "backslashreplace").decode(encoding)
