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

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_NOT_PLAIN = re.compile(r"[^\n -~]")

WIDTH = 200
"""Columns if the output is not a terminal, so that a log has every number."""

VERBOSE, QUIET, DOCUMENT = "bakit.verbose", "bakit.quiet", "bakit.document"
"""Keys of click's context: whether -v or -q was given, and whether a document was printed."""


def _set_level(ctx: click.Context, option: click.Parameter, value: object) -> None:
    if value:
        ctx.meta[f"bakit.{option.name}"] = True
    if value and option.name == "verbose":
        import logging

        logger = logging.getLogger("bakit")
        logger.setLevel(logging.DEBUG)
        logger.handlers = [logging.StreamHandler()]


def _level(flags: list[str], text: str) -> click.Option:
    return click.Option(flags, is_flag=True, expose_value=False, callback=_set_level, help=text)


LEVELS = [
    _level(["-v", "--verbose"], "Print steps and times on stderr, and a traceback after an error."),
    _level(["-q", "--quiet"], "Print results and errors only."),
]
"""Options of every command."""


def is_set(level: str) -> bool:
    """Return whether ``VERBOSE``, ``QUIET`` or ``DOCUMENT`` is set."""
    context = click.get_current_context(silent=True)
    return bool(context and context.meta.get(level))


def hint(text: str) -> None:
    """Print a remark on stderr, unless -q was given."""
    if not is_set(QUIET):
        echo(text, err=True)


def next_step(*words: object) -> None:
    """Print the command to run next on stderr, unless -q was given or a document was printed."""
    if not is_set(DOCUMENT):
        hint("next: " + " ".join(map(str, words)))


def echo(text: str | bytes, *, err: bool = False, nl: bool = True) -> None:
    """Print text, or a JSON document as bytes, with control characters escaped.

    All that the commands print outside of tables goes this way.

    Raises:
        InputError: If stdout is closed.
    """
    if not err:
        _check_stdout()
    if isinstance(text, bytes):
        if context := click.get_current_context(silent=True):
            context.meta[DOCUMENT] = True
        text = _NOT_PLAIN.sub(_as_json, text.decode())
    click.echo("\n".join(map(safe, text.split("\n"))), err=err, nl=nl)


def _as_json(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _check_stdout() -> None:
    if sys.stdout is None:
        message = "stdout is closed, so the result is lost; redirect it to a file or /dev/null"
        raise InputError(message)


def new_console() -> Console:
    """Return a console on stdout, as wide as the terminal; ``WIDTH`` columns if it is none."""
    from rich.console import Console

    _check_stdout()
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH)


def new_table(
    title: str, columns: Sequence[str], *, left: Container[int] = (0,), wrap: bool = False
) -> Table:
    """Return an empty table; it has no header if no column has a name.

    Where it does not fit, it is printed as a list of records, so that no number is cut.

    Args:
        title: Printed above it.
        columns: Column names.
        left: Left-aligned columns; the others are right-aligned.
        wrap: Whether all columns may wrap between words, not only the first.
    """
    from rich import box
    from rich.cells import cell_len
    from rich.table import Table
    from rich.text import Text

    class Records(Table):
        def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
            names = [" ".join(str(column.header).split()) for column in self.columns]
            cells = [
                [cell if isinstance(cell, Text) else Text(str(cell)) for cell in column.cells]
                for column in self.columns
            ]
            least = 3 * len(self.columns)
            for column, found in zip(self.columns, cells, strict=True):
                parts = [str(column.header), *map(str, found)]
                cut = "\n" if column.no_wrap else None
                pieces = [piece for text in parts for piece in text.split(cut)]
                least += max(map(cell_len, pieces), default=0)
            if least <= options.max_width:
                yield from super().__rich_console__(console, options)
                return
            yield Text(f"{self.title}\n")
            pad = max(map(len, names))
            for first, *others in zip(*cells, strict=True):
                yield first
                for name, cell in zip(names[1:], others, strict=True):
                    if str(cell):
                        yield Text.assemble(f"  {name:{pad}}  ", cell)
            yield Text()

    table = Records(
        title=Text(safe(title)),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        show_header=any(columns),
    )
    for index, column in enumerate(columns):
        justify: Literal["left", "right"] = "left" if index in left else "right"
        table.add_column(column, justify=justify, overflow="fold", no_wrap=index > 0 and not wrap)
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
