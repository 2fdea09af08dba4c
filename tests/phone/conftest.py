"""A phone without a browser: what starts a run, and a client that says what a page would say."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import ssl
import stat
import subprocess
import threading
from pathlib import Path
from typing import NamedTuple

import pytest

from bakit.bench.phone import web
from bakit.bench.phone.listener import PhoneOptions
from bakit.bench.phone.run import run_phone
from bakit.errors import MissingProgramError

DEVICE = {
    "user_agent": "Mozilla/5.0 (Linux; Android 10; K) Chrome/140.0.0.0 Mobile Safari/537.36",
    "brands": "Google Chrome 140.0.1",
    "model": "Pixel 9",
    "system": "Android 16",
    "logical_cores": 8,
    "isolated": True,
    "timer_step_ms": 0.005,
}


@pytest.fixture(scope="module")
def installed(request):
    """The folder with node_modules: what is there, or what npm installs into pytest's cache."""
    try:
        return web.find_runtime().parents[2]
    except MissingProgramError:
        pass
    folder = Path(request.config.cache.mkdir("onnxruntime-web"))
    if not (folder / "node_modules").is_dir():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("npm is not installed")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(web.PAGE / name, folder)
        command = [npm, "ci", "--ignore-scripts", "--prefix", folder]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
        if done.returncode:
            pytest.skip(f"npm installed nothing: {done.stderr.strip()[-200:]}")
    return folder


@pytest.fixture
def runtime_folder(tmp_path, monkeypatch):
    """Files named like onnxruntime-web's: nothing runs them here."""
    dist = tmp_path / "web/node_modules/onnxruntime-web/dist"
    dist.mkdir(parents=True)
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        (dist / name).write_bytes(name.encode())
    package = {"version": web.wanted_version()}
    (dist.parent / "package.json").write_text(json.dumps(package), encoding="utf-8")
    monkeypatch.setenv(web.VARIABLE, str(tmp_path / "web"))
    return tmp_path / "web"


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A browser's part of the conversation, without a browser."""

    device = DEVICE

    def __init__(self, url, tls=False):
        self.token = url.rstrip("/").rpartition("/")[2]
        self.port = int(url.rpartition("://")[2].partition("/")[0].rpartition(":")[2])
        self.context = ssl._create_unverified_context() if tls else None
        self.cookie = ""
        self.sequence = 0

    def ask(self, method, name, body=None, headers=None, token=None):
        if self.context:
            connection = http.client.HTTPSConnection(
                "127.0.0.1", self.port, timeout=300, context=self.context
            )
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=300)
        sent = {"Cookie": self.cookie} if self.cookie else {}
        path = f"/{self.token if token is None else token}/{name}"
        connection.request(method, path, body, {**sent, **(headers or {})})
        response = connection.getresponse()
        answer = Answer(response.status, dict(response.getheaders()), response.read())
        connection.close()
        return answer

    def get(self, name, **more):
        return self.ask("GET", name, **more)

    def start(self, device=DEVICE):
        answer = self.ask("POST", "start", json.dumps(device))
        if answer.status == 200:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
            self.plan = json.loads(answer.body)
            self.sequence = 0
        return answer

    def say(self, kind, sequence=None, run=None, **values):
        number = self.sequence if sequence is None else sequence
        post = {
            "run": run or self.plan["run"],
            "sequence": number,
            "message": {"type": kind, **values},
        }
        answer = self.ask("POST", "report", json.dumps(post))
        if answer.status == 204 and sequence is None:
            self.sequence += 1
        return answer

    def end(self):
        """End a run whose report is of no interest."""
        self.say("failed", message="the test is over")

    def measure(self, index, change=0.0, golden_change=0.0):
        """Say all that a phone says of a bundle, with ages that differ from the float model's."""
        plan = self.plan["bundles"][index]
        assert self.say("loaded", bundle=index, load_ms=80, first_ms=30).status == 204
        ages = [age + golden_change for age in plan["golden_months"]]
        differences = [1e-6] * len(ages)
        said = self.say("golden", bundle=index, ages_months=ages, localizer_difference=differences)
        assert said.status == 204
        times = {"localize_ms": [2.0, 4.0], "regress_ms": [10.0, 20.0], "runs_per_sample": 1}
        assert self.say("latency", bundle=index, **times).status == 204
        ages = [age + change for age in plan["float_months"]]
        assert self.say("ages", bundle=index, start=0, ages_months=ages).status == 204


class Run:
    """``run_phone`` in a thread: it waits for a client, which is the test."""

    def __init__(
        self,
        bundles,
        wait_s=300.0,
        idle_s=300.0,
        adb=True,
        provider="wasm",
        benchmark_binary=(),
        **more,
    ):
        self._ready = threading.Event()
        self._page = None
        self._outcome = None
        waits = {"wait_s": wait_s, "idle_s": idle_s}
        options = PhoneOptions(provider, adb=adb, benchmark_binary=benchmark_binary, **waits)
        how = {"limit": 2, "min_queries": 2, "min_duration_s": 0, "warm_up": 1, **more}

        def work():
            try:
                self._outcome = run_phone(bundles, options=options, on_address=self._opened, **how)
            except BaseException as error:
                self._outcome = error
            self._ready.set()

        self._thread = threading.Thread(target=work)
        self._thread.start()

    def _opened(self, page):
        self._page = page
        self._ready.set()

    def page(self):
        assert self._ready.wait(300)
        assert self._page, self._outcome
        return self._page

    def client(self, **more):
        return Client(self.page().url, **more)

    def result(self):
        self._thread.join(600)
        assert not self._thread.is_alive()
        if isinstance(self._outcome, BaseException):
            raise self._outcome
        return self._outcome


@pytest.fixture
def bundles(exported):
    return [exported("onnx", "fp32"), exported("onnx", "int8")]


@pytest.fixture
def adb(tmp_path, monkeypatch):
    """A program called adb that writes down what it is asked for."""
    folder, log = tmp_path / "platform-tools", tmp_path / "adb.log"
    folder.mkdir()
    program = folder / "adb"
    program.write_text(f'#!/bin/sh\necho "$@" >> {log}\n', encoding="utf-8")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return log


@pytest.fixture
def start(runtime_folder, adb, begin):
    """Return what starts a run for a client that is no browser."""
    return begin


@pytest.fixture
def connect():
    """Return what makes a client for an address."""
    return Client


@pytest.fixture
def begin():
    """Return what starts a run; one that a failed test left is waited for."""
    runs = []

    def run(*arguments, **more):
        runs.append(Run(*arguments, **more))
        return runs[-1]

    yield run
    for started in runs:
        started._thread.join(600)
