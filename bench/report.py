"""The document that ``bakit bench`` writes and ``bakit gate`` reads.

All documents of a benchmark stand here and import no numpy: a gate in CI starts at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import msgspec

from bakit.bench.host import HostInfo
from bakit.errors import InputError
from bakit.files import write_file
from bakit.targets import Precision

if TYPE_CHECKING:
    from pathlib import Path

SCHEMA_VERSION = 1


class StageTimes(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Times of one stage over all queries.

    Percentiles interpolate linearly between queries, so with fewer than 100 of them the 99th is
    close to the slowest.

    Attributes:
        p50_ms: Median.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        mean_ms: Mean.
    """

    p50_ms: float
    p90_ms: float
    p99_ms: float
    mean_ms: float


class LatencyReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long one query takes when one comes after the other (single stream).

    Attributes:
        warm_up: Predictions before the first query that counts.
        queries: Predictions that count.
        duration_s: Time spent in them.
        images: Different images among the queries; they are decoded from memory, not from disk.
        stages: Times by stage: decode, localize, preprocess, regress, total.
    """

    warm_up: int
    queries: int
    duration_s: float
    images: int
    stages: dict[str, StageTimes]


class Footprint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bundle costs a fresh process (``bakit.bench.footprint`` says what each includes).

    Attributes:
        load_ms: Time to open both models.
        first_prediction_ms: Time of the first prediction after that.
        peak_rss_mb: Largest resident memory, in 10^6 bytes; None where the system does not tell.
    """

    load_ms: float
    first_prediction_ms: float
    peak_rss_mb: float | None


class DriftRow(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image's ages.

    Attributes:
        id: The image's name in ``labels.csv``.
        true_months: Its label.
        float_months: What the reference says.
        bundle_months: What the bundle says.
    """

    id: str
    true_months: float
    float_months: float
    bundle_months: float


class DriftReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How far a bundle is from the float model, image by image.

    Attributes:
        samples: Labelled images.
        reference: Name of the bundle that stands for the float model.
        reference_target: What ran it: ``torch`` is the float model itself.
        is_reference: Whether this bundle is the reference: then its drift is 0 by construction.
        float_mae_months: Mean absolute error of the reference.
        bundle_mae_months: Mean absolute error of the bundle.
        drift_months: ``bundle_mae_months - float_mae_months``; positive is worse.
        drift_ci95_months: 95 % interval of the drift (``bakit.bench.drift.bootstrap_interval``).
        bias_months: Mean of the bundle's age minus the true age.
        mean_abs_change_months: Mean of ``|bundle - reference|``: MAE alone hides errors that
            cancel out.
        p99_abs_change_months: Its 99th percentile.
        max_abs_change_months: Its maximum.
        box_iou_mean: Mean overlap of the two pipelines' boxes, 0..1; the whole image where there
            is no box.
        rows: The ages, in the order of ``labels.csv``.
    """

    samples: int
    reference: str
    reference_target: str
    is_reference: bool
    float_mae_months: float
    bundle_mae_months: float
    drift_months: float
    drift_ci95_months: tuple[float, float]
    bias_months: float
    mean_abs_change_months: float
    p99_abs_change_months: float
    max_abs_change_months: float
    box_iou_mean: float
    rows: tuple[DriftRow, ...]


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
        latency: Times of predictions.
        footprint: Cost of start-up, and memory.
        drift: Distance from the float model; None if there was no labelled folder.
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
    latency: LatencyReport
    footprint: Footprint
    drift: DriftReport | None
    int8_share: float = 0.0


class DataInfo(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The labelled images.

    Attributes:
        folder: Name of the folder.
        samples: Images used.
        part: ``test`` if the bundles were trained on this very folder: only its test part was
            used then. Otherwise ``all``.
        available: Images in that part.
        ids_sha256: Digest of the used ids (``bakit.dataset.ids_digest``).
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
    """

    min_queries: int
    min_duration_s: float
    warm_up: int
    block: int
    threads: int | None
    resamples: int
    seed: int


class Report(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One run of ``bakit bench``.

    Attributes:
        schema_version: Version of this document.
        host: The machine.
        settings: How the numbers were measured.
        data: The labelled images; None if drift was not measured.
        bundles: One report for each bundle.
    """

    schema_version: int
    host: HostInfo
    settings: Settings
    data: DataInfo | None
    bundles: tuple[BundleReport, ...]

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
    try:
        data = path.read_bytes()
    except OSError as error:
        message = (
            f"{path}: the report cannot be read ({error.strerror or error}); "
            "bakit bench --json FILE writes one"
        )
        raise InputError(message) from error
    try:
        version = msgspec.json.decode(data).get("schema_version")
        if isinstance(version, int) and version > SCHEMA_VERSION:
            message = (
                f"{path}: schema version {version} is newer than this bakit's {SCHEMA_VERSION}; "
                "upgrade with pip install -U bakit"
            )
            raise InputError(message)
        return msgspec.json.decode(data, type=Report)
    except (msgspec.MsgspecError, AttributeError, UnicodeDecodeError) as error:
        message = f"{path}: not a report of bakit bench ({error})"
        raise InputError(message) from error
