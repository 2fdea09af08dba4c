"""Measure single-stream latency, one prediction after the other, and its energy.

Energy is read from the RAPL counters of Intel's and AMD's CPUs, in Linux's ``powercap``. By
default only root can read them (``chmod a+r`` changes this); unreadable counters are ignored.
"""

from __future__ import annotations

import time
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bakit.bench.conditions import read_conditions
from bakit.bench.local.process import WorkerError
from bakit.bench.raw import Power, Sweep
from bakit.runtime import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from bakit.bench.conditions import Conditions
    from bakit.bench.local.process import Worker
    from bakit.bench.report.document import Settings
    from bakit.types import OnProgress

T = TypeVar("T")
TOTAL = STAGES.index("total")
POWERCAP = Path("/sys/class/powercap")
SENSOR = "intel-rapl package"
IDLE_READINGS, IDLE_S = 10, 0.3
"""Readings of the power at rest before the first turn, and the length of each."""


class LatencyRun:
    """Measures several open bundles alternately.

    A machine's speed changes over minutes, so the bundles run alternately in small blocks of
    queries (A B A B ...) of the same images: ratios between bundles stay valid. With several
    bundles, the first prediction of a block is not timed, because the caches hold another
    bundle's weights and another library's threads may still run.

    A bundle that fails is skipped from then on. An interruption keeps the results so far. A
    bundle may occur several times with different numbers of threads.
    """

    def __init__(
        self,
        workers: Sequence[Worker],
        images: int,
        settings: Settings,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._workers = workers
        self._images = images
        self._settings = settings
        self._meter = meter or EnergyMeter()
        self._times: list[list[list[int]]] = [[] for _ in workers]
        self._idle_w: list[float] = []
        self._used: list[list[tuple[float, float]]] = [[] for _ in workers]  # joules, seconds
        self._conditions: list[Conditions | None] = [None, None]

    def measure(self, on_progress: OnProgress = lambda step, done, total: None) -> None:
        """Run until every working bundle has reached both minimums: queries and duration."""
        for row in range(len(self._workers)):
            self._run(row, list(islice(cycle(range(self._images)), self._settings.warm_up)))
        block = min(self._settings.block, self._settings.min_queries)
        turns = cycle(range(self._images))
        if self._meter.available:
            for _ in range(IDLE_READINGS):
                _, joules, seconds = self._meter.during(lambda: time.sleep(IDLE_S))
                self._idle_w.append(joules / seconds)
        self._conditions[0] = self._read_conditions()
        try:
            while (share := self._share()) < 1:
                if share > 0:
                    on_progress("latency", share, 1.0)
                turn = list(islice(turns, block))
                for row in range(len(self._workers)):
                    self._take_turn(row, turn)
        finally:
            self._conditions[1] = self._read_conditions()
        on_progress("latency", 1.0, 1.0)

    def _take_turn(self, row: int, turn: Sequence[int]) -> None:
        if len(self._workers) > 1:
            self._run(row, turn[:1])
        times, joules, seconds = self._meter.during(lambda: self._run(row, turn))
        if times:
            self._used[row].append((joules, seconds))
        self._times[row] += times

    def _run(self, row: int, indices: Sequence[int]) -> list[list[int]]:
        """Run queries; return no times if the worker failed."""
        if self._workers[row].error is not None:
            return []
        try:
            return self._workers[row].run(indices)
        except WorkerError:
            return []

    def _read_conditions(self) -> Conditions | None:
        return read_conditions([w.pid for w in self._workers if w.error is None])

    def _share(self) -> float:
        """Return the progress to the minimum queries and duration, 0..1."""
        share = 1.0
        for worker, rows in zip(self._workers, self._times, strict=True):
            if worker.error is not None:
                continue
            share = min(share, len(rows) / self._settings.min_queries)
            if self._settings.min_duration_s > 0:
                duration_s = sum(row[TOTAL] for row in rows) / 1e9
                share = min(share, duration_s / self._settings.min_duration_s)
        return share

    def raw(self, row: int) -> dict[str, Any]:
        """Return the latency and energy fields of ``RawBundle``; empty before the first block."""
        if not self._times[row]:
            return {}
        return {
            "warm_up": self._settings.warm_up,
            "images": self._images,
            "stages_ns": self._stages(row),
            "conditions": tuple(self._conditions),
            "power": self._power(row) if self._meter.available else None,
        }

    def _power(self, row: int) -> Power:
        busy_w = tuple(joules / seconds for joules, seconds in self._used[row])
        spent = sum(seconds for _, seconds in self._used[row])
        return Power(SENSOR, tuple(self._idle_w), busy_w, spent, len(self._times[row]))

    def sweep(self, rows: Iterable[int]) -> tuple[Sweep, ...]:
        """Return the latencies of the workers that ran at least one block."""
        return tuple(
            Sweep(self._workers[row].threads, self._stages(row)) for row in rows if self._times[row]
        )

    def _stages(self, row: int) -> dict[str, list[int]]:
        columns = zip(*self._times[row], strict=True)
        return dict(zip(STAGES, map(list, columns), strict=True))


class EnergyMeter:
    """Energy counters of all CPU packages: cores, caches and memory controllers."""

    def __init__(self, root: Path = POWERCAP) -> None:
        found = (_package(zone) for zone in sorted(root.glob("intel-rapl:*")))
        self._packages = [package for package in found if package is not None]
        self.available = bool(self._packages)

    def during(self, work: Callable[[], T]) -> tuple[T, float, float]:
        """Return the result of some work, its energy in joules and its time in seconds."""
        before, begun = self.read(), time.perf_counter()
        result = work()
        seconds = time.perf_counter() - begun
        return result, self.joules(before, self.read()), seconds

    def read(self) -> tuple[int, ...]:
        """Return the counters, in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self._packages)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; counters may wrap around to 0."""
        microjoules = sum(
            end - start if end >= start else end - start + largest
            for (_, largest), start, end in zip(self._packages, before, after, strict=True)
        )
        return microjoules / 1e6


def _package(zone: Path) -> tuple[Path, int] | None:
    """Return a package's counter and its maximum; None if unreadable or not a package."""
    try:
        if not (zone / "name").read_text().startswith("package"):
            return None
        int((zone / "energy_uj").read_text())
        return zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None
