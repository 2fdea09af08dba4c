"""The part of a report with time, memory and energy; imports no numpy."""

from __future__ import annotations

import base64
import sys
import zlib
from array import array
from typing import TYPE_CHECKING

import msgspec

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


LEAST_SCORE = 80.0
"""Stability below which a report warns, and the gate compares no times of separate runs."""


class StageTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times of one stage over all queries.

    Percentiles interpolate linearly between queries, so with fewer than 100 of them the 99th is
    close to the slowest. The intervals are a bootstrap over blocks of neighbouring queries
    (``bakit.bench.statistics.block_intervals``), since neighbours share a machine's mood; None
    where only the summary is known.

    Attributes:
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        mean_ms: Mean.
        p50_ci95_ms: 95 % interval of the median.
        p90_ci95_ms: 95 % interval of the 90th percentile.
        p99_ci95_ms: 95 % interval of the 99th percentile.
        cv: Coefficient of variation: standard deviation over mean.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float
    p50_ci95_ms: tuple[float, float] | None = None
    p90_ci95_ms: tuple[float, float] | None = None
    p99_ci95_ms: tuple[float, float] | None = None
    cv: float | None = None


class Stability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether the machine held still (``bakit.bench.conditions``).

    Attributes:
        score: Share of the queries whose regressor took within 10 % of its median time, in per
            cent, 0..100. The regressor does the same work for every image.
        warning: What is wrong with the times, in a sentence; None from ``LEAST_SCORE`` up.
        causes: What is likely behind it, in words; empty where nothing was found.
    """

    score: float
    warning: str | None = None
    causes: tuple[str, ...] = ()


class Energy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Energy of the queries, from a sensor of the machine.

    Attributes:
        sensor: What was read, such as ``intel-rapl package`` or ``INA3221 VDD_IN``. It sees all
            that the chip or board does, other programs included.
        joules_per_query: Energy of one query.
        watts: Mean power during the queries.
    """

    sensor: str
    joules_per_query: float
    watts: float


class SweepEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One setting of a sweep.

    Attributes:
        threads: Threads of the backend; its own choice when None.
        batch: Images in a query.
        queries: Queries that count.
        stages: Times of a query by stage.
    """

    threads: int | None
    batch: int
    queries: int
    stages: dict[str, StageTimes]


class LatencyReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long one query takes when one comes after the other (single stream).

    Attributes:
        warm_up: Predictions before the first query that counts.
        queries: Predictions that count.
        duration_s: Time spent in them.
        images: Different images among the queries; they are decoded from memory, not from disk.
        stages: Times by stage: decode, localize, preprocess, regress, total.
        samples: Every query's time by stage, in the order of the queries, packed
            (``pack_samples``; ``samples_ns`` unpacks). Empty where only the summary is known.
        stability: Whether the machine held still; None if that was not judged.
        energy: Energy of the queries; None without a sensor that may be read.
        sweep: Times with other numbers of threads, if asked for.
    """

    warm_up: int
    queries: int
    duration_s: float
    images: int
    stages: dict[str, StageTimes]
    samples: dict[str, str] = {}
    stability: Stability | None = None
    energy: Energy | None = None
    sweep: tuple[SweepEntry, ...] = ()

    def __post_init__(self) -> None:
        """Refuse times without their sum, by which bundles are ranked and gated."""
        if "total" not in self.stages:
            message = "latency without the stage total"
            raise ValueError(message)

    def samples_ns(self, stage: str = "total") -> array[int]:
        """Return every query's time in nanoseconds, in the order of the queries.

        Query ``i`` was of image ``i % images``, and of round ``i // settings.block`` when several
        bundles took turns.

        Args:
            stage: One of ``stages``.

        Raises:
            InputError: If the report keeps no samples of that stage, or they are damaged.
        """
        packed = self.samples.get(stage)
        if packed is None:
            message = f"the report keeps no single times of stage {stage!r}; bench again"
            raise InputError(message)
        return unpack_samples(packed)


class Footprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start-up time and memory of a bundle in a new process (``bakit.bench.local.worker``).

    Attributes:
        load_ms: Time to open both models.
        first_prediction_ms: Time of the first prediction after that.
        peak_rss_mb: Largest resident memory, in 10^6 bytes; None where the system does not tell.
        cold_start_ms: From starting the process to its first answer: Python, libraries, digests,
            models and the first prediction. None where it was not measured.
    """

    load_ms: float
    first_prediction_ms: float
    peak_rss_mb: float | None
    cold_start_ms: float | None = None


def pack_samples(times_ns: Sequence[int]) -> str:
    """Pack times for a report: base64 of zlib of little-endian int64 nanoseconds."""
    return base64.b64encode(
        zlib.compress(_little_endian(array("q", times_ns)).tobytes(), 9)
    ).decode()


def unpack_samples(packed: str) -> array[int]:
    """Return the times that ``pack_samples`` packed, in nanoseconds.

    Raises:
        InputError: If it is anything else.
    """
    try:
        times = array("q")
        times.frombytes(zlib.decompress(base64.b64decode(packed, validate=True)))
    except (ValueError, zlib.error) as error:
        message = f"the report's single times are damaged ({error}); bench again"
        raise InputError(message) from error
    return _little_endian(times)


def _little_endian(times: array[int]) -> array[int]:
    if sys.byteorder == "big":
        times.byteswap()
    return times
