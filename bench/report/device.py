"""The part of a report that describes a device measured by its agent."""

from __future__ import annotations

import msgspec


class Device(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A board, and how it was while a bundle ran (``bakit.bench.device.agent``).

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
    golden_change_months: float
    power_rail: str | None = None
    idle_w: float | None = None
    busy_w: float | None = None
    energy_mj: float | None = None
    energy_queries: int = 0
