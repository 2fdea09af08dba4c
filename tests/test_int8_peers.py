"""The comparison with other tools' INT8: one short run from phantoms to the table."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bakit.data.labels import read_samples
from bakit.data.splits import split, split_record
from bakit.model.checkpoint import TrainingRecord
from tests.conftest import GOLDENS

if TYPE_CHECKING:
    from bakit.model.checkpoint import Checkpoint
    from tests.conftest import Labelled

SCRIPT = Path(__file__).parent / "benchmarks" / "int8_peers.py"
# What is not there is skipped with a line; so is nncf here, which would take minutes. The bundles
# have few golden images, to be written sooner.
RUN = f"""
import runpy, sys
import bakit.export.bundle
sys.modules["nncf"] = None
bakit.export.bundle.GOLDENS = {GOLDENS}
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def _run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", RUN, SCRIPT, *arguments]
    return subprocess.run([str(part) for part in command], capture_output=True, text=True)


def test_a_run_prints_a_row_for_every_recipe(
    labelled: Labelled, checkpoint: Checkpoint, tmp_path: Path
) -> None:
    pytest.importorskip("openvino")
    parts = split(read_samples(labelled.folder))
    record = TrainingRecord("phantoms", "none", {}, split_record(parts, 0, ()), {}, 1, {})
    trained = checkpoint.with_header(training=record).write(tmp_path / "trained.safetensors")
    out = tmp_path / "peers.json"
    options = ("--samples", "4", "--rounds", "1", "--limit", "1", "--json", out)
    done = _run(labelled.folder, "--checkpoint", trained.path, *options)
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    rows = {(row["recipe"], row["library"]): row for row in report["models"]}
    assert list(rows) == [
        ("float", "ONNX Runtime"),
        ("quantize_static, defaults", "ONNX Runtime"),
        ("quantize_static, per_channel", "ONNX Runtime"),
        ("quantize_static, per_channel, reduce_range", "ONNX Runtime"),
        ("float", "OpenVINO"),
    ]
    assert rows["float", "ONNX Runtime"]["times_float"] == 1
    assert rows["float", "OpenVINO"]["mean_abs_change_months"] < 0.01
    assert rows["quantize_static, defaults", "ONNX Runtime"]["mean_abs_change_months"] > 0
    lines = done.stdout.splitlines()
    table = [line for line in lines if line.startswith("|")]
    assert len(table) == 2 + len(rows)
    assert {line.count("|") for line in table} == {table[0].count("|")}
    assert "INT8 features" in done.stdout
    assert lines[-1] == "Without nncf.quantize: pip install nncf"


def test_other_images_than_those_of_the_training_are_refused(
    labelled: Labelled, checkpoint: Checkpoint
) -> None:
    done = _run(labelled.folder, "--checkpoint", checkpoint.path)
    assert done.returncode == 2
    assert "not the folder that tiny was trained on" in done.stderr
