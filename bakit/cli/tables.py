"""Tables and lines that the commands print, on a terminal or in a log."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import sys
import textwrap
from typing import TYPE_CHECKING, Literal

import click

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Sequence
    from pathlib import Path

    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

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
    _level(["-v", "--verbose"], "Print steps, times and tracebacks on stderr."),
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


def next_step(*words: str | Path) -> None:
    """Print the command to run next on stderr, unless -q was given or a document was printed.

    Paths are quoted for a shell.
    """
    if not is_set(DOCUMENT):
        text = [word if isinstance(word, str) else shlex.quote(str(word)) for word in words]
        hint(f"next: {' '.join(text)}")


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


def echo_json(value: object) -> None:
    """Print a value as one line of JSON on stdout."""
    import msgspec

    echo(msgspec.json.encode(value))


def echo_fault(path: Path, error: Exception, *, as_json: bool) -> None:
    """Print the error of one image among several on stderr; with ``as_json`` on stdout as well."""
    from bakit.files import printable

    if as_json:
        echo_json({"image": printable(path), "error": str(error)})
    echo(safe(f"bakit: {path}: {str(error).removeprefix(f'{path}: ')}"), err=True)


def _as_json(found: re.Match[str]) -> str:
    return found[0] if found[0].isprintable() else json.dumps(found[0])[1:-1]


def _check_stdout() -> None:
    if sys.stdout is None:
        message = "stdout is closed, so the result is lost; redirect it to a file or /dev/null"
        raise InputError(message)


def keep_streams() -> None:
    """Keep the numbers of standard streams that the caller has closed.

    A file that is opened later would get the number, and what libraries print. Without stderr,
    commands print on it into nothing.
    """
    while (number := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(number)
    if sys.stderr is None:
        sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115  # until the end


def print_table(
    title: str,
    columns: Sequence[str],
    rows: Iterable[Iterable[str | Text]],
    *,
    left: Container[int] = (0,),
    wrap: bool = False,
) -> None:
    """Print a table on stdout, as wide as the terminal; ``WIDTH`` columns if it is none.

    Control characters in cells are escaped, and brackets are no markup. Arguments as ``new_table``.
    """
    from rich.console import Console
    from rich.text import Text

    table = new_table(title, columns, left=left, wrap=wrap)
    for row in rows:
        table.add_row(*(cell if isinstance(cell, Text) else Text(safe(cell)) for cell in row))
    _check_stdout()
    Console(file=sys.stdout, width=None if sys.stdout.isatty() else WIDTH).print(table)


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
            least = 2 * len(self.columns)  # a space and a line for each column
            for column in self.columns:
                cut = "\n" if column.no_wrap else None
                parts = [
                    part for text in (column.header, *column.cells) for part in str(text).split(cut)
                ]
                least += max(map(cell_len, parts), default=0)
            if least <= options.max_width:
                yield from super().__rich_console__(console, options)
                return
            if str(self.title):
                yield Text(f"{self.title}\n")
            names = [" ".join(str(column.header).split()) for column in self.columns]
            pad = max(map(len, names))
            for first, *others in zip(*(column.cells for column in self.columns), strict=True):
                yield Text.assemble(f"{names[0]} " if names[0] else "", first)
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


def print_line(line: str, indent: str = "") -> None:
    """Print one line on stdout; newlines in names are escaped, too.

    A terminal breaks it between words, and indents each part.
    """
    if not sys.stdout.isatty():
        echo(indent + safe(line))
        return
    width = shutil.get_terminal_size().columns
    parts = textwrap.wrap(safe(line), max(width - len(indent), 20), break_on_hyphens=False)
    for part in parts or [""]:
        echo(indent + part)


def safe(text: str) -> str:
    """Escape control characters and characters that the output cannot encode."""
    seen = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return seen.encode(encoding, "backslashreplace").decode(encoding)
