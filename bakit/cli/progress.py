"""Progress bars on stderr, if it is a terminal."""

from __future__ import annotations

import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from bakit.cli.tables import echo
from bakit.types import silent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakit.types import OnProgress

INTERVAL_S = 0.1
"""Minimum time between two redraws."""

LINE_S = 30.0
"""Time between two lines in a log."""


@contextmanager
def progress(*, log: bool = False, rate: str = "") -> Iterator[OnProgress]:
    """Yield a callback that draws one bar, for the current step, until the step is done.

    It draws without a thread, because a thread would disturb a benchmark.

    Args:
        log: If stderr is not a terminal, print a line for each step.
        rate: What is counted, such as films: print how many a second, and how long the rest takes;
            if stderr is not a terminal, on a line every ``LINE_S`` seconds.
    """
    if not sys.stderr.isatty():
        yield _lines(rate) if rate else step_lines() if log else silent
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
        if time.monotonic() - printed >= LINE_S:
            printed = time.monotonic()
            echo(f"{step}: {_count(done, total)}{text}", err=True)

    return line


def step_lines(prefix: str = "") -> OnProgress:
    """Return a callback that prints a line for each step."""
    seen: set[str] = set()

    def line(step: str, done: float, total: float | None) -> None:
        del done, total
        if step not in seen:
            seen.add(step)
            echo(f"{prefix}{step} ...", err=True)

    return line


def _count(done: float, total: float | None) -> str:
    if total == 1:
        return f"{done:.0%}"
    return f"{done:g}" if total is None else f"{done:g}/{total:g}"
