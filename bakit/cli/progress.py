"""Progress on stderr: a bar on a terminal, lines in a log."""

from __future__ import annotations

import math
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from bakit.cli.tables import QUIET, VERBOSE, echo, is_set
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakit.types import OnProgress

INTERVAL_S = 0.1
"""Minimum time between two redraws."""

LOG_S = 30.0
"""Minimum time between two lines of a step in a log."""


@contextmanager
def progress(*, log: bool = False, rate: str = "") -> Iterator[OnProgress]:
    """Yield a callback that draws one bar, for the current step, until the step is done.

    It draws without a thread, because a thread would disturb a benchmark.

    Args:
        log: If stderr is not a terminal, print the lines of ``step_lines``; -v does the same.
        rate: What is counted, such as films: the same lines, but none at the start of a step.
    """
    if is_set(QUIET):
        yield silent
        return
    if not sys.stderr.isatty():
        yield step_lines(rate=rate) if log or rate or is_set(VERBOSE) else silent
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
    count = _counter(rate)
    tasks: dict[str, TaskID] = {}
    drawn = 0.0

    def show(step: str, done: float, total: float | None) -> None:
        nonlocal drawn
        text = count(step, done, total)
        new = step not in tasks
        if new:
            for task in tasks.values():
                bar.update(task, visible=False)
            tasks[step] = bar.add_task(step, count="")
        bar.start()
        now = time.monotonic()
        due = new or now - drawn >= INTERVAL_S
        drawn = now if due else drawn
        bar.update(tasks[step], total=total, completed=done, count=text, refresh=due)
        if done == total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


def step_lines(prefix: str = "", rate: str = "") -> OnProgress:
    """Return a callback that prints a line for each step, and one every LOG_S seconds.

    With ``rate``, it prints how many of them a second are done, and no line at a step's start.
    """
    printed: dict[str, float] = {}
    count = _counter(rate)

    def line(step: str, done: float, total: float | None) -> None:
        text, now, new = count(step, done, total), time.monotonic(), step not in printed
        if not new and (done == total or now - printed[step] < LOG_S):
            return
        printed[step] = now
        if not (new and rate):
            echo(f"{clock()} {prefix}{step} {'...' if new else text}", err=True)

    return line


def _counter(rate: str) -> Callable[[str, float, float | None], str]:
    """Return what gives a step's count, speed since it began, and time left."""
    begun: dict[str, tuple[float, float]] = {}
    last: dict[str, float] = {}

    def text(step: str, done: float, total: float | None) -> str:
        if done < last.get(step, math.inf):  # a step of this name begins, perhaps again
            begun[step] = done, time.monotonic()
        last[step] = done
        first, start = begun[step]
        words = [f"{done:.0%}" if total == 1 else f"{done:g}"]
        words[0] += f"/{total:g}" if total not in {None, 1} else ""
        speed = (done - first) / max(time.monotonic() - start, 1e-9)
        if speed and rate:
            words.append(f"{speed:.1f} {rate}/s")
        if speed and total is not None and done < total:
            words.append(f"about {duration((total - done) / speed)} left")
        return ", ".join(words)

    return text


def clock() -> str:
    """Return the time of day, for a line of a log."""
    return time.strftime("%H:%M:%S")


def duration(seconds: float) -> str:
    """Return a duration in words: ``40 s``, ``5 min``, ``2 h 5 min``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    hours, minutes = divmod(round(seconds / 60), 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min"
