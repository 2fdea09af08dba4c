"""The report that ``bakit bench`` writes and ``bakit gate`` reads.

The modules of ``bakit.bench.report`` import no numpy, so that a report is read fast.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.bench.host import HostInfo
from bakit.bench.report.device import Board, Phone
from bakit.bench.report.drift import DriftReport
from bakit.bench.report.latency import Footprint, LatencyReport
from bakit.documents import read_versioned
from bakit.errors import InputError
from bakit.files import write_file
from bakit.session import Executed
from bakit.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2
"""Version 1 had no samples, groups, blame or provenance."""

MAX_REPORT_BYTES = 256 * 2**20


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Origins of a bundle, with the SHA-256 of each file.

    Attributes:
        checkpoint_sha256: The float checkpoint.
        calibration_sha256: The calibration images; None without INT8.
        calibration: Description of the calibration images.
        files_sha256: The exported model files, by path in the bundle.
        engine_sha256: Files built on the device, such as a TensorRT engine, by name.
        tool_versions: Versions of the libraries that wrote the files.
        training_data: The checkpoint's training data and its license.
    """

    checkpoint_sha256: str
    calibration_sha256: str | None = None
    calibration: str | None = None
    files_sha256: dict[str, str] = {}
    engine_sha256: dict[str, str] = {}
    tool_versions: dict[str, str] = {}
    training_data: str = ""


class BundleReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All numbers about one bundle.

    Attributes:
        name: Name of its folder.
        target: Name of the target.
        precision: Number format of the regressor.
        provider: Library and device that ran the regressor.
        bundle_sha256: Digest of the bundle.
        checkpoint: Name of the float checkpoint.
        checkpoint_sha256: Digest of the float checkpoint.
        size_mb: Size of the model file by role, in 10^6 bytes.
        total_size_mb: Size of all model files; a file with both roles counts once.
        int8_share: Share of the regressor's multiply-adds in INT8, 0..1, as reported by the
            library, or else as stated in the model file.
        executed: Shares of the regressor's multiply-adds by unit and number format, the largest
            first; empty if the library does not report them.
        latency: Latency of predictions; None if the bundle failed or the run ended before.
        footprint: Start-up time and memory; None if the bundle failed or the run ended before.
        drift: Difference from the float model; None also without labelled images.
        provenance: Origins of the bundle.
        error: Reason of the bundle's failure, in one line; None without a failure. Numbers
            measured before the failure are kept.
        device: The board that ran the bundle; None if this machine ran it.
    """

    name: str
    target: str
    precision: Precision
    provider: str
    bundle_sha256: str
    checkpoint: str
    checkpoint_sha256: str
    size_mb: dict[str, float]
    total_size_mb: float
    latency: LatencyReport | None
    footprint: Footprint | None
    drift: DriftReport | None
    int8_share: float = 0.0
    executed: tuple[Executed, ...] = ()
    provenance: Provenance | None = None
    error: str | None = None
    device: Board | None = None

    @property
    def ran(self) -> str:
        """What ran where, in words: shares of the multiply-adds, if the library reports them."""
        parts = [f"{100 * i.share:.1f} % {i.precision} on {i.unit}" for i in self.executed]
        notes = () if self.device is None else self.device.notes
        return "; ".join((", ".join(parts) or self.provider, *notes))

    def stage_ms(self, stage: str, figure: str) -> float | None:
        """Return ``p50_ms``, ``p90_ms``, ``p99_ms`` or ``mean_ms`` of a stage; None if unknown."""
        times = self.latency.stages.get(stage) if self.latency else None
        value: float | None = None if times is None else getattr(times, figure)
        return value if value is not None and math.isfinite(value) else None


class DataInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled images.

    Attributes:
        folder: Name of the folder.
        samples: Number of images used.
        part: ``test`` if a model knows images of this folder, so that only those are used that it
            was neither trained nor selected on: its test split, and images that it does not know.
            Otherwise ``all``.
        available: Number of images in that part.
        ids_sha256: Digest of the used ids (``bakit.data.splits.ids_digest``).
        left_out: Number of the other images.
    """

    folder: str
    samples: int
    part: Literal["all", "test"]
    available: int
    ids_sha256: str
    left_out: int = 0


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Settings of the measurement.

    Attributes:
        min_queries: Minimum number of queries of each bundle.
        min_duration_s: Minimum time spent in each bundle's queries.
        warm_up: Warm-up predictions of each bundle.
        block: Consecutive queries of one bundle before the next bundle runs. On a device, the
            latency of each bundle has ``turns`` of its own.
        threads: Threads of the backend; None for one per CPU.
        resamples: Of the bootstrap in older reports; intervals need none now.
        seed: The same.
        sweep_threads: Other numbers of threads that were measured.
    """

    min_queries: int
    min_duration_s: float
    warm_up: int
    block: int
    threads: int | None
    resamples: int = 0
    seed: int = 0
    sweep_threads: tuple[int, ...] = ()


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of ``bakit bench``.

    Attributes:
        schema_version: Version of this document.
        host: The machine.
        settings: Settings of the measurement.
        data: The labelled images; None if drift was not measured.
        bundles: One report for each bundle.
        partial: Whether the run was interrupted; missing measurements are None.
        measured_at: Start of the run in UTC, such as ``2026-11-26T11:50:00Z``.
        phone: The phone that ran the bundles in its browser; None otherwise.
        devices: The machine of each device of a fleet, whose bundles are called ``device/bundle``;
            empty for one device. ``host`` is then the machine that reached them.
    """

    schema_version: int
    host: HostInfo
    settings: Settings
    data: DataInfo | None
    bundles: tuple[BundleReport, ...]
    partial: bool = False
    measured_at: str | None = None
    phone: Phone | None = None
    devices: dict[str, HostInfo] = {}

    @property
    def on_phone(self) -> bool:
        """Whether a phone ran the two networks, without decoding and cropping."""
        return self.phone is not None or self.host.is_android

    @property
    def machine(self) -> str:
        """Description of what ran the models: the devices, the phone, or the host's CPU."""
        if self.devices:
            return "; ".join(f"{name}: {host.cpu_text}" for name, host in self.devices.items())
        if self.phone is None:
            return self.host.cpu_text
        if self.host.is_android:
            return f"{self.host.cpu_text}; ages of onnx bundles: {self.phone.summary}"
        return self.phone.summary

    def of_device(self, name: str) -> Report:
        """Return the part of one device of a fleet."""
        bundles = tuple(b for b in self.bundles if b.name.startswith(f"{name}/"))
        return msgspec.structs.replace(self, host=self.devices[name], bundles=bundles, devices={})

    def encode(self) -> bytes:
        """Return the document as indented JSON; equal reports give equal bytes."""
        return (
            msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"
        )

    def write(self, path: Path) -> None:
        """Write the document atomically.

        Raises:
            InputError: If it cannot be written.
        """
        try:
            write_file(path, self.encode())
        except OSError as error:
            message = f"{path}: the report cannot be written ({error.strerror or error})"
            raise InputError(message) from error


def read_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: If the file is missing, is not a report, or needs a newer version of bakit.
    """
    report, _ = read_versioned(
        path,
        Report,
        SCHEMA_VERSION,
        InputError,
        max_bytes=MAX_REPORT_BYTES,
        missing="{path}: the report cannot be read ({reason}); bakit bench --json FILE writes one",
        wrong="not a report of bakit bench",
    )
    return report
