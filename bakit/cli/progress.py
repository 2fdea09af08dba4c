"""Progress bars on stderr, if it is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bakit.cli.tables import QUIET, VERBOSE, echo, is_set
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.types import OnProgress

INTERVAL_S = 0.1
"""Minimum time between two redraws."""

LOG_S = 30.0
"""Minimum time between two lines of a step in a log."""


@contextmanager
def progress(*, log: bool = False) -> Iterator[OnProgress]:
    """Yield a callback that draws one bar, for the current step, until the step is done.

    It draws without a thread, because a thread would disturb a benchmark.

    Args:
        log: If stderr is not a terminal, print a line for each step, and one every LOG_S seconds;
            -v does the same.
    """
    if is_set(QUIET):
        yield silent
        return
    if not sys.stderr.isatty():
        yield step_lines() if log or is_set(VERBOSE) else silent
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[count]}"))
    bar = Progress(
        *columns,
        TimeElapsedColumn(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
    tasks: dict[str, TaskID] = {}
    drawn = 0.0

    def show(step: str, done: float, total: float | None) -> None:
        nonlocal drawn
        new = step not in tasks
        if new:
            for task in tasks.values():
                bar.update(task, visible=False)
            tasks[step] = bar.add_task(step, count="")
        bar.start()
        now = time.monotonic()
        due = new or now - drawn >= INTERVAL_S
        drawn = now if due else drawn
        count = _count(done, total)
        bar.update(tasks[step], total=total, completed=done, count=count, refresh=due)
        if done == total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


def step_lines(prefix: str = "") -> OnProgress:
    """Return a callback that prints a line for each step, and one every LOG_S seconds."""
    begun: dict[str, float] = {}
    printed = 0.0

    def line(step: str, done: float, total: float | None) -> None:
        nonlocal printed
        now = time.monotonic()
        if step not in begun:
            begun[step] = printed = now
            echo(f"{clock()} {prefix}{step} ...", err=True)
        elif now - printed >= LOG_S and done != total:
            printed = now
            left = ""
            if total and done:
                left = f", about {duration((total - done) / done * (now - begun[step]))} left"
            echo(f"{clock()} {prefix}{step} {_count(done, total)}{left}", err=True)

    return line


def clock() -> str:
    """Return the time of day, for a line of a log."""
    return time.strftime("%H:%M:%S")


def duration(seconds: float) -> str:
    """Return a duration in words: ``40 s``, ``5 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"


def _count(done: float, total: float | None) -> str:
    if total == 1:
        return f"{done:.0%}"
    return f"{done:g}" if total is None else f"{done:g}/{total:g}"
