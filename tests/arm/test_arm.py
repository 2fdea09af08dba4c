"""Bundles on an emulated Arm device, against this machine: ``make test-arm``.

``device.sh`` makes the device, once. ``BAKIT_ARM`` is its folder, ``BAKIT_ARM_FILMS`` the number of
radiographs (20), ``BAKIT_ARM_CORES`` the cores. Every film takes seconds under emulation; its times
mean nothing. A run that was ended is continued: bundles and ages of a checkpoint are kept beside
the device, for ``compare.py``. Remove its folder ``ages`` to begin anew.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from bakit.bench.device.evidence import read_evidence, rows
from bakit.cli import main
from bakit.export import export_bundle
from bakit.files import sha256
from bakit.model.checkpoint import SHIPPED, Checkpoint
from bakit.types import Precision
from tests.arm.compare import compare, read_ages

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "tests/arm/device.sh"
FILMS = ROOT.parent / "shared/data/official_test"
CORES = os.environ.get("BAKIT_ARM_CORES", "cortex-a57 cortex-a72 max").split()
LIMIT = os.environ.get("BAKIT_ARM_FILMS", "20")
PRECISIONS = (Precision.FP32, Precision.INT8)
DIGEST = sha256(SHIPPED.read_bytes())[:12]

if "BAKIT_ARM" not in os.environ:
    pytest.skip("the emulated Arm device is slow", allow_module_level=True)
if not FILMS.is_dir():
    pytest.skip("no radiographs here", allow_module_level=True)


@pytest.fixture(scope="session")
def device():
    """Return the folder of the device, with bakit, films and bundles inside."""
    folder = Path(os.environ["BAKIT_ARM"]).resolve()
    if not (folder / "made").exists():
        subprocess.run([SCRIPT, "make", folder], check=True)
    place = folder / "root/opt/bakit"
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(ROOT / "bakit", place / "bakit")  # export, bench and calib are links in it
    shutil.copy(ROOT / "tests/arm/ages.py", place)
    shutil.copytree(FILMS, place / "films")
    yield folder
    subprocess.run([SCRIPT, "stop", folder], check=True)


@pytest.fixture(scope="session")
def bundles(device):
    """Return the shipped model's bundles by target; they are inside the device."""

    def make(target):
        made = [device / f"bundles/{DIGEST}/{target}-{precision.value}" for precision in PRECISIONS]
        for precision, root in zip(PRECISIONS, made, strict=True):
            if not root.exists():
                checkpoint = Checkpoint.read(SHIPPED)
                export_bundle(checkpoint, target, precision, root, whole=True)
        inside = device / "root/opt/bundles"
        shutil.rmtree(inside, ignore_errors=True)
        shutil.copytree(device / "bundles" / DIGEST, inside)
        return made

    return make


def predict(words, out, command, environment):
    """Continue a run of ``ages.py``; return the ages by film and bundle."""
    with out.open("a") as file:
        subprocess.run([*command, *words], stdout=file, env=environment, check=True)
    return read_ages(out)


# LiteRT and OpenVINO crash under qemu 7.2 (docs/arm.md).
@pytest.mark.parametrize("how", ["onnx", "onnx --whole"])
@pytest.mark.parametrize("core", CORES)
def test_ages_on_arm_are_those_of_x86(device, bundles, core, how):
    target, *whole = how.split()
    names = [path.name for path in bundles(target)]
    ends = [*whole, "--limit", LIMIT]
    file = device / f"ages/{DIGEST}/{how.replace(' ', '')}-{core}.jsonl"
    file.parent.mkdir(parents=True, exist_ok=True)
    here = [FILMS, *(device / "bundles" / DIGEST / name for name in names), *ends]
    out = file.with_name(f"{how.replace(' ', '')}-x86.jsonl")
    command = [sys.executable, ROOT / "tests/arm/ages.py", "--skip", out]
    expected = predict(here, out, command, {**os.environ, "PYTHONPATH": str(ROOT)})
    inside = ["films", *(f"/opt/bundles/{name}" for name in names), *ends]
    earlier = device / "root/opt/bakit/earlier.jsonl"
    earlier.write_text(file.read_text() if file.exists() else "")
    line = "cd /opt/bakit && exec python3 ages.py --skip earlier.jsonl " + shlex.join(inside)
    command = [SCRIPT, "run", device, "env", "OMP_NUM_THREADS=1", "sh", "-c", line]
    found = predict([], file, command, {**os.environ, "QEMU_CPU": core})
    row = compare(found, expected, FILMS)
    assert row.films == int(LIMIT)
    assert row.fp32_largest <= 0.01
    assert row.int8_mean <= 1.5
    assert abs(row.drift) <= 1.5


@pytest.fixture
def connection(device):
    """Return the options that reach the device over ssh."""
    done = subprocess.run(
        [SCRIPT, "start", device, "2222"], capture_output=True, text=True, check=True
    )
    return shlex.split(done.stdout)


def test_a_benchmark_over_ssh(connection, bundles, tmp_path):
    report = tmp_path / "arm.json"
    words = ["bench", *map(str, bundles("onnx")), *connection, "--data", str(FILMS), "--limit", "2"]
    words += ["--queries", "6", "--seconds", "0", "--json", str(report)]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    document = json.loads(report.read_text())
    assert document["host"]["machine"] == "aarch64"
    assert all(bundle["error"] is None for bundle in document["bundles"])


def test_evidence_of_an_arm_machine(device, bundles, tmp_path):
    kit = tmp_path / "kit.tar.gz"
    words = ["bench", *map(str, bundles("onnx")), "--kit", str(kit)]
    done = CliRunner().invoke(main, [*words, "--queries", "5", "--seconds", "0"])
    assert done.exit_code == 0, done.output
    home = device / "root/home/edge/kit"
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir()
    shutil.unpack_archive(kit, home, filter="data")
    line = "cd /home/edge/kit && HOME=/home/edge python3 bakit-kit/agent.py evidence"
    subprocess.run([SCRIPT, "run", device, "sh", "-c", line], check=True)
    (file,) = home.glob("evidence-*.json.gz")
    found = rows(read_evidence(file))
    assert {row.problem for row in found} == {""}
    assert {row.board.partition(",")[0] for row in found} == {"aarch64"}
