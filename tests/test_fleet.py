"""Several devices at once: two sshd of this machine, and the machine itself."""

from __future__ import annotations

import functools
import getpass
import json
import shutil
import sys
from pathlib import Path

import msgspec
import pytest
from click.testing import CliRunner

from bakit.bench import fleet as module
from bakit.bench.device.pack import AgentOptions
from bakit.bench.fleet import bench_fleet, read_targets
from bakit.bench.gate.check import Gate
from bakit.bench.gate.fleet import check_fleet
from bakit.bench.report.document import Report, read_report
from bakit.bench.report.fleet import Fleet, FleetDevice, read_fleet, read_report_or_fleet
from bakit.cli import main
from bakit.errors import InputError
from tests.test_gate import NO_AGES
from tests.test_remote import SSHD, Sshd

HOW = {"min_queries": 3, "min_duration_s": 0, "threads": 1}


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    if not (Path(SSHD).exists() and shutil.which("ssh-keygen") and shutil.which("ssh")):
        pytest.skip("no OpenSSH here")
    both = [Sshd(tmp_path_factory.mktemp("sshd")) for _ in range(2)]
    yield both
    for server in both:
        server.process.terminate()
        server.process.wait()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    options = functools.partial(AgentOptions, warm_up_s=0, energy_s=0)
    monkeypatch.setattr(module, "AgentOptions", options)


def table(name, bundle, server=None, **more):
    """Return a device's table as TOML."""
    fields = {"host": "this machine", "bundles": [str(bundle.root)]}
    if server is not None:
        remote = server.remote()
        fields |= {"host": remote.host, "port": remote.port, "identity": str(remote.identity)}
        fields |= {"ssh_options": list(remote.options), "python": sys.executable}
    lines = [f"{key} = {json.dumps(value)}" for key, value in (fields | more).items()]
    return "\n".join([f"[device.{name}]", *lines, ""])


def run(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_one_report_of_two_devices_and_this_machine(servers, exported, tmp_path):
    """One device cannot be reached at first; only it is measured again."""
    bundle = exported("onnx", "fp32")
    file, out = tmp_path / "devices.toml", tmp_path / "fleet.json"
    tables = [table("a", bundle, servers[0]), table("here", bundle)]
    file.write_text("".join([*tables, table("b", bundle, servers[1], port=1)]))
    words = ["bench", "--fleet", file, "--json", out, "--queries", 3, "--seconds", 0]
    words += ["--threads", 1, "--md", tmp_path / "fleet.md"]
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert f"failed: b: {getpass.getuser()}@127.0.0.1: " in result.output
    assert "Connection refused" in result.output
    assert "--retry-failed --json" in result.output
    assert "a: connect ..." in result.stderr
    first = read_fleet(out)
    assert [device.name for device in first.devices] == ["a", "here", "b"]
    assert [len(device.failures) for device in first.devices] == [0, 0, 1]
    assert "| b | " in (tmp_path / "fleet.md").read_text()
    gated = run("gate", out, "--no-drift", "--max-p90-ms", 1e6)
    assert gated.exit_code == 1, gated.output
    assert f"fail  b/{bundle.name}" in gated.output
    assert f"pass  a/{bundle.name}" in gated.output
    file.write_text("".join([*tables, table("b", bundle, servers[1])]))
    result = run(*words, "--retry-failed")
    assert result.exit_code == 0, result.output
    assert "a: connect" not in result.stderr
    second = read_fleet(out)
    assert second.devices[:2] == first.devices[:2]
    assert second.devices[2].report.bundles[0].device is not None
    assert run("gate", out, "--no-drift", "--max-p90-ms", 1e6).exit_code == 0
    shown = run("report", out)
    assert shown.exit_code == 0
    assert shown.output.count(bundle.name) == 3
    assert [server.left() for server in servers] == [[], []]


def test_ctrl_c_ends_the_devices_and_keeps_what_is_done(servers, exported, tmp_path, monkeypatch):
    bundle = exported("onnx", "fp32")
    file = tmp_path / "devices.toml"
    file.write_text(table("a", bundle, servers[0]) + table("here", bundle))

    def interrupted(waiting):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", interrupted)
    found = bench_fleet(read_targets(file), **{**HOW, "min_queries": 10**7})
    assert found.failures == ["a: the run was interrupted", "here: the run was interrupted"]
    assert servers[0].left() == []


@pytest.fixture(scope="module")
def report(exported):
    """Return a report of one device, without a drift."""
    from bakit.bench.local.run import run_bench

    return run_bench([exported("onnx", "fp32")], **HOW)


def test_the_worst_device_decides(report):
    name = report.bundles[0].name
    slow = msgspec.structs.replace(
        report.bundles[0].latency,
        stages={
            stage: msgspec.structs.replace(times, p90_ms=1e9)
            for stage, times in report.bundles[0].latency.stages.items()
        },
    )
    bad = msgspec.structs.replace(
        report, bundles=(msgspec.structs.replace(report.bundles[0], latency=slow),)
    )
    gate = Gate(max_p90_ms=1e6, **NO_AGES)
    good = FleetDevice("a", {name: "0"}, report)

    def check(*devices, baseline=None, require=()):
        return check_fleet(gate, Fleet(1, devices), baseline, (), ("max_p90_ms",), require)

    assert check(good).passed
    worst = check(good, FleetDevice("b", {name: "0"}, bad))
    assert not worst.passed
    assert [verdict.passed for verdict in worst.bundles] == [True, False]
    assert worst.failures[0].startswith(f"b/{name}: p90 of the total time")
    lost = check(good, FleetDevice("c", {name: "0"}, None, "no route"))
    assert lost.failures[0].startswith(f"c/{name}: it failed: no route")
    missing = check(good, require=[f"d/{name}"])
    assert missing.outcome == "not-measured"
    drifts = Gate()
    with pytest.raises(InputError, match=r"^a: .*drift"):
        check_fleet(drifts, Fleet(1, (good,)), None, (), ("max_drift_months",))


def test_a_device_of_the_baseline_that_is_missing_fails(report):
    name = report.bundles[0].name
    good = FleetDevice("a", {name: "0"}, report)
    gate = Gate(max_p90_ratio=1e6, **NO_AGES)
    both = Fleet(1, (good, msgspec.structs.replace(good, name="b")))
    result = check_fleet(gate, Fleet(1, (good,)), both, (), ())
    assert [verdict.name for verdict in result.bundles] == [f"a/{name}", "b"]
    assert [verdict.passed for verdict in result.bundles] == [True, False]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[device.a\n", "devices.toml: no device file ("),
        ("", "devices.toml: no device; write [device.NAME]"),
        ("[devices.a]\n", "devices.toml: unknown name 'devices'"),
        ("device = 3\n", "devices.toml: no device; write"),
        ("[device.a]\n", "device 'a': Object missing required field `host`"),
        ('[device.a]\nhots = "x"\n', "device 'a': unknown name 'hots'; did you mean 'host'?"),
        ('[device.a]\nhost = "x"\nzzz = 1\n', "device 'a': unknown name 'zzz'; use host, bundles"),
        ('[device.a]\nhost = "x"\nbundles = []\n', "device 'a': Expected `array` of length >= 1"),
        ('[device.a]\nhost = "x"\nbundles = "b"\n', "device 'a': Expected `array`, got `str`"),
        ('[device.a]\nhost = "-x"\nbundles = ["b"]\n', "device 'a': host '-x' is no host"),
        ('[device.a]\nhost = "x"\nbundles = ["b"]\nport = 0\n', "device 'a': Expected `int` >= 1"),
        ('[device.a]\nhost = "x"\nbundles = ["b"]\nengine = "x"\n', "device 'a': Invalid enum"),
        ('[device.a]\nhost = "x"\nbundles = ["nothing"]\n', "nothing"),
        ("\xff", "devices.toml: no device file ("),
    ],
)
def test_a_wrong_device_file_is_one_line(refused, tmp_path, text, said):
    (tmp_path / "devices.toml").write_bytes(text.encode("latin-1"))
    assert said in refused("bench", "--fleet", "devices.toml", "--json", "fleet.json")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--json", "x.json", "BUNDLE"], "--fleet does not support BUNDLE"),
        (["--json", "x.json", "--host", "a@b"], "--fleet does not support --host"),
        (["--json", "x.json", "--html", "x.html"], "--fleet does not support --html"),
        (["--json", "x.json", "--threads", "1,2"], "several numbers for --threads"),
        ([], "--fleet needs --json FILE"),
        (["--json", "-"], "--fleet needs --json FILE"),
        (["--json", "x.json"], "devices.toml: no device file (No such file or directory)"),
    ],
)
def test_wrong_options(refused, words, said):
    assert said in refused("bench", "--fleet", "devices.toml", *words)


def test_retry_needs_a_fleet_and_a_report(refused, tmp_path, exported):
    assert "--retry-failed needs --fleet" in refused("bench", "--retry-failed")
    file = tmp_path / "devices.toml"
    file.write_text(table("a", exported("onnx", "fp32")))
    words = ["bench", "--fleet", file, "--json", tmp_path / "x.json", "--retry-failed"]
    assert "the report of the fleet cannot be read (No such file" in refused(*words)


def test_reports_of_a_fleet_and_of_one_device_are_told_apart(
    report, tmp_path, refused
):
    one, many = tmp_path / "one.json", tmp_path / "many.json"
    report.write(one)
    Fleet(1, (FleetDevice("a", {"x": "0"}, report),)).write(many)
    assert isinstance(read_report_or_fleet(one), Report)
    assert isinstance(read_report_or_fleet(many), Fleet)
    assert "has no HTML page; use --md" in refused("report", many, "--html", "x.html")
    assert "one is of a fleet, the other of one device" in refused("gate", many, "--baseline", one)
    with pytest.raises(InputError, match="not a report of bakit bench"):
        read_report(many)
    assert "cannot be read" in refused("gate", "nothing.json")
