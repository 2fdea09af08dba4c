"""A command that is ended by a signal leaves nothing behind and says so in its exit status."""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import weakref

import pytest

from bakit.cli.interrupts import interrupts
from bakit.data.parallel import in_processes
from bakit.processes import spawning

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")


def start(folder, *words, preexec_fn=None):
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


STOPS = ["SIGINT", "SIGTERM", "SIGHUP"]


def stop(name):
    os.kill(os.getpid(), getattr(signal, name))


def received_in(action):
    """Return the signals that end an action and the wait after it."""
    try:
        with interrupts() as received:
            action()
            time.sleep(60)
    except KeyboardInterrupt:
        return [signal.Signals(number).name for number in received]
    return []


@pytest.mark.parametrize("name", STOPS)
def test_a_signal_while_processes_are_started_is_not_lost(name):
    def action():
        with spawning():
            stop(name)

    assert received_in(action) == [name]


def test_a_signal_waits_until_a_process_has_started(monkeypatch):
    context, started = multiprocessing.get_context("spawn"), []
    popen = context.Process._Popen

    def slow(process):
        stop("SIGTERM")
        started.append(popen(process))
        return started[0]

    monkeypatch.setattr(context.Process, "_Popen", staticmethod(slow))
    assert received_in(lambda: context.Process(target=blocked, args=(0,)).start()) == ["SIGTERM"]
    assert started[0].wait() == 0


def stop_itself(name):
    sys.exit(received_in(lambda: stop(name)) != [name])


# Other threads are left out of the process, which needs none.
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("name", STOPS)
def test_a_signal_ends_a_command_in_a_forked_process(name):
    """Its outer frames are those of the process that forked it: they start nothing here."""
    process = multiprocessing.get_context("fork").Process(target=stop_itself, args=(name,))
    process.start()
    process.join()
    assert process.exitcode == 0


def stop_parent(_):
    os.kill(os.getppid(), signal.SIGHUP)
    time.sleep(0.2)


def test_a_signal_ends_work_in_processes():
    ended = received_in(lambda: list(in_processes(stop_parent, range(8), 2, chunk=1)))
    assert ended[0] == "SIGHUP"


def blocked(_):
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_signals_wait_neither_in_processes_nor_after_their_start():
    assert list(in_processes(blocked, range(2), 2, chunk=1)) == [set(), set()]
    assert blocked(None) == set()


class Thing:
    """Something to which a weak reference can be made."""


@pytest.mark.parametrize("name", STOPS)
def test_a_signal_in_a_callback_whose_errors_python_drops_is_not_lost(name):
    def action():
        thing = Thing()
        references.append(weakref.ref(thing, lambda _: stop(name)))

    references = []
    assert received_in(action) == [name]
    assert references[0]() is None


def test_a_closed_terminal_sends_its_signal_twice_and_cleaning_up_goes_on():
    done = []

    def action():
        try:
            stop("SIGHUP")
            time.sleep(60)
        finally:
            stop("SIGHUP")
            done.append("cleaned up")

    assert received_in(action) == ["SIGHUP", "SIGHUP"]
    assert done


@pytest.mark.parametrize("name", STOPS)
def test_a_signal_waits_for_the_end_of_an_import(name, tmp_path, monkeypatch):
    """Extension modules drop errors while they start: numpy.random lost a signal in this way."""
    module = f"dropper_{name.lower()}"
    (tmp_path / f"{module}.py").write_text(
        "import os, signal\n"
        "try:\n"
        f"    os.kill(os.getpid(), signal.{name})\n"
        "    for index in range(100):\n"
        "        pass\n"
        "except KeyboardInterrupt:\n"
        "    pass\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert received_in(lambda: importlib.import_module(module)) == [name]
    assert sys.modules[module].whole


def test_a_second_signal_ends_an_import(tmp_path, monkeypatch):
    (tmp_path / "endless_import.py").write_text(
        "import os, signal\nwhile True:\n    os.kill(os.getpid(), signal.SIGINT)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert received_in(lambda: importlib.import_module("endless_import")) == ["SIGINT", "SIGINT"]


def test_a_terminal_that_is_closed_during_an_import_ends_the_command(tmp_path, monkeypatch):
    (tmp_path / "slow_import.py").write_text(
        "import os, signal\n"
        "for _ in range(2):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "whole = True\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    ended = received_in(lambda: importlib.import_module("slow_import"))
    assert (ended, sys.modules["slow_import"].whole) == (["SIGHUP", "SIGHUP"], True)
