"""Progress bars on stderr, if it is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import timedelta
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
        log: If stderr is not a terminal, print a line for each step, and one every LOG_S seconds;
            -v does the same.
        rate: What is counted, such as films: print how many a second and how long the rest takes,
            in a log every LOG_S seconds.
    """
    if is_set(QUIET):
        yield silent
        return
    if not sys.stderr.isatty():
        yield _lines(rate) if rate else step_lines() if log or is_set(VERBOSE) else silent
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
    speed = _speed(rate)
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
        count = _count(done, total) + speed(step, done, total)
        bar.update(tasks[step], total=total, completed=done, count=count, refresh=due)
        if done == total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


def _speed(unit: str) -> Callable[[str, float, float | None], str]:
    """Return what tells the speed of a step since its first report, and the time that is left."""
    step, first, started = "", 0.0, 0.0

    def text(name: str, done: float, total: float | None) -> str:
        nonlocal step, first, started
        if name != step:
            step, first, started = name, done, time.monotonic()
        speed = (done - first) / max(time.monotonic() - started, 1e-9)
        if not unit or not speed:
            return ""
        left = "" if total is None else f", {timedelta(seconds=round((total - done) / speed))} left"
        return f", {speed:.1f} {unit}/s{left}"

    return text


def _lines(unit: str) -> OnProgress:
    speed, printed = _speed(unit), time.monotonic()

    def line(step: str, done: float, total: float | None) -> None:
        nonlocal printed
        text = speed(step, done, total)
        if time.monotonic() - printed >= LOG_S:
            printed = time.monotonic()
            echo(f"{step}: {_count(done, total)}{text}", err=True)

    return line


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
