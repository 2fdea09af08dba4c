"""Raw measurements of a device: times, ages and hardware facts, without statistics."""

from __future__ import annotations

from typing import Annotated

import msgspec

from bakit.bench.bounds import Amount, Count, Months, Text, Watts
from bakit.bench.conditions import Conditions
from bakit.bench.host import HostInfo
from bakit.bench.report.device import Board, Phone
from bakit.bench.report.latency import Footprint, LatencyReport
from bakit.image.box import Box
from bakit.session import Executed

Times = list[Annotated[int, msgspec.Meta(ge=0, le=10**15)]]
"""Times in nanoseconds."""


class Reading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model's prediction for one labelled image.

    Attributes:
        id: The image's name in ``labels.csv``.
        age_months: The predicted age.
        box: The hand's box, in pixels of the localizer's image or of the original, the same for
            all models of a run; None without a localizer.
    """

    id: str
    age_months: Months
    box: Box | None = None


class Power(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Readings of a power sensor in watts, in order, idle and during ``queries`` queries."""

    rail: Text
    idle_w: tuple[Watts, ...]
    busy_w: tuple[Watts, ...]
    busy_s: Amount
    queries: Count


class Sweep(msgspec.Struct, frozen=True):
    """Times of the same bundle with another number of threads; ``stages_ns`` as in RawBundle."""

    threads: int | None
    stages_ns: dict[str, Times]


class RawBundle(msgspec.Struct, frozen=True):
    """Measurements of one bundle; a field that was not measured keeps its default.

    Attributes:
        provider: Library and device that ran the regressor.
        int8_share: Share of the regressor's multiply-adds that the library runs in INT8; None if
            the library does not report it.
        executed: Shares of the regressor's multiply-adds by unit and number format.
        warm_up: Predictions before the first timed query.
        images: Number of different images among the queries.
        stages_ns: Latency of each query by stage, in the order of the queries.
        latency: The latency, if the device does not give that of each query.
        turns: Queries of each turn, between which other bundles ran; empty for turns of
            ``Settings.block`` queries.
        conditions: The machine's counters before and after the queries.
        power: Readings of a power sensor.
        sweep: Latencies with other numbers of threads.
        footprint: Start-up time and memory.
        golden_months: Ages of the bundle's golden images, in their order.
        downgraded: Whether an INT8 bundle was built without INT8, so that its ages are the float
            model's.
        golden_localizer: Largest difference of the localizer's output for each golden image.
        readings: Ages of the labelled images; None if the device cannot give them.
        board: The board that ran the bundle.
        error: Reason of the bundle's failure, in one line.
    """

    provider: str = ""
    int8_share: float | None = None
    executed: tuple[Executed, ...] = ()
    warm_up: int = 0
    images: int = 0
    stages_ns: dict[str, Times] = {}
    latency: LatencyReport | None = None
    turns: tuple[int, ...] = ()
    conditions: tuple[Conditions | None, Conditions | None] = (None, None)
    power: Power | None = None
    sweep: tuple[Sweep, ...] = ()
    footprint: Footprint | None = None
    golden_months: tuple[float, ...] = ()
    downgraded: bool = False
    golden_localizer: tuple[float, ...] = ()
    readings: tuple[Reading, ...] | None = ()
    board: Board | None = None
    error: str | None = None


class Raw(msgspec.Struct, frozen=True):
    """Measurements of one task.

    Attributes:
        host: The machine.
        bundles: One entry for each bundle of the task, in its order.
        references: Ages predicted by each checkpoint's reference, by the checkpoint's digest, if
            another machine ran the references. None if the references are among the bundles.
        used: Ids of the evaluated images; None for all images of the task.
        partial: Whether the run was interrupted.
        phone: The phone that ran the bundles, without its golden differences.
    """

    host: HostInfo
    bundles: tuple[RawBundle, ...]
    references: dict[str, tuple[Reading, ...]] | None = None
    used: tuple[str, ...] | None = None
    partial: bool = False
    phone: Phone | None = None
