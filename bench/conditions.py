"""The machine's load during a measurement, and the stability of the latencies."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.bench.host import read_governor
from bakit.bench.report.latency import LEAST_SCORE, Stability, StageTimes
from bakit.bench.statistics import serial_intervals
from bakit.processes import quota_stops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bakit.bench.report.device import BoardState
    from bakit.types import Floats


NEAR = 0.10
"""A latency within this share of the median counts as stable."""

SPAN = 0.10
"""Medians of parts of the run that differ by more than this share are no longer one speed."""

_LEAST_WINDOW = 5
_WINDOWS = (5, 20)
_WINDOW = 20  # queries
_ERRORS = 5

MUCH_LOAD = 0.05
MUCH_STEAL = 0.01

_SLOW_GOVERNORS = ("powersave", "ondemand", "conservative", "schedutil")


class Conditions(NamedTuple):
    """The CPU's counters at one moment, in clock ticks since the system started.

    Attributes:
        total: Time of all cores.
        busy: Part of ``total`` in which any process ran.
        stolen: Part of ``total`` that the hypervisor gave to other virtual machines.
        throttled: Number of times that a core slowed down because it was too hot.
        own: CPU time of the measured processes and of this process, by process id.
        governor: The CPU's frequency governor; None where the system has none.
        stops: Number of times that the control group's quota stopped its processes.
    """

    total: int
    busy: int
    stolen: int
    throttled: int
    own: dict[int, int]
    governor: str | None = None
    stops: int = 0


def read_conditions(pids: Iterable[int], root: Path = Path("/")) -> Conditions | None:
    """Read the counters; None where the system has none.

    Args:
        pids: Ids of the measured processes.
        root: The folder that contains ``proc`` and ``sys``.
    """
    try:
        line = (root / "proc/stat").read_text().splitlines()[0]
        user, nice, system, idle, iowait, irq, softirq, steal = map(int, line.split()[1:9])
        busy = user + nice + system + irq + softirq
        own = {pid: _ticks(root / f"proc/{pid}/stat") for pid in (*pids, os.getpid())}
        cores = root.glob("sys/devices/system/cpu/cpu*/thermal_throttle/core_throttle_count")
        throttled = sum(int(path.read_text()) for path in cores)
    except (OSError, ValueError, IndexError):
        return None
    total = busy + idle + iowait + steal
    return Conditions(total, busy, steal, throttled, own, read_governor(root), quota_stops(root))


def _ticks(stat: Path) -> int:
    """Return a process's user and system time; its name, in parentheses, may contain blanks."""
    fields = stat.read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def judge(
    times: Floats,
    before: Conditions | None,
    after: Conditions | None,
    board: BoardState | None = None,
) -> Stability:
    """Rate the stability of latencies of equal work, and find likely causes if it is low."""
    median = float(np.median(times))
    score = 100 * float((np.abs(times - median) <= NEAR * median).mean())
    trend, steady_from = _trend(times)
    faults = [text for text in (trend, _throttled(board)) if text]
    if score < LEAST_SCORE:
        near = f"within {100 * NEAR:.0f} % of the median"
        faults.append(f"noisy timings: only {score:.0f} % of the queries are {near}")
    if not faults:
        return Stability(score)
    causes = _causes(trend, before, after)
    if board is not None and board.clocks_locked is False:
        causes.append("the board's clocks are not locked: sudo jetson_clocks")
    return Stability(score, "; ".join(faults), tuple(causes), steady_from)


def _throttled(board: BoardState | None) -> str:
    """Return how a board's locked clocks fell all the same, in words; empty if they did not."""
    for name, column in (("CPU", 2), ("GPU", 3)):
        found = [row[column] for row in board.trace] if board and board.clocks_locked else []
        mhz = [clock for clock in found if clock]
        if mhz and min(mhz) < (1 - SPAN) * max(mhz):
            return (
                f"throttled: the {name}'s locked clock fell from {max(mhz):.0f} to {min(mhz):.0f} "
                "MHz; cool the board, and check its power supply"
            )
    return ""


def _trend(times: Floats) -> tuple[str, int | None]:
    """Compare the medians of consecutive parts of the run.

    Returns:
        How the speed changed, in words, and the first query of the steady tail: the last parts
        that agree within half of ``SPAN``, at least two of them. Empty and None if the speed did
        not change by more than ``SPAN`` and ``_ERRORS`` standard errors of a median.
    """
    least, most = _WINDOWS
    count = min(max(len(times) // _WINDOW, least), most)
    width = len(times) // count
    if width < _LEAST_WINDOW:
        return "", None
    start = len(times) - count * width
    parts = times[start:].reshape(count, width)
    medians = np.median(parts, axis=1)
    spread = 1.4826 * float(np.median(np.abs(parts - medians[:, None])))
    error = 1.2533 * spread / math.sqrt(width)
    low, high = int(medians.argmin()), int(medians.argmax())
    rise = float(medians[high] - medians[low])
    if rise <= SPAN * medians[low] or rise <= _ERRORS * error:
        return "", None
    first, last = min(low, high), max(low, high)
    change = 100 * (float(medians[last] / medians[first]) - 1)
    text = (
        f"not steady: latency {'rose' if change > 0 else 'fell'} by {abs(change):.0f} % from "
        f"part {first + 1} to part {last + 1} of {count} equal parts of the run"
    )
    tail = count - 1
    while np.ptp(medians[tail - 1 :]) <= SPAN / 2 * medians[tail - 1 :].min():
        tail -= 1
    return text, start + tail * width if tail < count - 1 else None


def _causes(trend: str, before: Conditions | None, after: Conditions | None) -> list[str]:
    causes = []
    if before is not None and after is not None and after.total > before.total:
        total, stolen = after.total - before.total, after.stolen - before.stolen
        throttled = after.throttled - before.throttled
        # The CPU time of a process that has ended is unknown: it may count as other load.
        own = sum(ticks - before.own.get(pid, ticks) for pid, ticks in after.own.items())
        others = after.busy - before.busy - own
        if throttled:
            causes.append(f"heat: the CPU was throttled {throttled} times; cool it, or wait")
        if stops := after.stops - before.stops:
            causes.append(
                f"a CPU quota: the control group stopped the processes {stops} times; raise its "
                "limit, such as docker run --cpus, or use fewer --threads"
            )
        if stolen / total >= MUCH_STEAL:
            causes.append(
                f"other virtual machines: the hypervisor took {100 * stolen / total:.0f} % of the "
                "CPU time; use a dedicated machine"
            )
        if others / total >= MUCH_LOAD:
            causes.append(
                f"other load: other programs took {100 * others / total:.0f} % of the CPU time; "
                "close them"
            )
    governor = before.governor if before else None
    if governor in _SLOW_GOVERNORS:
        causes.append(
            f"the frequency governor {governor!r} changes the clock: "
            "sudo cpupower frequency-set -g performance"
        )
    if "rose" in trend:
        causes.append("the chip may be too hot: cool it, or measure longer until it is steady")
    return causes


def stage_times(times_ms: Floats) -> StageTimes:
    """Summarize the latency of one stage: ``(queries,)`` float64, in the order of the queries."""
    percentiles = (50, 90, 99)
    p50, p90, p99 = (float(value) for value in np.percentile(times_ms, percentiles))
    p50_ci95, p90_ci95, p99_ci95 = serial_intervals(times_ms, percentiles)
    mean = float(times_ms.mean())
    spread = float(times_ms.std()) / mean if mean else None
    return StageTimes(p50, p90, p99, mean, p50_ci95, p90_ci95, p99_ci95, spread)
