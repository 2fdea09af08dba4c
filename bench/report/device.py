"""The part of a report that describes the board or phone that ran the models; imports no numpy."""

from __future__ import annotations

import msgspec

PHANTOMS = "generated phantoms"
"""Name of the data set that was generated for the run."""


class Board(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board, and how it was while a bundle ran (``bakit.agent``).

    Attributes:
        board: Its name, such as ``Jetson Nano``; empty where the system has none.
        system: NVIDIA's release of the system, such as ``L4T 32.7.1``; empty elsewhere.
        gpu: Name of the GPU; None without one.
        power_mode: Name of the power mode; None where there are none.
        clocks_mhz: Clocks right after the queries, by name.
        temperature_before_c: Highest temperature before; None where it cannot be read.
        temperature_after_c: Highest temperature after; None likewise.
        build_s: Time to build the engines; None if they were in the cache, or none are built.
        layers: Layers of the built regressor by precision, as the engine itself says.
        golden_change_months: Largest change of a golden phantom's age since the export.
        power_rail: What power was read from; None without a sensor.
        idle_w: Power at rest; None likewise.
        busy_w: Power at work; None likewise.
        energy_mj: Energy of one query, less that of rest; None likewise.
        energy_queries: Queries that energy was measured on.
    """

    board: str
    system: str
    gpu: str | None
    power_mode: str | None
    clocks_mhz: dict[str, float]
    temperature_before_c: float | None
    temperature_after_c: float | None
    build_s: float | None
    layers: dict[str, int]
    golden_change_months: float = 0.0
    power_rail: str | None = None
    idle_w: float | None = None
    busy_w: float | None = None
    energy_mj: float | None = None
    energy_queries: int = 0


class Phone(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The browser in which ``bakit bench --phone`` ran the two networks.

    The report's ``host`` is then the machine that served the page, prepared the images and ran
    the float reference of the drift.

    Attributes:
        device: Model and system, as far as the browser tells.
        browser: Name and version.
        user_agent: What the browser calls itself.
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        threads: Threads of the WASM part; fixed for one page.
        logical_cores: Logical cores, as far as the browser tells.
        isolated: Whether the page was cross-origin isolated: without it there are no threads and
            clocks are coarse.
        timer_step_ms: Smallest step of the browser's clock.
        runs_per_sample: Runs in one time, the most of any model: more than 1 where the clock is
            too coarse for one run. Percentiles are then those of means.
        runtime: Library and its version.
        golden_max_difference_months: By bundle, the largest difference of a golden image's age
            from the bundle's own at its export.
        golden_max_difference_localizer: By bundle, the largest difference of a pixel of the
            localizer's map from this machine's; of labels, the share that differs.
        problem: Why the run ended early, which makes the report partial; None if it did not.
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
        """The phone with its runtime, in words."""
        threads = f"{self.threads} thread{'s' if self.threads > 1 else ''}"
        return f"{self.device}; {self.browser}; {self.runtime}, {self.provider}, {threads}"

    @property
    def fingerprint(self) -> tuple[object, ...]:
        """Facts that must be equal before two reports' times are compared.

        Versions of browser and library are not in it: they are what one may want to compare.
        """
        return self.device, self.logical_cores, self.provider, self.browser.split(" ")[0]
