"""The machine's load during a measurement, and the stability of the latencies."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.bench.host import read_governor
from bakit.bench.report.latency import LEAST_SCORE, Stability
from bakit.processes import quota_stops

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bakit.types import Floats


NEAR = 0.10
"""A latency within this share of the median counts as stable."""

MUCH_LOAD = 0.05
MUCH_STEAL = 0.01
MUCH_SLOWER = 0.05

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


def judge(times: Floats, before: Conditions | None, after: Conditions | None) -> Stability:
    """Rate the stability of the latencies, and find likely causes if it is low.

    Args:
        times: ``(queries,)`` float64, the latencies of queries with the same amount of work.
        before: Counters before the queries.
        after: Counters after the queries.
    """
    median = float(np.median(times))
    score = 100 * float((np.abs(times - median) <= NEAR * median).mean())
    if score >= LEAST_SCORE:
        return Stability(score)
    warning = (
        f"noisy timings: only {score:.0f} % of the queries are within {100 * NEAR:.0f} % of the "
        "median"
    )
    return Stability(score, warning, tuple(_causes(times, before, after)))


def _causes(times: Floats, before: Conditions | None, after: Conditions | None) -> list[str]:
    causes = []
    third = len(times) // 3
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
    if third and np.median(times[-third:]) > (1 + MUCH_SLOWER) * np.median(times[:third]):
        slower = float(np.median(times[-third:]) / np.median(times[:third])) - 1
        causes.append(
            f"latency rose by {100 * slower:.0f} % from the first third of the queries to the "
            "last; the chip may be too hot"
        )
    return causes
