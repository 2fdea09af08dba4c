"""A benchmark over ssh: a real sshd on this machine, a real agent, lost connections."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bakit import agent
from bakit.bench import Gate
from bakit.bench.device import pack, run
from bakit.bench.device.pack import AgentOptions
from bakit.bench.device.run import bench_host
from bakit.bench.device.ssh import Remote
from bakit.bench.report.document import Report
from bakit.bench.statistics import MIN_TURNS
from bakit.bench.stream import Limit
from bakit.cli import main
from bakit.errors import InputError
from tests.test_gate import NO_AGES

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
QUICK = {
    "min_queries": 5,
    "min_duration_s": 0,
    "warm_up": 1,
    "threads": 1,
    "options": AgentOptions(warm_up_s=0, energy_s=0),
}


class Sshd:
    """A server of this test's own; commands run with another home."""

    def __init__(self, folder: Path) -> None:
        self.home, self.folder = folder / "home", folder
        self.home.mkdir()
        for name in ("host", "key", "stranger"):
            words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(words, check=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        shutil.copy(folder / "key.pub", folder / "authorized")
        (folder / "run.sh").write_text(
            f"#!/bin/sh\ncd {self.home} && export HOME={self.home} && "
            'eval "$SSH_ORIGINAL_COMMAND"\n'
        )
        (folder / "run.sh").chmod(0o755)
        (folder / "config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\n"
            f"AuthorizedKeysFile {folder}/authorized\nStrictModes no\nPidFile none\n"
            f"ForceCommand {folder}/run.sh\nPasswordAuthentication no\n"
            "KbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )
        public = (folder / "host.pub").read_text()
        (folder / "known").write_text(f"[127.0.0.1]:{self.port} {public}")
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        self.process = subprocess.Popen(
            [SSHD, "-D", "-e", "-f", folder / "config"], stderr=subprocess.DEVNULL
        )
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.1)
        pytest.skip("sshd does not start here")

    def remote(self, key: str = "key", known: str = "known") -> Remote:
        options = (f"UserKnownHostsFile={self.folder / known}", "IdentityAgent=none")
        return Remote(f"{getpass.getuser()}@127.0.0.1", self.port, self.folder / key, options)

    def left(self) -> list[str]:
        """Return what lies in the device's home."""
        return sorted(str(p.relative_to(self.home)) for p in self.home.rglob("*") if p.is_file())

    def sessions(self) -> list[int]:
        """Return the processes that serve connections."""
        asked = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(self.process.pid)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return [int(word) for word in asked.stdout.split()]


@pytest.fixture(scope="module")
def sshd(tmp_path_factory):
    if not (Path(SSHD).exists() and shutil.which("ssh-keygen") and shutil.which("ssh")):
        pytest.skip("no OpenSSH here")
    server = Sshd(tmp_path_factory.mktemp("sshd"))
    yield server
    server.process.terminate()
    server.process.wait()


def bench(sshd, bundle, labelled=None, **how):
    data = {} if labelled is None else {"data": labelled.folder, "reference": bundle}
    how = {"python": sys.executable, **QUICK, **data, **how}
    return bench_host(sshd.remote(), [bundle], **how)


def test_the_report_is_like_any_other(sshd, exported, labelled):
    stages = []
    report = bench(
        sshd, exported("onnx", "fp32"), labelled, on_progress=lambda *told: stages.append(told)
    )
    assert msgspec.json.decode(report.encode(), type=Report) == report
    (bundle,) = report.bundles
    assert bundle.error is None
    assert bundle.latency.queries >= 5
    assert len(bundle.latency.samples_ns()) == bundle.latency.queries
    assert bundle.drift.samples == len(labelled.samples)
    assert bundle.drift.max_abs_change_months < 1e-3, "the same model on the same machine"
    assert bundle.drift.groups or len(labelled.samples) < 30
    assert bundle.device.golden_change_months < 0.05
    assert {"connect", "prepare", "copy"} <= {stage for stage, _, _ in stages}
    assert sshd.left() == [], "nothing is left on the device"


def test_bundles_take_turns_on_the_device_and_the_gate_decides_on_their_ratio(
    sshd, exported, monkeypatch
):
    monkeypatch.setattr(pack, "TURNS", MIN_TURNS)  # each opens the bundle again
    pair = [exported("onnx", "fp32"), exported("onnx", "int8")]
    how = {"python": sys.executable, **QUICK, "min_queries": 5 * MIN_TURNS}
    stages = []
    report = bench_host(sshd.remote(), pair, on_progress=lambda *told: stages.append(told), **how)
    for bundle in report.bundles:
        assert bundle.error is None
        assert bundle.latency.turns == (5,) * MIN_TURNS
        assert bundle.latency.queries == len(bundle.latency.samples_ns()) == 5 * MIN_TURNS
        assert bundle.latency.warm_up == MIN_TURNS
    assert all(0 <= done <= total for _, done, total in stages)
    reference = pair[0].name
    gate = Gate(max_p90_ratio=1000, ratio_to=reference, **NO_AGES)
    (verdict,) = [v for v in gate.check(report).bundles if v.name != reference]
    (check,) = verdict.checks
    assert (check.limit, check.outcome) == ("max_p90_ratio", "pass")
    assert check.upper is not None
    slow = Gate(max_p90_ratio=0.001, ratio_to=reference, **NO_AGES).check(report)
    assert slow.outcome == "fail"
    # An older bakit measured one bundle after the other.
    old = [
        msgspec.structs.replace(b, latency=msgspec.structs.replace(b.latency, turns=()))
        for b in report.bundles
    ]
    result = gate.check(msgspec.structs.replace(report, bundles=tuple(old)))
    assert result.outcome == "unsteady"
    assert "one after the other on the device" in result.failures[0]


def test_the_work_folder_stays_where_it_is_asked_to(sshd, exported):
    bench(sshd, exported("onnx", "fp32"), keep=True)
    assert any(name.endswith("raw.json") for name in sshd.left())
    jobs = sshd.home / ".cache/bakit/jobs"
    for path in (jobs, *jobs.rglob("*")):
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path
        assert path.stat().st_uid == os.geteuid()
    shutil.rmtree(sshd.home / ".cache")


def test_an_interrupted_connection_is_taken_up_again(sshd, exported, labelled):
    """Every connection is cut while the agent measures; the agent does not notice."""
    cut = []

    def on_progress(stage, done, total):
        if stage == "latency" and len(cut) < 2:
            cut.append(done)
            for process in sshd.sessions():
                os.kill(process, signal.SIGKILL)

    report = bench(sshd, exported("onnx", "fp32"), min_duration_s=3, on_progress=on_progress)
    assert cut
    assert report.bundles[0].latency.duration_s >= 3
    assert sshd.left() == []


def test_an_interrupt_here_ends_it_there(sshd, exported):
    def on_progress(stage, done, total):
        if stage == "latency":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench(sshd, exported("onnx", "fp32"), min_queries=10**6, on_progress=on_progress)
    assert sshd.left() == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"key": "stranger"}, "Permission denied.*ssh-copy-id"),
        ({"known": "nobody"}, "Host key verification failed.*check its key"),
    ],
)
def test_a_refused_connection_says_what_to_do(sshd, exported, change, said):
    with pytest.raises(InputError, match=said):
        bench_host(sshd.remote(**change), [exported("onnx", "fp32")], **QUICK)


def test_a_closed_port(exported):
    with pytest.raises(InputError, match=r"Connection refused; start sshd"):
        bench_host(Remote("127.0.0.1", 1), [exported("onnx", "fp32")], **QUICK)


def test_a_login_shell_that_talks(sshd, exported, monkeypatch):
    """A banner before every answer, a line after it, warnings on stderr: a real connection."""
    script = sshd.folder / "run.sh"
    text = script.read_text()
    talking = text.replace("eval", "echo Welcome; echo warning >&2; eval") + "code=$?\necho bye\n"
    script.write_text(talking + "exit $code\n")
    try:
        assert bench(sshd, exported("onnx", "fp32")).bundles[0].error is None
    finally:
        script.write_text(text)
    assert sshd.left() == []


def test_a_device_that_hangs_is_given_up(sshd, exported, monkeypatch):
    script = sshd.folder / "run.sh"
    text = script.read_text()
    monkeypatch.setattr(run, "INFO", Limit(seconds=2))
    script.write_text(
        text.replace("eval", "case $SSH_ORIGINAL_COMMAND in *info) sleep 60;; esac; eval")
    )
    try:
        with pytest.raises(InputError, match=r"agent.py info: was not done after 2 seconds"):
            bench(sshd, exported("onnx", "fp32"))
    finally:
        script.write_text(text)
    assert sshd.left() == []


def test_a_python_that_is_not_there(sshd, exported):
    with pytest.raises(InputError, match="nowhere/python"):
        bench(sshd, exported("onnx", "fp32"), python="/nowhere/python")
    assert sshd.left() == []


def test_a_device_without_tensorrt_is_refused_before_anything_is_copied(sshd, exported):
    stages = []
    with pytest.raises(InputError, match="tensorrt cannot run here: tensorrt or trtexec"):
        bench(sshd, exported("tensorrt", "fp16"), on_progress=lambda *told: stages.append(told))
    assert "copy" not in {stage for stage, _, _ in stages}
    assert sshd.left() == []


def test_a_full_device_is_said(sshd, exported, monkeypatch):
    def full(_manifest, info, *_):
        info["free_mb"] = 1

    monkeypatch.setattr(agent, "choose_way", full)
    with pytest.raises(InputError, match=r"1 MB are free there.*free some space on the device"):
        bench(sshd, exported("onnx", "fp32"))


def test_the_command(sshd, exported, tmp_path):
    where = sshd.remote()
    words = ["bench", exported("onnx", "fp32").root, "--host", where.host, "--ssh-port", where.port]
    words += ["--identity", where.identity, "--python", sys.executable, "--threads", 1]
    words += [word for option in where.options for word in ("--ssh-option", option)]
    words += ["--queries", 3, "--seconds", 0, "--json", tmp_path / "report.json"]
    words += ["--provider", "azure"]
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    (bundle,) = json.loads((tmp_path / "report.json").read_text())["bundles"]
    assert bundle["device"] is not None
    assert bundle["provider"].endswith("AzureExecutionProvider took no node")
    assert [item["unit"] for item in bundle["executed"]] == ["CPUExecutionProvider"]


def test_options_without_a_device(refused, exported):
    line = refused("bench", exported("onnx", "fp32").root, "--keep")
    assert "--keep needs --host" in line
