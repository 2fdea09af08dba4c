"""What a run needs, and what is said where it is missing."""

from __future__ import annotations

import json
import ssl

import pytest

from bakit.bench.phone import adb as adb_commands
from bakit.bench.phone import web
from bakit.bench.phone.certificate import make_context
from bakit.errors import InputError, MissingProgramError, VerificationError


def test_the_certificate_is_for_the_address():
    context, fingerprint = make_context(["127.0.0.1", "localhost", "::1"])
    assert len(fingerprint.split(":")) == 32
    again = make_context(["127.0.0.1"])[1]
    assert fingerprint != again
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2


def test_adb_forwards_the_port_opens_the_page_and_cleans_up(start, bundles, adb):
    run = start(bundles)
    client = run.client()
    client.start()
    client.end()
    with pytest.raises(VerificationError):
        run.result()
    lines = adb.read_text(encoding="utf-8").splitlines()
    port = f"tcp:{client.port}"
    url = f"http://localhost:{client.port}/{client.token}/"
    assert lines == [
        f"reverse {port} {port}",
        f"shell am start -a android.intent.action.VIEW -d {url}",
        f"reverse --remove {port}",
    ]


ADB_SAYS = {  # stderr, stdout and exit status, as adb 34 and am of Android 8 to 14 write them
    "no devices/emulators found\\); switch on USB debugging": (
        b"* daemon started successfully\nadb: no devices/emulators found\n", b"", 1
    ),
    "more than one device/emulator\\); set ANDROID_SERIAL": (
        b"adb: more than one device/emulator\n", b"", 1
    ),
    "device unauthorized.\\); unlock the phone, and allow": (
        (b"adb: device unauthorized.\nThis adb server's $ADB_VENDOR_KEYS is not set\n"
        b"Otherwise check for a confirmation dialog on your device.\n"), b"", 1
    ),
    "no devices/emulators found\\); two versions of adb": (
        (b"adb server version (40) doesn't match this client (41); killing...\n"
        b"* daemon started successfully\nadb: no devices/emulators found\n"), b"", 1
    ),
    "cannot connect to daemon.*\\); run: adb kill-server": (
        (b"* daemon not running; starting now at tcp:5037\nADB server didn't ACK\n"
        b"* failed to start daemon\nadb: cannot connect to daemon at tcp:5037\n"), b"", 1
    ),
    "device still authorizing\\); unlock the phone": (
        b"adb: device still authorizing\n", b"", 1
    ),
    "device offline\\); plug the cable in again": (b"adb: device offline\n", b"", 1),
    "user is in the plugdev group\\); sudo apt install android": (
        (b"error: insufficient permissions for device: user is in the plugdev group\n"
        b"See [http://developer.android.com/tools/device.html] for more information\n"), b"", 1
    ),
    "device 'abc' not found\\); adb devices lists": (b"adb: device 'abc' not found\n", b"", 1),
    "unable to resolve Intent .*\\); install a browser": (
        b"", (b"Starting: Intent { dat=http://localhost:80/... }\n"
        b"Error: Activity not started, unable to resolve Intent { flg=0x10000000 }\n"), 0
    ),
    "t\\\\xe9l\\\\xe9phone\\); switch on": (b"adb: t\xe9l\xe9phone\n", b"", 1),
    "no error message\\); switch on": (b"", b"", 1),
}  # fmt: skip


@pytest.mark.parametrize("said", ADB_SAYS)
def test_adb_that_fails_is_said_with_what_to_do(tmp_path, adb, said):
    err, out, status = ADB_SAYS[said]
    (tmp_path / "err").write_bytes(err)
    (tmp_path / "out").write_bytes(out)
    program = tmp_path / "platform-tools/adb"
    program.write_text(f"#!/bin/sh\ncd {tmp_path}\ncat err >&2\ncat out\nexit {status}\n")
    with pytest.raises(InputError, match=said) as error:
        adb_commands.open_on_phone("http://localhost:80/")
    assert "\n" not in str(error.value)


def test_adb_that_is_missing_is_said(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingProgramError, match="platform tools"):
        adb_commands.find_adb()


def test_a_missing_runtime_is_named_with_the_command(tmp_path, monkeypatch, runtime_folder):
    assert web.find_runtime() == runtime_folder / "node_modules/onnxruntime-web/dist"
    package = runtime_folder / "node_modules/onnxruntime-web/package.json"
    package.write_text('{"version": "1.2.3"}', encoding="utf-8")
    with pytest.raises(MissingProgramError, match=r"found 1\.2\.3 in") as error:
        web.find_runtime()
    assert f"npm ci --ignore-scripts --prefix {runtime_folder}" in str(error.value)
    package.write_text("[]", encoding="utf-8")
    with pytest.raises(MissingProgramError, match="not installed: mkdir"):
        web.find_runtime()
    monkeypatch.delenv(web.VARIABLE)
    (tmp_path / "package.json").write_bytes((web.PAGE / "package.json").read_bytes())
    monkeypatch.setattr(web, "PAGE", tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(MissingProgramError, match="cache/bakit/web"):
        web.find_runtime()


def test_a_runtime_without_its_files_is_refused(runtime_folder):
    dist = web.find_runtime()
    with pytest.raises(MissingProgramError, match="asyncify"):
        web.runtime_files("webgpu", dist)


def test_the_lock_names_no_registry():
    lock = (web.PAGE / "package-lock.json").read_text(encoding="utf-8")
    assert "://" not in lock.replace("https://opencollective.com", "")
    packages = json.loads(lock)["packages"]
    assert packages["node_modules/onnxruntime-web"]["version"] == web.wanted_version()
    assert all(item.get("integrity") for name, item in packages.items() if name)


def test_the_page_asks_for_nothing_from_elsewhere():
    for name in (*web.PAGE_FILES, "busy.html"):
        text = (web.PAGE / name).read_text(encoding="utf-8")
        assert "://" not in text.replace("http://www.w3.org/2000/svg", ""), name
        assert " style=" not in text
        assert "<script>" not in text


def test_wrong_input_is_said_before_a_page_is_served(
    refused, runtime_folder, bundles, exported, tmp_path, monkeypatch
):
    int8, floats = str(bundles[1].root), str(bundles[0].root)
    assert "--adb needs --phone" in refused("bench", floats, "--adb")
    assert "no float reference" in refused("bench", int8, "--phone")
    assert "--adb uses the USB cable" in refused(
        "bench", floats, "--phone", "--adb", "--bind", "0.0.0.0"
    )
    assert "cannot listen on 192.0.2.1" in refused(
        "bench", floats, "--phone", "--bind", "192.0.2.1", "--limit", 1
    )
    torch = exported("torch", "fp32")
    assert "browsers cannot run the target" in refused("bench", torch.root, "--phone")
    monkeypatch.setenv(web.VARIABLE, str(tmp_path))
    assert "npm ci --ignore-scripts" in refused("bench", floats, "--phone", status=3)
