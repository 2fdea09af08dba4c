"""The board or phone in a report; imports no numpy."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from bakit.agent import MAX_TRACE
from bakit.bench.bounds import Amount, Celsius, Count, Few, Stage, Text

PHANTOMS = "generated phantoms"
"""Name of the generated data set."""


class BoardState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board and its state while a bundle ran, as ``bakit.agent`` sends it.

    Attributes:
        board: Name, such as ``Jetson Nano``; empty if unknown.
        system: NVIDIA's system release, such as ``L4T 32.7.1``; empty on other systems.
        gpu: Name of the GPU; None without a GPU.
        power_mode: Name of the power mode; None if the board has none.
        clocks_mhz: Clocks directly after the queries, by name.
        temperature_before_c: Highest temperature before the queries; None if unreadable.
        temperature_after_c: Highest temperature after the queries; None if unreadable.
        build_s: Time to build the engines; None if they were cached or none is needed.
        layers: Number of the engine's layers by precision, as reported by the engine.
        timing: ``wall``: each query's wall clock. ``trtexec``: sums of CUDA events, measured by
            trtexec. The others are programs that a phone runs (``bakit.bench.phone.binary``). They
            are different quantities.
        gpu_ms: Median of the GPU's time of a query by stage, from CUDA events, copies included.
        enqueue_ms: Median of the CPU's time to hand a query to the GPU, by stage. If it is most
            of the latency, the CPU limits the engine and not the GPU.
        clocks_locked: Whether CPU and GPU had fixed clocks, as after ``jetson_clocks``; None if
            unreadable.
        trace: Samples during the queries, one a second: seconds, highest temperature in degrees
            Celsius, CPU and GPU clock in MHz; None for what is unreadable.
        notes: Deviations from the bundle's first build, such as a fall-back, with the reason.
    """

    board: Text
    system: Text
    gpu: Text | None
    power_mode: Text | None
    clocks_mhz: Annotated[dict[Text, Amount], Few]
    temperature_before_c: Celsius | None
    temperature_after_c: Celsius | None
    build_s: Amount | None
    layers: Annotated[dict[Text, Count], Few]
    timing: Literal["wall", "trtexec", "benchmark_model", "onnxruntime_perf_test"] = "wall"
    gpu_ms: dict[Stage, Amount] = {}
    enqueue_ms: dict[Stage, Amount] = {}
    clocks_locked: bool | None = None
    trace: Annotated[
        tuple[tuple[Amount, Celsius | None, Amount | None, Amount | None], ...],
        Meta(max_length=MAX_TRACE),
    ] = ()
    notes: Annotated[tuple[Text, ...], Few] = ()


class Board(BoardState, frozen=True):
    """A board in a report: its state, and what the host computed.

    Attributes:
        golden_change_months: Largest change of a golden phantom's age since export.
        power_rail: The measured power rail; None without a sensor.
        idle_w: Idle power; None without a sensor.
        busy_w: Power during the queries; None without a sensor.
        energy_mj: Energy of one query without idle power; None without a sensor.
        energy_queries: Number of queries of the energy measurement.
    """

    golden_change_months: float = 0.0
    power_rail: str | None = None
    idle_w: float | None = None
    busy_w: float | None = None
    energy_mj: float | None = None
    energy_queries: int = 0


class Phone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The phone and browser that ran the two networks (``bakit bench --phone``).

    The report's ``host`` is then the machine that served the page, prepared the images and ran
    the float reference; or the phone itself, if a benchmark binary took the times.

    Attributes:
        device: Model and system, as reported by the browser.
        browser: Name and version.
        user_agent: ``navigator.userAgent``.
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        threads: Threads of WASM.
        logical_cores: Logical cores, as reported by the browser.
        isolated: Whether the page was cross-origin isolated. Without isolation, the browser has
            no threads and a coarse clock.
        timer_step_ms: Resolution of the browser's clock.
        runs_per_sample: Maximum number of runs in one time sample: more than 1 if the clock is
            too coarse for one run. Percentiles are then of means.
        runtime: Name and version of the library.
        golden_max_difference_months: By bundle, the largest difference of a golden image's age
            from its age at export.
        golden_max_difference_localizer: By bundle, the largest difference of a pixel of the
            localizer's output from the host's; for labels, the share of different pixels.
        problem: Reason why the run ended early; None if it finished.
    """

    device: str
    browser: str
    user_agent: str
    provider: str
    threads: int
    logical_cores: int | None
    isolated: bool
    timer_step_ms: float
    runs_per_sample: int
    runtime: str
    golden_max_difference_months: dict[str, float]
    golden_max_difference_localizer: dict[str, float]
    problem: str | None = None

    @property
    def summary(self) -> str:
        """Description of the phone and its runtime."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}; {self.browser}; {self.runtime}, {self.provider}, {threads}"

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Facts that must be equal before the latencies of two reports are compared.

        Versions of browser and library are not included, so that two versions can be compared.
        """
        return self.device, self.logical_cores, self.provider, self.browser.split(" ")[0]
