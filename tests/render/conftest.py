"""Reports made of numbers: no model runs."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec
import pytest

from bakit.bench.host import HostInfo
from bakit.bench.report.document import (
    SCHEMA_VERSION,
    BundleReport,
    DataInfo,
    Provenance,
    Report,
    Settings,
)
from bakit.bench.report.drift import BlameStep, DriftReport, DriftRow, GroupDrift
from bakit.bench.report.latency import Footprint, LatencyReport, Stability, StageTimes, pack_samples
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable

SHARES = {"decode": 0.05, "localize": 0.3, "preprocess": 0.02, "regress": 0.6, "total": 1.0}


def stages(p50_ms: float) -> dict[str, StageTimes]:
    return {
        stage: StageTimes(*(p50_ms * share * factor for factor in (1, 1.5, 2.2, 1.1)))
        for stage, share in SHARES.items()
    }


def drift(mean: float, change: float, images: int, *, is_reference: bool) -> DriftReport:
    """Return a drift whose interval is ``mean`` ± 0.05 and whose changes are waves."""
    rows = []
    for index in range(images):
        true = 6.0 + 216.0 * index / max(images - 1, 1)
        said = true + 9.0 * math.sin(index * 1.7)
        moved = said + change * math.sin(index * 0.9)
        rows.append(DriftRow(str(index), true, said, moved, index % 2 == 0))
    groups = tuple(
        GroupDrift(
            sex, start, start + 72, images // 6, mean, (mean - 0.2, mean + 0.2), 0.0, (-0.1, 0.1),
            change / 2, change,
        )
        for sex in ("F", "M")
        for start in (0, 72, 144)
    )  # fmt: skip
    return DriftReport(
        samples=images,
        reference="model-onnx-fp32",
        reference_target="onnx",
        is_reference=is_reference,
        float_mae_months=9.4,
        bundle_mae_months=9.4 + mean,
        drift_months=mean,
        drift_ci95_months=(mean - 0.05, mean + 0.05),
        bias_months=0.5,
        mean_abs_change_months=change / 2,
        p99_abs_change_months=change,
        max_abs_change_months=change,
        box_iou_mean=1.0,
        rows=tuple(rows),
        bundle_mae_ci95_months=(9.0 + mean, 9.8 + mean),
        mean_change_months=0.0,
        mean_change_ci95_months=(-0.05, 0.05),
        limits_of_agreement_months=(-change, change),
        mean_abs_change_ci95_months=(change * 0.49, change * 0.51),
        p99_abs_change_ci95_months=(change, change),
        groups=groups,
    )


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., BundleReport]:
    """Return what makes the report of a bundle; further arguments replace its fields."""

    def make(
        target: str = "onnx",
        precision: str = "int8",
        p50_ms: float = 5.0,
        size_mb: float = 9.0,
        mean: float = 0.03,
        change: float = 1.0,
        images: int = 400,
        **fields: Any,
    ) -> BundleReport:
        samples = [int(p50_ms * 1e6 * (0.9 + 0.002 * (i * 37 % 200))) for i in range(120)]
        bundle = BundleReport(
            name=f"model-{target}-{precision}",
            target=target,
            precision=Precision(precision),
            provider="CPUExecutionProvider",
            bundle_sha256="b" * 64,
            checkpoint="model",
            checkpoint_sha256="c" * 64,
            size_mb={"localizer": 0.5, "regressor": size_mb - 0.5},
            total_size_mb=size_mb,
            latency=LatencyReport(
                10, 120, 0.6, 32, stages(p50_ms), {"total": pack_samples(samples)}, Stability(92.0)
            ),
            footprint=Footprint(80.0, 60.0, 120.0, 900.0),
            drift=drift(mean, change, images, is_reference=target == "onnx" and change == 0),
            int8_share=0.98 if precision == "int8" else 0.0,
            provenance=Provenance(
                "c" * 64,
                "d" * 64 if precision == "int8" else None,
                "tails, 256 images" if precision == "int8" else None,
                {"regressor.onnx": "e" * 64},
                {},
                {"bakit": "0.1.0", "onnx": "1.19"},
                "phantoms; free to use",
            ),
        )
        return msgspec.structs.replace(bundle, **fields)

    return make


@pytest.fixture(scope="session")
def make_report(make_bundle: Callable[..., BundleReport]) -> Callable[..., Report]:
    """Return what makes a report of bundles; a usual set of five when there are none."""

    def usual() -> tuple[BundleReport, ...]:
        return (
            make_bundle("onnx", "fp32", 6.0, 31.2, 0.0, 0.0),
            make_bundle("onnx", "int8", 5.0, 8.9, 0.03),
            make_bundle("openvino", "fp16", 7.5, 16.4, 0.003, 0.2),
            make_bundle("openvino", "fp32", 7.4, 31.5, 0.0, 1e-5),
            make_bundle("openvino", "int8", 5.1, 9.4, 0.03),
        )

    def make(*bundles: BundleReport, **fields: Any) -> Report:
        chosen = bundles or usual()
        samples = next((b.drift.samples for b in chosen if b.drift), 0)
        report = Report(
            SCHEMA_VERSION,
            HostInfo("Linux 6", "x86_64", "A CPU", 2, ("avx2",), 8e3, "3.11.1", {"bakit": "0.1.0"}),
            Settings(100, 5.0, 10, 10, 1, 2000, 0),
            DataInfo("radiographs", samples, "test", samples, "f" * 64) if samples else None,
            chosen,
            measured_at="2030-01-31T10:00:00Z",
        )
        return msgspec.structs.replace(report, **fields)

    return make


HOSTILE = (
    "</style></title><script>alert(1)</script>\"'><img src=x onerror=alert(2)>{{ 7*7 }}&amp;\x00"
)
"""A name that tries whatever a name can try."""

_FREE_TEXT = {
    "name", "target", "provider", "checkpoint", "error", "cpu", "system", "python", "folder",
    "reference", "before", "after", "warning", "training_data", "calibration", "bundle_sha256",
    "checkpoint_sha256", "calibration_sha256", "ids_sha256", "id", "measured_at", "governor",
    "sensor",
}  # fmt: skip


def _poison(value: Any, key: str = "", word: str = HOSTILE) -> Any:
    if key in {"board", "host"}:  # a report whose host has a control character is refused
        word = HOSTILE.replace("\x00", "")
    if isinstance(value, dict):
        named = key in {"versions", "tool_versions", "files_sha256", "engine_sha256"}
        return {
            (word if named else k): _poison(v, "name" if named else k, word)
            for k, v in value.items()
        }
    if isinstance(value, list | tuple):
        named = key in {"causes", "isa"}
        return [_poison(item, "name" if named else key, word) for item in value]
    return f"{word}{value}" if isinstance(value, str) and key in _FREE_TEXT else value


@pytest.fixture(scope="session")
def hostile_report(make_bundle: Callable[..., BundleReport], make_report: Any) -> Report:
    """Return a report whose every free text is an attack."""
    bundle = make_bundle(images=60)
    blame = (BlameStep("quantization", "a", "b", 0.1, 0.1, 0.1, 0.1, 0.1),)
    drift_report = msgspec.structs.replace(bundle.drift, blame=blame)
    unsteady = Stability(40.0, "unsteady", ("heat", "load"))
    latency = msgspec.structs.replace(bundle.latency, stability=unsteady)
    report = make_report(
        msgspec.structs.replace(bundle, drift=drift_report, latency=latency),
        make_bundle("openvino", images=60),
        make_bundle("tensorrt", images=60, error="it crashed", latency=None),
    )
    return msgspec.convert(_poison(msgspec.to_builtins(report)), Report)
