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
from bakit.bench.gate.recommend import recommend
from bakit.bench.report.document import read_report
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
    azure = {"provider": "azure"}
    tables = [table("a", bundle, servers[0], **azure), table("here", bundle, **azure)]
    file.write_text("".join([*tables, table("b", bundle, servers[1], port=1)]))
    words = ["bench", "--fleet", file, "--json", out, "--queries", 3, "--seconds", 0]
    words += ["--threads", 1, "--md", tmp_path / "fleet.md"]
    result = run(*words)
    assert result.exit_code == 1, result.output
    assert f"failed: b/{bundle.name}: {getpass.getuser()}@127.0.0.1: " in result.output
    assert "Connection refused" in result.output
    assert "a: connect ..." in result.stderr
    first = read_report(out)
    assert list(first.devices) == ["a", "b", "here"]
    names = [f"{name}/{bundle.name}" for name in ("a", "here", "b")]
    assert [b.name for b in first.bundles] == names
    assert [b.error is None for b in first.bundles] == [True, True, False]
    no_node = "CPUExecutionProvider; AzureExecutionProvider took no node"
    assert [b.provider for b in first.bundles] == [no_node, no_node, ""]
    assert all(b.ran == "100.0 % f32 on CPUExecutionProvider" for b in first.bundles[:2])
    assert names[2] in (tmp_path / "fleet.md").read_text()
    assert "a: By time and size alone, take" in recommend(first).sentence
    gated = run("gate", out, "--no-drift", "--max-p90-ms", 1e6)
    assert gated.exit_code == 1, gated.output
    assert f"fail  {names[2]}" in gated.output
    assert f"pass  {names[0]}" in gated.output
    file.write_text("".join([*tables, table("b", bundle, servers[1])]))
    result = run(*words, "--retry-failed", "--html", tmp_path / "fleet.html")
    assert result.exit_code == 0, result.output
    assert "a: connect" not in result.stderr
    words[words.index("--threads") + 1] = 2
    other = run(*words, "--retry-failed")
    assert "the earlier report is of other images or settings" in other.output
    second = read_report(out)
    assert second.bundles[:2] == first.bundles[:2]
    assert second.bundles[2].device is not None
    assert run("gate", out, "--no-drift", "--max-p90-ms", 1e6).exit_code == 0
    assert all(name in (tmp_path / "fleet.html").read_text() for name in names)
    assert [server.left() for server in servers] == [[], []]


def test_ctrl_c_ends_the_devices_and_keeps_what_is_done(servers, exported, tmp_path, monkeypatch):
    bundle = exported("onnx", "fp32")
    file = tmp_path / "devices.toml"
    file.write_text(table("a", bundle, servers[0]) + table("here", bundle))

    def interrupted(waiting):
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "wait", interrupted)
    found = bench_fleet(read_targets(file), **{**HOW, "min_queries": 10**7})
    assert [b.error for b in found.bundles] == ["interrupted", "interrupted"]
    assert found.partial
    assert servers[0].left() == []


@pytest.fixture(scope="module")
def report(exported):
    """Return a report of one device, without a drift."""
    from bakit.bench.local.run import run_bench

    return run_bench([exported("onnx", "fp32")], **HOW)


def fleet_of(report, **hosts):
    """Return a report of a fleet, each device with the same measurements."""
    return module._merged(
        {
            name: msgspec.structs.replace(
                report, host=host, bundles=tuple(module._renamed(b, name) for b in report.bundles)
            )
            for name, host in hosts.items()
        }
    )


def test_the_worst_device_decides(report):
    both = fleet_of(report, a=report.host, b=report.host)
    total = report.bundles[0].latency.stages["total"]
    slow = msgspec.structs.replace(
        both.bundles[1].latency,
        stages={"total": msgspec.structs.replace(total, p90_ms=1e9)},
    )
    worse = msgspec.structs.replace(both.bundles[1], latency=slow)
    gate = Gate(max_p90_ms=1e6, **NO_AGES)
    assert gate.check(both).passed
    result = gate.check(msgspec.structs.replace(both, bundles=(both.bundles[0], worse)))
    assert [verdict.passed for verdict in result.bundles] == [True, False]
    assert result.failures[0].startswith(f"b/{report.bundles[0].name}: p90 of the total time")
    lost = gate.check(both.of_device("a"), require=[both.bundles[1].name])
    assert lost.outcome == "not-measured"
    failed = [msgspec.structs.replace(b, error="lost", latency=None) for b in both.bundles]
    caveats = recommend(msgspec.structs.replace(both, bundles=tuple(failed))).caveats
    assert caveats[0] == "2 bundles failed and could not be compared.", "counted over all devices"


def test_each_device_is_compared_with_itself(report):
    other = msgspec.structs.replace(report.host, machine_id="another")
    gate = Gate(max_p90_ratio=1e6, **NO_AGES)
    both = fleet_of(report, a=report.host, b=other)
    # Whether so few queries are steady depends on the machine; neither answer names two machines.
    try:
        assert len(gate.check(both, both).bundles) == 2
    except InputError as error:
        assert "too few queries to compare times" in str(error)  # noqa: PT017
    with pytest.raises(InputError, match="latencies of two machines are never compared"):
        gate.check(both, fleet_of(report, a=report.host, b=report.host))
    # --ratio-to takes a bundle's name without the device; each device has its own.
    name = report.bundles[0].name
    with pytest.raises(InputError, match=f"two machines are never compared; use --ratio-to {name}"):
        Gate(max_p90_ratio=1e6, ratio_to=f"a/{name}", **NO_AGES).check(both)
    pair = (report.bundles[0], msgspec.structs.replace(report.bundles[0], name="new"))
    both = fleet_of(msgspec.structs.replace(report, bundles=pair), a=report.host, b=other)
    with pytest.raises(InputError, match=r"a/new: too few queries to compare times"):
        Gate(max_p90_ratio=1e6, ratio_to=name, **NO_AGES).check(both)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[device.a\n", "devices.toml: no device file ("),
        ("", "devices.toml: no device; write [device.NAME]"),
        ("[devices.a]\n", "devices.toml: unknown name 'devices'"),
        ("device = 3\n", "devices.toml: no device; write"),
        pytest.param("x = " + "[" * 100_000, "devices.toml: no device file (", id="deep"),
        ("[device.a]\n", "device 'a': Object missing required field `host`"),
        ('[device.a]\nhots = "x"\n', "device 'a': unknown name 'hots'; did you mean 'host'?"),
        ('[device.a]\nhost = "x"\nzzz = 1\n', "device 'a': unknown name 'zzz'; use host, bundles"),
        ('[device.a]\nhost = "x"\nbundles = []\n', "device 'a': Expected `array` of length >= 1"),
        ('[device.a]\nhost = "x"\nbundles = "b"\n', "device 'a': Expected `array`, got `str`"),
        ('[device.a]\nhost = "-x"\nbundles = ["b"]\n', "device 'a': host '-x' is no host"),
        ('[device.a]\nhost = "x"\nbundles = ["b"]\nport = 0\n', "device 'a': Expected `int` >= 1"),
        ('[device.a]\nhost = "x"\nbundles = ["b"]\nengine = "x"\n', "device 'a': Invalid enum"),
        ('[device.a]\nhost = "x"\nbundles = ["nothing"]\n', "nothing"),
        ('[device."a/b"]\nhost = "x"\n', "device 'a/b': a name has letters that can be printed"),
        ('[device.""]\nhost = "x"\n', "device '': a name has letters that can be printed"),
        ("[device.a]\n[device.a]\n", "devices.toml: no device file (Cannot declare"),
        ('[device.a]\nhost = "x"\nbundles = ["b"]\nidentity = "k"\n', "device 'a': identity k: no"),
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
        (["--reference", "x"], "--fleet does not support --reference"),
        (["--json", "x.json", "--threads", "1,2"], "--fleet does not support a thread sweep"),
        (["--json", "x.json"], "devices.toml: no device file (No such file or directory)"),
    ],
)
def test_wrong_options(refused, words, said):
    assert said in refused("bench", "--fleet", "devices.toml", *words)


def test_a_device_given_twice_and_an_output_over_an_input(refused, tmp_path, exported):
    bundle = exported("onnx", "fp32")
    file = tmp_path / "devices.toml"
    host = {"host": "one@board", "port": 7}
    both = table("a", bundle, **host) + table("b", bundle, **host | {"host": "two@BOARD"})
    file.write_text(both, "utf-8-sig")
    line = refused("bench", "--fleet", file, "--json", "r.json")
    assert f"{file}: devices 'a' and 'b' are one host; give it all bundles" in line
    file.write_text(table("a", bundle, **host))
    for output in ("devices.toml", bundle.root / "manifest.json"):
        line = refused("bench", "--fleet", file, "--html", output)
        assert f"{output}: given for an output, but is or lies in an input" in line


def test_retry_needs_a_fleet_and_a_report(refused, tmp_path, exported):
    assert "--retry-failed needs --fleet" in refused("bench", "--retry-failed")
    file = tmp_path / "devices.toml"
    file.write_text(table("a", exported("onnx", "fp32")))
    words = ["bench", "--fleet", file, "--retry-failed"]
    assert "--retry-failed needs --json FILE" in refused(*words)
    assert "the report cannot be read" in refused(*words, "--json", tmp_path / "x.json")
