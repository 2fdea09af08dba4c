"""The evidence kit: written here, run on a board, read here."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from bakit import agent
from bakit.bench.device.evidence import NONE_YET, read_evidence, rows, table
from bakit.cli import main
from bakit.errors import InputError

ROOT = Path(__file__).parents[1]


def make_kit(folder, *bundles):
    words = [str(bundle.root) for bundle in bundles]
    words += ["--kit", str(folder / "kit.tar.gz"), "--queries", "3", "--seconds", "0"]
    done = CliRunner().invoke(main, ["bench", *words])
    assert done.exit_code == 0, done.output
    with tarfile.open(folder / "kit.tar.gz") as archive:
        archive.extractall(folder, filter="data")
    job = folder / "bakit-kit" / "job.json"
    settings = json.loads(job.read_text())
    settings["settings"] |= {"warm_up_s": 0, "energy_s": 0, "cache": str(folder / "engines")}
    job.write_text(json.dumps(settings))


def run_kit(folder):
    """Run a kit as its page says; return the evidence."""
    done = subprocess.run(
        [sys.executable, "bakit-kit/agent.py", "evidence"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    (file,) = folder.glob("evidence-*.json.gz")
    assert f"written: {file}; send this file" in done.stderr
    return file, done.returncode


def test_a_kit_on_a_board(exported, tensorrt_double, tmp_path):
    """On a stand-in of TensorRT 8.6: every build, with and without TF32."""
    tensorrt_double("8.6.1")
    make_kit(tmp_path, exported("tensorrt", "fp32"), exported("tensorrt", "int8"))
    file, status = run_kit(tmp_path)
    assert status == 0
    evidence = read_evidence(file)
    steps = {step.step: step for step in evidence.steps}
    assert {name: step.error for name, step in steps.items() if step.error} == {}
    built = steps["build:1:1"].found
    assert built["path"] == "regressor-qdq-depthwise.onnx"
    assert json.loads(built["inspector"])["Layers"]
    assert built["board"]["build_s"] > 0 < built["engine_mb"]
    assert file.stat().st_mode & 0o777 == 0o644, "it may have been written by root"
    assert {"system", "measure:0", "build:0:0", "tf32:0:0", "onnxruntime:0"} <= set(steps)
    assert {"measure:1", "build:1:0", "build:1:1"} <= set(steps)
    assert "proc/meminfo" in " ".join(steps["system"].found["files"])
    names = {row.engine for row in rows(evidence)}
    assert "TensorRT 8.6.1 int8 of regressor-qdq.onnx" in names
    assert "TensorRT 8.6.1 int8 of regressor-qdq-depthwise.onnx" in names
    assert "TensorRT 8.6.1 fp32 of regressor.onnx, TF32" in names
    printed = CliRunner().invoke(main, ["evidence", str(file)])
    assert printed.exit_code == 0
    assert printed.stdout.splitlines() == table(rows(evidence)).splitlines()


def test_a_machine_without_tensorrt_says_so_in_each_line(exported, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    make_kit(tmp_path, exported("tensorrt", "int8"), exported("onnx", "fp32"))
    file, status = run_kit(tmp_path)
    assert status == 0
    refused, measured = (row for row in rows(read_evidence(file)))
    assert "tensorrt or trtexec is not installed" in refused.problem
    assert (measured.engine, measured.problem) == ("CPUExecutionProvider", "")


def test_a_board_on_which_nothing_runs_still_gives_a_file(exported, tmp_path, monkeypatch):
    """Without NumPy, as on a new system; the file is there after the first step."""
    make_kit(tmp_path, exported("onnx", "fp32"))
    (tmp_path / "numpy.py").write_text("raise ImportError('libopenblas.so.0: cannot open')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    file, status = run_kit(tmp_path)
    assert status == 1
    (row,) = rows(read_evidence(file))
    assert "numpy cannot be imported: ImportError: libopenblas.so.0" in row.problem


@pytest.mark.parametrize("ended", [subprocess.TimeoutExpired("x", 1), KeyboardInterrupt()])
def test_a_step_that_is_ended_takes_its_programs_along(tmp_path, monkeypatch, ended):
    """``trtexec`` would else keep the GPU and its memory."""
    killed = []

    class Process:
        pid = 4711

        def __init__(self, *words, start_new_session, **how):
            assert start_new_session

        def wait(self, limit_s=None):
            if limit_s is not None:
                raise ended

    monkeypatch.setattr(agent.subprocess, "Popen", Process)
    monkeypatch.setattr(agent.os, "killpg", lambda *how: killed.append(how))
    if isinstance(ended, KeyboardInterrupt):
        with pytest.raises(KeyboardInterrupt):
            agent.run_apart(str(tmp_path), "build:0:0", 1)
    else:
        assert "was ended" in agent.run_apart(str(tmp_path), "build:0:0", 1)["error"]
    assert killed == [(4711, agent.signal.SIGKILL)]


def test_a_kit_has_no_radiograph(exported, labelled, refused):
    bundle = exported("onnx", "fp32").root
    line = refused("bench", bundle, "--kit", "kit.tar.gz", "--data", labelled.folder)
    assert "--kit holds no radiographs" in line


def test_what_is_no_kit_is_said(tmp_path):
    with pytest.raises(agent.AgentError, match="not a kit; make one with: bakit bench"):
        agent.gather_evidence(str(tmp_path))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"text",
        gzip.compress(b"{}"),
        gzip.compress(b"[" * 10**5),
        gzip.compress(b"x" * 99)[:-9],
    ],
    ids=["empty", "text", "no fields", "nested", "cut"],  # compressed data holds the time
)
def test_what_is_no_evidence_costs_one_line(data, refused, tmp_path):
    (tmp_path / "file").write_bytes(data)
    assert "file: " in refused("evidence", "file")


def test_a_step_that_no_agent_writes(tmp_path):
    step = {"step": "build:0:0", "seconds": 1, "error": None, "found": {"path": 3}, "log": ""}
    board = {"board": "", "system": "", "gpu": None, "power_mode": None}
    document = {"version": 1, "board": board, "bundles": ["x"], "steps": [step], "seconds": 0}
    document["host"] = {"machine": "aarch64", "cpu": "c", "versions": {}}
    (tmp_path / "file").write_bytes(gzip.compress(json.dumps(document).encode()))
    with pytest.raises(InputError, match="step 'build:0:0' found what no agent writes"):
        rows(read_evidence(tmp_path / "file"))


def test_the_page_is_made_of_the_files_that_are_there():
    assert NONE_YET in (ROOT / "docs/tensorrt.md").read_text(encoding="utf-8")
