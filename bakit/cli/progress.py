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
    from collections.abc import Iterator

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
    speed = _Speed(rate)
    if not sys.stderr.isatty():
        yield speed.log if rate else _logger() if log else silent
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
        count = _count(done, total) + (speed.text(step, done, total) if rate else "")
        bar.update(tasks[step], total=total, completed=done, count=count, refresh=due)
        if done == total:
            bar.stop()

    try:
        yield show
    finally:
        bar.stop()


class _Speed:
    """How fast a step is, counted from its first report, which may be of a resumed run."""

    def __init__(self, unit: str) -> None:
        self._unit = unit
        self._step, self._first, self._started, self._logged = "", 0.0, 0.0, 0.0

    def text(self, step: str, done: float, total: float | None) -> str:
        """Return the speed and the time that is left, empty at first."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._first, self._started, self._logged = step, done, now, now
        speed = (done - self._first) / max(now - self._started, 1e-9)
        if not speed:
            return ""
        left = "" if total is None else f", {timedelta(seconds=round((total - done) / speed))} left"
        return f", {speed:.1f} {self._unit}/s{left}"

    def log(self, step: str, done: float, total: float | None) -> None:
        """Print a line, if the last one is some time ago."""
        text = self.text(step, done, total)
        if time.monotonic() - self._logged >= LINE_S:
            self._logged = time.monotonic()
            echo(f"{step}: {_count(done, total)}{text}", err=True)


def _logger() -> OnProgress:
    seen: set[str] = set()

    def line(step: str, done: float, total: float | None) -> None:
        del done, total
        if step not in seen:
            seen.add(step)
            echo(f"{step} ...", err=True)

    return line


def _count(done: float, total: float | None) -> str:
    if total == 1:
        return f"{done:.0%}"
    return f"{done:g}" if total is None else f"{done:g}/{total:g}"
