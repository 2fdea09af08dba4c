"""Progress on stderr, where a person looks, and nowhere else."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rich.progress import TaskID


@contextmanager
def progress(what: str, total: int | None = None) -> Iterator[Callable[[int], None]]:
    """Give a function that advances a bar; the bar appears with the first advance.

    Args:
        what: What is being done.
        total: Steps in all, if known.
    """
    with steps({what: total}) as on_step:
        yield lambda count: on_step(what, count)


@contextmanager
def steps(totals: dict[str, int | None] | None = None) -> Iterator[Callable[[str, int], None]]:
    """Give a function that advances the bar of a step; each appears with its first advance.

    Args:
        totals: Advances of each step in all, where known.
    """
    if not sys.stderr.isatty():
        yield lambda _what, _count: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(
        *columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True
    ) as bar:
        tasks: dict[str, TaskID] = {}

        def advance(what: str, count: int) -> None:
            if what not in tasks:
                for task in tasks.values():  # the step before may not have known its total
                    bar.update(task, visible=False)
                tasks[what] = bar.add_task(what, total=(totals or {}).get(what))
            bar.update(tasks[what], advance=count)

        yield advance
