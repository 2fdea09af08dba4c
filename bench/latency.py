"""Single-stream latency: one prediction after the other, as on a device."""

from __future__ import annotations

from itertools import cycle, islice
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from bakit.bench.report import LatencyReport, StageTimes
from bakit.runtime import STAGES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    from bakit.bench.report import Settings
    from bakit.runtime import Runtime, Sex

BLOCK = 10
"""Queries of one bundle in a row before the next bundle's turn."""


class Query(NamedTuple):
    """One image to predict.

    Attributes:
        image: Bytes of an image file, so that no query waits for a disk.
        sex: ``M`` or ``F``.
    """

    image: bytes
    sex: Sex


def measure_latency(
    runtimes: Sequence[Runtime],
    queries: Sequence[Query],
    settings: Settings,
    on_share: Callable[[float], None] | None = None,
) -> list[LatencyReport]:
    """Measure several open bundles in turns.

    Machines get slower and faster by the minute, so the bundles take turns in small blocks of
    queries (A B A B ...) of the same images: ratios between them hold even where the times
    themselves do not. With several bundles, the first prediction of a block is not counted: it
    finds caches full of another bundle's weights and another library's threads still spinning.
    Ends after the first round in which every bundle has both enough queries and enough time.

    Args:
        runtimes: Open bundles, at least one.
        queries: Images, cycled through; at least one.
        settings: Least queries and duration of each bundle, warm-up and block length.
        on_share: Called after each round with the share that is done, 0..1.

    Returns:
        A report for each bundle, in the order of ``runtimes``.
    """
    for runtime in runtimes:
        for query in islice(cycle(queries), settings.warm_up):
            runtime.predict(query.image, query.sex)
    block = min(settings.block, settings.min_queries)
    times: list[list[list[float]]] = [[] for _ in runtimes]
    turns = cycle(queries)
    share = 0.0
    while share < 1:
        turn = list(islice(turns, block))
        for runtime, rows in zip(runtimes, times, strict=True):
            if len(runtimes) > 1:
                runtime.predict(turn[0].image, turn[0].sex)
            for query in turn:
                stages = runtime.predict(query.image, query.sex).stages_ms
                rows.append([stages[stage] for stage in STAGES])
        share = min(_share(rows, settings) for rows in times)
        if on_share is not None:
            on_share(share)
    return [_report(np.array(rows), settings.warm_up, len(queries)) for rows in times]


def _share(rows: Sequence[Sequence[float]], settings: Settings) -> float:
    """Return how much of the least queries and of the least duration is done, 0..1."""
    share = len(rows) / settings.min_queries
    if settings.min_duration_s > 0:
        duration_s = sum(row[-1] for row in rows) / 1000
        share = min(share, duration_s / settings.min_duration_s)
    return min(share, 1.0)


def _report(times: npt.NDArray[np.float64], warm_up: int, images: int) -> LatencyReport:
    """Summarise times ``(queries, stages)`` in milliseconds."""
    return LatencyReport(
        warm_up=warm_up,
        queries=len(times),
        duration_s=float(times[:, STAGES.index("total")].sum()) / 1000,
        images=min(images, len(times)),
        stages={stage: stage_times(times[:, index]) for index, stage in enumerate(STAGES)},
    )


def stage_times(times: npt.NDArray[np.float64]) -> StageTimes:
    """Summarise one stage.

    Args:
        times: ``(queries,)`` float64, in milliseconds.
    """
    p50, p90, p99 = np.percentile(times, (50, 90, 99))
    return StageTimes(float(p50), float(p90), float(p99), float(times.mean()))
