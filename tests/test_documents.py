"""Documents that no version wrote: nested too deeply, too large, or of another kind."""

from __future__ import annotations

import json
import tracemalloc

import pytest

from bakit.bench.phone.messages import Post, decode
from bakit.bench.report.latency import pack_samples, unpack_samples
from bakit.errors import BakitError, InputError
from bakit.hand.weights import read_localizer
from bakit.model.checkpoint import Checkpoint
from bakit.training import plan as plans

DEEP = "[" * 100_000
WRONG = {
    "deep": DEEP.encode(),
    "deep in an object": f'{{"a": {DEEP}'.encode(),
    "deep and closed": (DEEP + "]" * 100_000).encode(),
    "not UTF-8": b'{"schema_version": "\xff"}',
    "another kind": b'{"schema_version": 1, "x": []}',
    "a list": b"[]",
    "null": b"null",
    "empty": b"",
    "a newer one": b'{"schema_version": 99}',
}

everything = pytest.mark.parametrize("data", WRONG.values(), ids=WRONG)


@everything
def test_a_manifest(data, fake_bundle, refused):
    (fake_bundle / "manifest.json").write_bytes(data)
    assert "manifest.json: " in refused("verify", fake_bundle)


@everything
@pytest.mark.parametrize("command", ["gate", "report"])
def test_a_report(data, command, tmp_path, refused):
    (tmp_path / "report.json").write_bytes(data)
    assert refused(command, "report.json").startswith("bakit: report.json: ")


@everything
def test_the_plan_of_a_run(data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / plans.PLAN).write_bytes(data)
    with pytest.raises(InputError, match=r"plan\.json: "):
        plans._read(out / plans.PLAN)


def test_a_plan_before_there_were_versions_is_read(tmp_path):
    path = tmp_path / plans.PLAN
    assert plans._read(path) is None
    path.write_text('{"settings": {"seed": 1}, "unreadable": ["7"]}')
    assert plans._read(path) == plans._Remembered({"seed": 1}, ("7",))


@everything
@pytest.mark.parametrize("read", [Checkpoint.read, read_localizer])
def test_the_header_of_a_file_of_weights(data, read, tmp_path):
    path = tmp_path / "x.safetensors"
    for content in (data, json.dumps({"__metadata__": {"bakit": data.decode("latin-1")}}).encode()):
        path.write_bytes(len(content).to_bytes(8, "little") + content)
        with pytest.raises(BakitError, match=r"x\.safetensors"):
            read(path)


@everything
def test_a_list_of_known_failures(data, tmp_path):
    from bakit.bench.gate.verdict import read_known_failures

    (tmp_path / "known.json").write_bytes(data if data != b"[]" else b"[1]")
    with pytest.raises(InputError, match="no list of known failures"):
        read_known_failures(tmp_path / "known.json", ())


@everything
def test_a_message_of_a_phone(data):
    with pytest.raises(InputError, match="not a message of the page"):
        decode(data, Post)


def test_samples_that_inflate_cost_no_memory():
    bomb = pack_samples([0] * 10**7)
    assert len(bomb) < 120_000
    tracemalloc.start()
    try:
        with pytest.raises(InputError, match="damaged"):
            unpack_samples(bomb, 1000)
        assert tracemalloc.get_traced_memory()[1] < 4e6
    finally:
        tracemalloc.stop()
