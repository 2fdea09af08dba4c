"""``bakit demo``: export, predict, bench and gate on generated radiographs."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bakit.bench import Gate, run_bench
from bakit.data.labels import read_samples
from bakit.errors import InputError
from bakit.export import export_bundle
from bakit.files import write_file
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.phantoms import write_phantoms
from bakit.runtime import Runtime
from bakit.types import Precision

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from bakit.bench import GateResult, Report
    from bakit.data.labels import Sample
    from bakit.runtime import Prediction

PHANTOMS = 100
MARKER = "MADE_BY_BAKIT_DEMO"
MAX_MONTHS = 4.0
"""Limit of the demo's gate, above the defaults: 100 images are too few to show a drift below 0.25
months, and the shipped INT8 ranges come from real radiographs, not phantoms. Groups have twice as
much, because the youngest and the oldest of one sex are 2 to 5 images."""
GATE = Gate(
    max_drift_months=MAX_MONTHS,
    max_mean_change_months=MAX_MONTHS,
    max_p99_change_months=None,
    max_group_drift_months=2 * MAX_MONTHS,
    max_group_change_months=2 * MAX_MONTHS,
)


@dataclass(frozen=True)
class DemoResult:
    """The INT8 bundle's prediction for one radiograph, the bench report and the gate's result."""

    sample: Sample
    prediction: Prediction
    report: Report
    gate: GateResult
    report_path: Path


def run_demo(out: Path, say: Callable[[str], None]) -> DemoResult:
    """Run the demo, write its files and ``say`` each step; an earlier demo in ``out`` is replaced.

    Raises:
        BakitError: If a step fails.
    """
    data, bundles, report_path = out / "phantoms", out / "bundles", out / "report.json"
    marker = out / MARKER
    if out.exists() and any(out.iterdir()) and not marker.is_file():
        message = f"{out}: not empty and not from an earlier demo; choose another --out"
        raise InputError(message)
    shutil.rmtree(out, ignore_errors=True)
    write_file(marker, b"Made by bakit demo, which replaces this folder.\n")
    say(f"generating {PHANTOMS} radiographs in {data}")
    write_phantoms(data, PHANTOMS, seed=7)
    checkpoint = Checkpoint.read(SHIPPED)
    paths = []
    for precision in (Precision.FP32, Precision.INT8):
        path = bundles / f"{checkpoint.name}-onnx-{precision.value}"
        say(f"exporting {path}")
        export_bundle(checkpoint, "onnx", precision, path)
        paths.append(path)
    sample = read_samples(data)[0]
    say(f"predicting {sample.path}")
    with Runtime(paths[1]) as runtime:
        prediction = runtime.predict(sample.path, "M" if sample.male else "F", allow_rejected=True)
    say("measuring both bundles: latency, memory, drift")
    report = run_bench(paths, data, min_queries=30, min_duration_s=2.0)
    report.write(report_path)
    return DemoResult(sample, prediction, report, GATE.check(report), report_path)
