"""Runs that are killed, and runs of many processes: the result is that of one plain run."""

import os
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from click.testing import CliRunner

from bakit.cli import main
from bakit.model.checkpoint import Checkpoint
from bakit.phantoms import write_phantoms

EPOCHS = 2


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_phantoms(tmp_path_factory.mktemp("resume") / "data", 40, height=96)


def command(data, out, *options):
    line = [sys.executable, "-m", "bakit", "train", str(data), "--out", str(out)]
    line += ["--recipe", "scratch", "--epochs", str(EPOCHS), "--batch-size", "8", "--no-localize"]
    # A low rate: at the preset's, a few updates turn roundings into per cents.
    line += ["--accelerator", "cpu", "--learning-rate", "0.004", "--head-layers", "1"]
    line += ["--phantoms", "0", "--crops", "2", "--threads", "1", "--image-size", "96"]
    return [*line, *options]


def run(line, status=0):
    """Run a command in this process, which has torch already."""
    done = CliRunner().invoke(main, line[3:])
    assert done.exit_code == status, done.output
    return done


@pytest.fixture(scope="module")
def plain(data, tmp_path_factory):
    out = tmp_path_factory.mktemp("resume") / "plain"
    run(command(data, out))
    return Checkpoint.read(out / "best.safetensors"), out


def test_a_killed_run_goes_on_to_the_same_result(data, plain, tmp_path):
    out = tmp_path / "run"
    process = subprocess.Popen(command(data, out), stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 1200
    while not (out / "state.ckpt").is_file() and time.monotonic() < deadline:
        assert process.poll() is None
        time.sleep(0.01)
    time.sleep(0.05)  # somewhere in the second epoch
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (out / "best.safetensors").is_file()

    run(command(data, out, "--resume"))

    resumed = Checkpoint.read(out / "best.safetensors")
    for name, value in plain[0].regressor.items():
        np.testing.assert_array_equal(value, resumed.regressor[name], err_msg=name)
    assert resumed.header == plain[0].header
    first, second = ((folder / "metrics.csv").read_text() for folder in (plain[1], out))
    # All but the seconds.
    assert [row.rsplit(",", 1)[0] for row in first.splitlines()] == [
        row.rsplit(",", 1)[0] for row in second.splitlines()
    ]


def test_two_processes_learn_what_one_does(data, plain, tmp_path):
    line = command(data, tmp_path / "run", "--devices", "2")
    environment = dict(os.environ, MASTER_ADDR="127.0.0.1")
    done = subprocess.run(
        line, capture_output=True, text=True, timeout=1200, check=False, env=environment
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("best.safetensors") == 1

    def history(folder):
        rows = (folder / "metrics.csv").read_text().splitlines()[1:]
        return np.array([[float(value) for value in row.split(",")[:4]] for row in rows])

    # The same sums in another order: float32 roundings, which the updates of batch norm over so few
    # images amplify. Over each process's own images it would differ by per cents at once.
    two, one = history(tmp_path / "run"), history(plain[1])
    np.testing.assert_allclose(two[0], one[0], rtol=1e-4)
    np.testing.assert_allclose(two, one, rtol=2e-2)
    np.testing.assert_allclose(two[:, 3], one[:, 3], rtol=1e-3)  # validation


def test_a_damaged_state_is_said(data, plain, tmp_path):
    out = shutil.copytree(plain[1], tmp_path / "run")
    (out / "best.safetensors").unlink()
    (out / "state.ckpt").write_bytes(b"broken")
    assert "state.ckpt: damaged" in run(command(data, out, "--resume"), status=2).stderr


def test_an_interrupted_run_says_so_and_leaves_no_part_of_a_file(data, tmp_path, monkeypatch):
    def interrupted(checkpoint, file):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("bakit.training.callbacks.torch.save", interrupted)
    out = tmp_path / "run"
    assert run(command(data, out), status=130).stderr.endswith("bakit: interrupted\n")
    assert (out / "plan.json").is_file()
    assert [
        path.name for path in out.rglob("*") if "state" in path.name or path.name[0] == "."
    ] == []
