"""A command that is ended by a signal leaves nothing behind and says so in its exit status."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def default_signals():
    """Undo what a background job inherits: shells ignore SIGINT there, and nohup SIGHUP."""
    for number in (signal.SIGHUP, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)


def start(folder, *words, preexec_fn=default_signals):
    command = [sys.executable, "-m", "bakit", *map(str, words)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=preexec_fn,
    )


def wait_for_work(folder):
    """Wait until the command has begun to write."""
    until = time.monotonic() + 600
    while not any(folder.iterdir()):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGINT", 130)])
def test_a_signal_ends_a_command_cleanly(tmp_path, name, status):
    process = start(tmp_path, "phantoms", "--out", "radiographs", "-n", 5000, "--height", 320)
    wait_for_work(tmp_path)
    process.send_signal(getattr(signal, name))
    try:
        _, error = process.communicate(timeout=600)
    finally:
        process.kill()
    assert (process.returncode, error) == (status, "bakit: interrupted\n")
    assert list(tmp_path.iterdir()) == []


def test_nohup_is_respected(tmp_path):
    process = start(
        tmp_path, "phantoms", "--out", "radiographs", "-n", 8, "--height", 320,
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN),
    )  # fmt: skip
    wait_for_work(tmp_path)
    process.send_signal(signal.SIGHUP)
    process.communicate(timeout=600)
    assert process.returncode == 0
    assert len(list((tmp_path / "radiographs" / "images").iterdir())) == 8
