"""Single-stream latency: one prediction after the other, as on a device; and its energy.

Energy is that of Intel's RAPL counters, which Linux shows in ``powercap``. AMD's CPUs show theirs
at the same place. Linux lets only the administrator read them unless the file's mode is changed
(``chmod a+r``); a counter that may not be read is as good as none.
"""

from __future__ import annotations

from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bakit.bench.conditions import read_conditions
from bakit.bench.local.process import WorkerError
from bakit.bench.raw import Sweep
from bakit.runtime import STAGES

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from bakit.bench.conditions import Conditions
    from bakit.bench.local.process import Worker
    from bakit.bench.report.document import Settings
    from bakit.types import OnProgress

TOTAL = STAGES.index("total")
POWERCAP = Path("/sys/class/powercap")
SENSOR = "intel-rapl package"


class LatencyRun:
    """Measures several open bundles in turns.

    Machines get slower and faster by the minute, so the bundles take turns in small blocks of
    queries (A B A B ...) of the same images: ratios between them hold even where the times
    themselves do not. With several bundles, the first prediction of a block is not counted: it
    finds caches full of another bundle's weights and another library's threads still spinning.

    A bundle that fails is left out from there on. What was measured until an interruption is kept.
    The same bundle may be there again with other threads.
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
        self._joules = [0.0 for _ in workers]
        self._conditions: list[Conditions | None] = [None, None]

    def measure(self, on_progress: OnProgress = lambda step, done, total: None) -> None:
        """Run until every bundle that works has both enough queries and enough time."""
        for row in range(len(self._workers)):
            self._run(row, list(islice(cycle(range(self._images)), self._settings.warm_up)))
        block = min(self._settings.block, self._settings.min_queries)
        turns = cycle(range(self._images))
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
        before = self._meter.read()
        times = self._run(row, turn)
        self._joules[row] += self._meter.joules(before, self._meter.read())
        self._times[row] += times

    def _run(self, row: int, indices: Sequence[int]) -> list[list[int]]:
        """Run queries; a worker that has failed runs none."""
        if self._workers[row].error is not None:
            return []
        try:
            return self._workers[row].run(indices)
        except WorkerError:
            return []

    def _read_conditions(self) -> Conditions | None:
        return read_conditions([w.pid for w in self._workers if w.error is None])

    def _share(self) -> float:
        """Return how much of the least queries and of the least duration is done, 0..1."""
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
        """Return the fields of ``RawBundle`` on time and energy; empty before the first turn."""
        if not self._times[row]:
            return {}
        return {
            "warm_up": self._settings.warm_up,
            "images": self._images,
            "stages_ns": self._stages(row),
            "conditions": tuple(self._conditions),
            "sensor": SENSOR,
            "joules": self._joules[row] if self._meter.available else None,
        }

    def sweep(self, rows: Iterable[int]) -> tuple[Sweep, ...]:
        """Return the times of the workers that had a turn."""
        return tuple(
            Sweep(self._workers[row].threads, self._stages(row)) for row in rows if self._times[row]
        )

    def _stages(self, row: int) -> dict[str, list[int]]:
        columns = zip(*self._times[row], strict=True)
        return dict(zip(STAGES, map(list, columns), strict=True))


class EnergyMeter:
    """The counters of all packages of the machine: cores, caches and memory controllers."""

    def __init__(self, root: Path = POWERCAP) -> None:
        found = (_package(zone) for zone in sorted(root.glob("intel-rapl:*")))
        self._packages = [package for package in found if package is not None]
        self.available = bool(self._packages)

    def read(self) -> tuple[int, ...]:
        """Return the counters, in microjoules."""
        return tuple(int(path.read_text()) for path, _ in self._packages)

    def joules(self, before: tuple[int, ...], after: tuple[int, ...]) -> float:
        """Return the energy between two readings; a counter that ran over began again at 0."""
        microjoules = sum(
            end - start if end >= start else end - start + largest
            for (_, largest), start, end in zip(self._packages, before, after, strict=True)
        )
        return microjoules / 1e6


def _package(zone: Path) -> tuple[Path, int] | None:
    """Return a package's counter and where it runs over; None if it is no package or is closed."""
    try:
        if not (zone / "name").read_text().startswith("package"):
            return None
        int((zone / "energy_uj").read_text())
        return zone / "energy_uj", int((zone / "max_energy_range_uj").read_text())
    except (OSError, ValueError):
        return None
