"""Latency, memory and energy in a report; imports no numpy."""

from __future__ import annotations

import base64
import sys
import zlib
from array import array
from typing import TYPE_CHECKING

import msgspec

from bakit.bench.bounds import Amount
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence


MAX_QUERIES = 10**7
"""Most latencies that are unpacked from a report."""

LEAST_SCORE = 80.0
"""Minimum share of queries near the median, in percent, of a steady run."""


class StageTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency of one stage over all queries.

    Percentiles interpolate linearly between queries. The queries are a closed loop: one starts when
    the one before has ended, so there is no queueing. The intervals are order statistics, with
    fewer independent queries if consecutive ones are alike, and are of this run: another may differ
    by more (``bakit.bench.statistics.serial_intervals``). None where there are too few queries
    (368, independent ones for p99), or where the machine changed its speed.

    A program that only summarizes its runs, as on a phone, may not print all of them: a figure that
    it does not print is None.

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

    p50_ms: float | None
    p90_ms: float | None
    p99_ms: float | None
    mean_ms: float
    p50_ci95_ms: tuple[float, float] | None = None
    p90_ci95_ms: tuple[float, float] | None = None
    p99_ci95_ms: tuple[float, float] | None = None
    cv: float | None = None


class Stability(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Stability of the latencies (``bakit.bench.conditions``).

    Attributes:
        score: Percentage of queries whose regressor latency is within 10 % of its median. The
            regressor does the same work for every image.
        warning: Why the run was not steady: the score is below ``LEAST_SCORE``, or the speed
            changed during the run. None if it was steady.
        causes: Likely causes; empty if none was found.
        steady_from: First query of the steady tail of a run whose speed changed; None without one.
    """

    score: float
    warning: str | None = None
    causes: tuple[str, ...] = ()
    steady_from: int | None = None


class Energy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Energy of the queries, from a sensor of the machine.

    Attributes:
        sensor: The sensor, such as ``intel-rapl package``, or the rails of a board that were added.
            It measures the whole chip or board, including other programs.
        joules_per_query: Energy of one query without the idle power; with it if ``idle_watts`` is
            None, in reports of older versions.
        watts: Mean power during the queries.
        idle_watts: Mean power at rest before them.
        joules_ci95: 95 % interval of ``joules_per_query``; None for fewer than five readings.
    """

    sensor: str
    joules_per_query: float
    watts: float
    idle_watts: float | None = None
    joules_ci95: tuple[float, float] | None = None


class SweepEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Latency with one number of threads.

    Attributes:
        threads: Threads of the backend; None for one per CPU.
        batch: Images in a query.
        queries: Number of timed queries.
        stages: Latency by stage.
    """

    threads: int | None
    batch: int
    queries: int
    stages: dict[str, StageTimes]


class LatencyReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Single-stream latency: one query after the other.

    Attributes:
        warm_up: Predictions before the first timed query.
        queries: Number of timed queries.
        duration_s: Total time of the timed queries.
        images: Number of different images among the queries; they are decoded from memory.
        stages: Latency by stage: decode, localize, preprocess, regress, total.
        samples: Latency of every query by stage, in order, packed by ``pack_samples``
            (``samples_ns`` unpacks it). Empty if only the summary is known.
        stability: Stability of the latencies; None if it was not computed.
        energy: Energy of the queries; None without a readable sensor.
        sweep: Latency with other numbers of threads.
        turns: Queries of each turn, between which other bundles ran; empty for turns of
            ``Settings.block`` queries.
        steady_tail: Latency of the queries from ``stability.steady_from`` on; None without.
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
    turns: tuple[int, ...] = ()
    steady_tail: dict[str, StageTimes] | None = None

    def __post_init__(self) -> None:
        """Raise ``ValueError`` if the total is missing, or turns are not those of the queries."""
        if "total" not in self.stages:
            message = "latency without the stage total"
            raise ValueError(message)
        if self.turns and (min(self.turns) < 1 or sum(self.turns) != self.queries):
            message = f"turns of {sum(self.turns)} queries, of {self.queries}, or without one"
            raise ValueError(message)

    def samples_ns(self, stage: str = "total") -> array[int]:
        """Return the latency of every query of a stage in nanoseconds, in order.

        With several bundles, turns of ``turns`` or ``settings.block`` queries alternate.

        Raises:
            InputError: If the report has no samples of that stage, or they are damaged.
        """
        packed = self.samples.get(stage)
        if packed is None:
            message = f"the report has no samples of stage {stage!r}; bench again"
            raise InputError(message)
        return unpack_samples(packed, self.queries)


class Footprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Start-up time and memory of a bundle in a new process (``bakit.bench.local.worker``).

    Attributes:
        load_ms: Time to open both models.
        first_prediction_ms: Time of the first prediction after that.
        peak_rss_mb: Peak resident memory, in 10^6 bytes; None if unknown.
        cold_start_ms: Time from starting the process to its first answer: Python, libraries,
            digests, models and the first prediction. None if it was not measured.
    """

    load_ms: Amount
    first_prediction_ms: Amount
    peak_rss_mb: Amount | None
    cold_start_ms: Amount | None = None


def pack_samples(times_ns: Sequence[int]) -> str:
    """Pack latencies for a report: base64 of zlib of little-endian int64 nanoseconds."""
    return base64.b64encode(
        zlib.compress(_little_endian(array("q", times_ns)).tobytes(), 9)
    ).decode()


def unpack_samples(packed: str, queries: int) -> array[int]:
    """Unpack so many latencies of ``pack_samples``, in nanoseconds.

    Raises:
        InputError: If they are damaged, or of another number.
    """
    times = array("q")
    try:
        unpacking, size = zlib.decompressobj(), 8 * min(queries, MAX_QUERIES)
        times.frombytes(unpacking.decompress(base64.b64decode(packed, validate=True), size + 1))
        if len(times) != queries or not unpacking.eof:
            message = f"they are not {queries}"
            raise ValueError(message)  # noqa: TRY301
    except (ValueError, zlib.error) as error:
        message = f"the report's samples are damaged ({error}); bench again"
        raise InputError(message) from error
    return _little_endian(times)


def _little_endian(times: array[int]) -> array[int]:
    if sys.byteorder == "big":
        times.byteswap()
    return times
