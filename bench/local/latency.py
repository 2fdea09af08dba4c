"""Single-stream latency: one prediction after the other, as on a device."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, Protocol

import numpy as np

from bakit.bench.conditions import judge, read_conditions
from bakit.bench.local.energy import SENSOR, EnergyMeter
from bakit.bench.local.process import WorkerError
from bakit.bench.report.document import Energy, LatencyReport, StageTimes, SweepEntry
from bakit.bench.report.latency import pack_samples
from bakit.bench.statistics import block_intervals
from bakit.runtime import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from bakit.bench.conditions import Conditions
    from bakit.bench.report.document import Settings

BLOCK = 10
"""Queries of one bundle in a row before the next bundle's turn."""

TOTAL, REGRESS = STAGES.index("total"), STAGES.index("regress")


class Stream(Protocol):
    """Where queries are run: a bundle's process (``bakit.bench.local.process.Worker``).

    Attributes:
        pid: The process.
        threads: Threads of the backend.
        error: Why it failed; None while it has not.
    """

    pid: int
    threads: int | None
    error: str | None

    def run(self, indices: Sequence[int]) -> list[list[int]]:
        """Predict queries by index; return the times ``(queries, stages)`` in nanoseconds."""
        ...


class LatencyRun:
    """Measures several open bundles in turns.

    Machines get slower and faster by the minute, so the bundles take turns in small blocks of
    queries (A B A B ...) of the same images: ratios between them hold even where the times
    themselves do not. With several bundles, the first prediction of a block is not counted: it
    finds caches full of another bundle's weights and another library's threads still spinning.

    A bundle that fails is left out from there on. What was measured until an interruption is kept.

    Args:
        streams: Open bundles, at least one; the same bundle may stand there with other threads.
        images: Images of the queries, cycled through; at least one.
        settings: Least queries and duration of each bundle, warm-up and block length.
        meter: What measures energy; the machine's own counters when None.
    """

    def __init__(
        self,
        streams: Sequence[Stream],
        images: int,
        settings: Settings,
        meter: EnergyMeter | None = None,
    ) -> None:
        self._streams = streams
        self._images = images
        self._settings = settings
        self._meter = meter or EnergyMeter()
        self._times: list[list[list[int]]] = [[] for _ in streams]
        self._joules = [0.0 for _ in streams]
        self._conditions: list[Conditions | None] = [None, None]

    def measure(self, on_share: Callable[[float], None] | None = None) -> None:
        """Run until every bundle that works has both enough queries and enough time.

        Args:
            on_share: Called after each round with the share that is done, 0..1.
        """
        for row in range(len(self._streams)):
            self._run(row, list(islice(cycle(range(self._images)), self._settings.warm_up)))
        block = min(self._settings.block, self._settings.min_queries)
        turns = cycle(range(self._images))
        self._conditions[0] = self._read_conditions()
        try:
            while (share := self._share()) < 1:
                if on_share is not None and share > 0:
                    on_share(share)
                turn = list(islice(turns, block))
                for row in range(len(self._streams)):
                    self._take_turn(row, turn)
        finally:
            self._conditions[1] = self._read_conditions()
        if on_share is not None:
            on_share(1.0)

    def _take_turn(self, row: int, turn: Sequence[int]) -> None:
        if len(self._streams) > 1:
            self._run(row, turn[:1])
        before = self._meter.read()
        times = self._run(row, turn)
        self._joules[row] += self._meter.joules(before, self._meter.read())
        self._times[row] += times

    def _run(self, row: int, indices: Sequence[int]) -> list[list[int]]:
        """Run queries on a stream; a stream that has failed runs none."""
        if self._streams[row].error is not None:
            return []
        try:
            return self._streams[row].run(indices)
        except WorkerError:
            return []

    def _read_conditions(self) -> Conditions | None:
        return read_conditions([s.pid for s in self._streams if s.error is None])

    def _share(self) -> float:
        """Return how much of the least queries and of the least duration is done, 0..1."""
        share = 1.0
        for stream, rows in zip(self._streams, self._times, strict=True):
            if stream.error is not None:
                continue
            share = min(share, len(rows) / self._settings.min_queries)
            if self._settings.min_duration_s > 0:
                duration_s = sum(row[TOTAL] for row in rows) / 1e9
                share = min(share, duration_s / self._settings.min_duration_s)
        return share

    def report(self, row: int) -> LatencyReport | None:
        """Summarise the times of one stream; None if it has not had a turn.

        Args:
            row: Which, counted as ``streams``.
        """
        times = np.array(self._times[row])
        if not len(times):
            return None
        duration_s = float(times[:, TOTAL].sum()) / 1e9
        energy = None
        if self._meter.available:
            joules = self._joules[row]
            energy = Energy(SENSOR, joules / len(times), joules / duration_s)
        return LatencyReport(
            warm_up=self._settings.warm_up,
            queries=len(times),
            duration_s=duration_s,
            images=min(self._images, len(times)),
            stages=self._stages(row),
            samples={
                stage: pack_samples(times[:, index].tolist()) for index, stage in enumerate(STAGES)
            },
            stability=judge(times[:, REGRESS].astype(float), *self._conditions),
            energy=energy,
        )

    def sweep_entry(self, row: int) -> SweepEntry | None:
        """Summarise the times of a stream with other threads; None if it has not had a turn."""
        if not self._times[row]:
            return None
        threads = self._streams[row].threads
        return SweepEntry(threads, 1, len(self._times[row]), self._stages(row))

    def _stages(self, row: int) -> dict[str, StageTimes]:
        times_ms = np.array(self._times[row]) / 1e6
        block = self._settings.block
        return {stage: stage_times(times_ms[:, i], block) for i, stage in enumerate(STAGES)}


def stage_times(times_ms: npt.NDArray[np.float64], block: int = BLOCK) -> StageTimes:
    """Summarise one stage.

    Args:
        times_ms: ``(queries,)`` float64, in the order of the queries.
        block: Queries in a block.
    """
    percentiles = (50, 90, 99)
    p50, p90, p99 = (float(value) for value in np.percentile(times_ms, percentiles))
    p50_ci95, p90_ci95, p99_ci95 = block_intervals(times_ms, block, percentiles) or (None,) * 3
    mean = float(times_ms.mean())
    return StageTimes(
        p50_ms=p50,
        p90_ms=p90,
        p99_ms=p99,
        mean_ms=mean,
        p50_ci95_ms=p50_ci95,
        p90_ci95_ms=p90_ci95,
        p99_ci95_ms=p99_ci95,
        cv=float(times_ms.std()) / mean if mean else None,
    )
