"""The document that ``bakit bench`` writes and ``bakit gate`` reads.

The documents of a benchmark import no numpy: a gate in CI starts at once. Those of time, of drift
and of the device have modules of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.bench.host import HostInfo
from bakit.bench.report.device import Board, Phone
from bakit.bench.report.drift import DriftReport
from bakit.bench.report.latency import Footprint, LatencyReport
from bakit.documents import read_versioned
from bakit.errors import InputError
from bakit.files import write_file
from bakit.types import Precision

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 2
"""Version 1 had no single times, groups, blame or provenance."""

MAX_REPORT_BYTES = 256 * 2**20


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Origins of a bundle: checkpoint, ranges, graph, engine, each by its SHA-256.

    Attributes:
        checkpoint_sha256: The float checkpoint.
        calibration_sha256: The images that the INT8 ranges were seen on; None for floats.
        calibration: The same in words.
        files_sha256: The model files as they were exported, by their paths in the bundle.
        engine_sha256: Files that the device made of them, such as a TensorRT engine, by name.
        tool_versions: Libraries that wrote the files.
        training_data: What the checkpoint was trained on, and its terms.
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
        provider: What ran the regressor.
        bundle_sha256: Digest of the bundle.
        checkpoint: Name of the float checkpoint.
        checkpoint_sha256: Digest of the float checkpoint.
        size_mb: Size of the model file by role, in 10^6 bytes.
        total_size_mb: Size of all model files; a file that does both roles counts once.
        int8_share: Share of the regressor's multiply-adds in INT8, 0..1, as the library executes
            them where it tells, else as the file asks for.
        latency: Times of predictions; None if the bundle failed or the run ended before.
        footprint: Cost of start-up, and memory; None likewise.
        drift: Distance from the float model; None likewise, and without a labelled folder.
        provenance: What the bundle was made of.
        error: Why the bundle failed, in a line; None if it did not. Its other numbers are those
            from before.
        device: The board that it ran on, as its agent saw it; None for what this machine ran.
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
    provenance: Provenance | None = None
    error: str | None = None
    device: Board | None = None


class DataInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled images.

    Attributes:
        folder: Name of the folder.
        samples: Images used.
        part: ``test`` if the bundles were trained on this very folder: only its test part was
            used then. Otherwise ``all``.
        available: Images in that part.
        ids_sha256: Digest of the used ids (``bakit.data.labels.ids_digest``).
    """

    folder: str
    samples: int
    part: Literal["all", "test"]
    available: int
    ids_sha256: str


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How the numbers were measured.

    Attributes:
        min_queries: Least number of queries of each bundle.
        min_duration_s: Least time spent in each bundle's queries.
        warm_up: Predictions of each bundle before its first query.
        block: Queries of one bundle in a row before the next bundle's turn.
        threads: Threads of the backend; its own choice when None.
        resamples: Resamples of the bootstrap.
        seed: Seed of the bootstrap.
        sweep_threads: Numbers of threads that were tried besides.
    """

    min_queries: int
    min_duration_s: float
    warm_up: int
    block: int
    threads: int | None
    resamples: int
    seed: int
    sweep_threads: tuple[int, ...] = ()


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of ``bakit bench``.

    Attributes:
        schema_version: Version of this document.
        host: The machine.
        settings: How the numbers were measured.
        data: The labelled images; None if drift was not measured.
        bundles: One report for each bundle.
        partial: Whether the run was interrupted: what it had not come to is None.
        measured_at: When the run began, in UTC, such as ``2026-11-26T11:50:00Z``.
        phone: The phone that ran them in its browser; None if this machine did.
    """

    schema_version: int
    host: HostInfo
    settings: Settings
    data: DataInfo | None
    bundles: tuple[BundleReport, ...]
    partial: bool = False
    measured_at: str | None = None
    phone: Phone | None = None

    @property
    def machine(self) -> str:
        """The machine that ran the models, in words: the phone, or this machine's CPU."""
        here = f"{self.host.cpu}, {self.host.logical_cores} logical cores"
        return here if self.phone is None else self.phone.summary

    def encode(self) -> bytes:
        """Return the document as indented JSON, the same bytes for the same numbers."""
        return (
            msgspec.json.format(msgspec.json.encode(self, order="deterministic"), indent=2) + b"\n"
        )

    def write(self, path: Path) -> None:
        """Write the document; the file appears whole or not at all.

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
        InputError: If the file is missing, is no report, or is newer than this version
            understands.
    """
    report, _ = read_versioned(
        path,
        Report,
        SCHEMA_VERSION,
        InputError,
        max_bytes=MAX_REPORT_BYTES,
        missing=(
            f"{path}: the report cannot be read ({{reason}}); bakit bench --json FILE writes one"
        ),
        wrong="not a report of bakit bench",
    )
    return report
