"""Devices that print, answer or hang as they should not: each costs one clear line, exit status 2.

A stand-in of ssh runs a few lines of Python for each command; ``tests/test_remote.py`` has a real
sshd. Without a line of its own a command is answered as an honest device does.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import deque
from contextlib import suppress

import hypothesis
import msgspec
import pytest
from click.testing import CliRunner
from hypothesis import strategies as st

from bakit import agent
from bakit.bench.device import run
from bakit.bench.device.answers import DeviceInfo, Progress, decode, read_progress, read_raw
from bakit.bench.device.frames import AnswerError, FrameReader
from bakit.bench.device.ssh import Remote
from bakit.bench.stream import Limit, shown
from bakit.bench.task import make_settings, read_task
from bakit.cli import main
from bakit.errors import InputError

SSH = """#!/bin/sh
for command; do :; done
printf '%s\\n' "$command" >> {folder}/log
case "$command" in *--frame*) ;; *) test -e {folder}/plain && exec cat > /dev/null ;; esac
exec {python} -S {folder}/device.py "$command"
"""
DEVICE = """
import hashlib, json, re, sys, time
with open({folder!r} + "/plan.json") as file:
    plan, good = json.load(file)
WORDS = "info|start|watch|fetch|log|stop"
found = re.search(r"agent[.]py(?: --frame (\\w+))? (%s)\\b" % WORDS, sys.argv[-1])
token, question = found.groups() if found else (None, "shell")
sys.stdin.buffer.read()

def out(data):
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()

def err(text):
    sys.stderr.write(text)
    sys.stderr.flush()

def frame(value, token=token, size=None, digest=None, end="\\n"):
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    size, digest = size or len(data), digest or hashlib.sha256(data).hexdigest()
    out(("\\nbakit-frame %s %d %s%s" % (token, size, digest, end)).encode() + data + b"\\n")

doc = good.get(question)
item = doc["bundles"][0] if question == "fetch" else None
exec(plan.get(question) or "if doc: frame(doc)")
"""


INFO = {
    "python": "3.6.9", "numpy": "1.19.4", "onnxruntime": "1.10.0", "tensorrt": None,
    "trtexec": None, "board": "Jetson Nano", "system": "L4T 32.7.1", "gpu": None,
    "sm": [5, 3], "int8": False, "driver_error": None, "power_mode": "MAXN",
    "power_rail": "POM_5V_IN", "cache": "/home/user/.cache/bakit", "free_mb": 9000.0,
}  # fmt: skip
"""What an honest device answers first."""


@pytest.fixture
def device(tmp_path_factory, monkeypatch, exported):
    """Return what makes the device: its lines of Python by command, and what it was told."""
    folder = tmp_path_factory.mktemp("device")
    (folder / "ssh").write_text(SSH.format(python=sys.executable, folder=folder))
    (folder / "device.py").write_text(DEVICE.format(folder=str(folder)))
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
    monkeypatch.setattr(run, "PATIENCE_S", 1.5)
    good = {
        "info": INFO,
        "watch": {"state": "done"},
        "fetch": raw(exported("onnx", "fp32")),
    }

    def make(plan=None):
        (folder / "plan.json").write_text(json.dumps([plan or {}, good]))
        if not {"shell", "start", "stop"} & set(plan or {}):
            (folder / "plain").touch()  # commands without an answer need no Python, which is slow
        return folder / "log"

    return make


def raw(bundle):
    """Return the measurements of an honest device."""
    measured = {
        "provider": "CPUExecutionProvider", "warm_up": 1, "images": 4, "turns": [3],
        "stages_ns": {"localize": [10, 11, 12], "regress": [20, 21, 22], "total": [30, 32, 34]},
        "power": None, "readings": [],
        "footprint": {"load_ms": 1.0, "first_prediction_ms": 2.0, "peak_rss_mb": None},
        "golden_months": [golden.bundle_months for golden in bundle.manifest.golden],
        "board": {
            "board": "Jetson Nano", "system": "L4T 32.7.1", "gpu": None, "power_mode": "MAXN",
            "clocks_mhz": {"cpu": 1479.0}, "temperature_before_c": 30.0,
            "temperature_after_c": None, "build_s": None, "layers": {},
        },
    }  # fmt: skip
    host = {
        "system": "Linux 4.9", "machine": "aarch64", "cpu": "Jetson Nano", "logical_cores": 4,
        "isa": [], "memory_mb": 4000.0, "python": "3.6.9", "versions": {"bakit": "0.2.0"},
    }  # fmt: skip
    return {"host": host, "bundles": [measured]}


def words(exported):
    bundle = exported("onnx", "fp32").root
    return ["bench", str(bundle), "--host", "user@nano", "--queries", "3", "--seconds", "0"]


BANNER = r"out(b'Welcome to Ubuntu 18.04\n\x1b[31mSystem restart required\n')"
DIGEST = "d = json.dumps(doc).encode(); h = hashlib.sha256(d).hexdigest(); "
HOSTILE = {
    # Text that is no answer
    "no answer": ("info", "pass", "'info' is missing; the device printed nothing"),
    "a banner alone": ("info", BANNER, "'info' is missing; the device first printed: Welcome to"),
    "a banner and plain JSON": ("info", BANNER + "; out(json.dumps(doc).encode())", "is missing"),
    "an escape sequence": ("info", r"out(b'\x1b]0;pwned\x07\x1b[2J\n')", r"printed: \\x1b\]0;pwn"),
    "Latin-1 alone": ("info", r"out(b'Gr\xfc\xdfe\n')", r"printed: Gr\\xfc\\xdfe"),
    "a long line": ("info", "out(b'x' * 100000)", r"printed: x{117}\.\.\.$"),
    "too much text": ("info", "out(b'x\\n' * 2000000)", "is lost in more than 1 MiB"),
    "one endless line": ("info", "out(b'x' * 4000000)", "is lost in more than 1 MiB"),
    "a shell that echoes": ("info", "out(('+ ' + sys.argv[-1] + '\\n').encode())", "is missing"),
    # Frames
    "another token": ("info", "frame(doc, token='0' * 32)", "is missing"),
    "no token": ("info", "frame(doc, token='')", "is missing"),
    "a token cut short": ("info", "frame(doc, token=token[:-1])", "is missing"),
    "a header without document": ("info", "frame(b'', size=9)", "is cut off"),
    "half a document": (
        "info", "d = json.dumps(doc).encode(); frame(d[:50], size=len(d))", "is cut off"),
    "half a header": ("info", "out(b'\\nbakit-frame ' + token.encode() + b' 12')", "is missing"),
    "another digest": ("info", "frame(doc, digest='0' * 64)", "was damaged on the way"),
    "a byte changed": (
        "info", DIGEST + "frame(d.replace(b'Nano', b'Nana'), digest=h)", "was damaged on the way"),
    "text within a document": (
        "info", DIGEST + "frame(d[:20] + b'mail' + d[20:], size=len(d), digest=h)", "was damaged"),
    "a negative length": ("info", "frame(doc, size=-5)", "is missing"),
    "a huge length": ("info", "frame(doc, size=10**11)", "has 100000000000 bytes; at most 65536"),
    "a huge document": ("info", "frame(b'[' + b'1,' * 50000 + b'1]')", "bytes; at most 65536"),
    "an answer given twice": ("info", "frame(doc); frame(doc)", "answered 'info' more than once"),
    "an answer without end": ("info", "while True: frame(doc)", "answered 'info' more than once"),
    # Documents: more of them are in DOCUMENTS
    "half JSON": ("info", "frame(json.dumps(doc).encode()[:-9])", "is not what an agent writes"),
    "an escape within": ("info", r"doc['board'] = '\x1b[2J'; frame(doc)", r"at `\$.board`"),
    # Exit
    "an error": ("info", "err('noise\\nno \\x1b[1mpython3\\n'); sys.exit(127)", r"no \\x1b\[1mpyt"),
    "an error without words": ("info", "frame(doc); sys.exit(3)", "agent.py info failed"),
    "a lost connection": ("info", "err('Connection reset'); sys.exit(255)", "Connection reset"),
    "an answer that hangs": ("info", "time.sleep(60)", "not done after 1 seconds"),
    "an answer, then a hang": ("info", "frame(doc); time.sleep(60)", "not done after 1 seconds"),
    "errors without end": ("info", "[err('x' * 1000) for _ in range(9999)]", "bytes of errors"),
    "a start that floods": ("start", "out(b'x' * 4000000)", "prints more than 1048576 bytes"),
    "a start that fails": ("start", "err('No space left on device'); sys.exit(1)", "free some"),
    # Progress
    "no progress": ("watch", BANNER, "'watch' is missing; the device first printed: Welcome"),
    "a watch that hangs": ("watch", "time.sleep(60)", "connection was lost and did not come"),
    "a watch that breaks off": ("watch", "sys.exit(255)", "was lost and did not come back"),
    "an agent that died": (
        "watch", "frame({'state': 'died', 'error': 'out of memory'})", "user@nano: out of memory"),
    "a stage of its own": (
        "watch", "frame({'state': 'running', 'stage': 'mining'})", "Invalid enum value 'mining'"),
    "a state of its own": ("watch", "frame({'state': 'bored'})", "Invalid enum value 'bored'"),
    "a share above all": (
        "watch", "frame({'state': 'running', 'share': 1.5})", r"<= 1.0 - at `\$.share`"),
    "a bundle that was not sent": (
        "watch", "frame({'state': 'running', 'number': 2, 'bundles': 2})", "bundle 2 of 2; 1 were"),
    "a flood of progress": (
        "watch", "[frame({'state': 'starting'}) for _ in range(9999)]", "reports in"),
    # Measurements
    "another host": ("fetch", "doc['host'] = {}; frame(doc)", "missing required field `system`"),
    "another name": ("fetch", "item['name'] = 'mine'; frame(doc)", "unknown field `name`"),
    "an error with escapes": (
        "fetch", r"doc['bundles'] = [{'error': '\x1b[2Jgone'}]; frame(doc)", r"at `\$.error`"),
    "the frame of another command": (
        "fetch", "frame(good['info'])", "is not what an agent writes"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_what_no_agent_answers_costs_one_line(name, device, exported, refused, monkeypatch):
    question, does, said = HOSTILE[name]
    if "hang" in name:
        monkeypatch.setattr(run, "INFO", Limit(seconds=1))
        monkeypatch.setattr(run, "WATCH", Limit(silence_s=1))
    log = device({question: does})
    line = refused(*words(exported))
    assert line.startswith("bakit: user@nano: ")
    assert re.search(said, line), line
    assert line.isprintable()
    assert len(line) < 500
    told = log.read_text().splitlines()
    work = re.search(r"mkdir (\S+/\w{16}) ", told[0])[1]
    assert any(f"rm -rf {work}" in command for command in told[-2:]), "removed in the end"


DOCUMENTS = {
    "empty document": ("frame(b' ')", "is not what an agent writes"),
    "Latin-1 within": (r"frame(b'{\"board\": \"Caf\xe9\"}')", "is not UTF-8"),
    "deep JSON": ("frame(b'[' * 60000)", "is not what an agent writes"),
    "a list": ("frame([doc])", "Expected `object`, got `array`"),
    "a number": ("frame(b'7')", "Expected `object`, got `int`"),
    "null": ("frame(None)", "Expected `object`, got `null`"),
    "a field too few": ("del doc['free_mb']; frame(doc)", "missing required field `free_m"),
    "a field too many": ("doc['age'] = 1; frame(doc)", "unknown field `age`"),
    "a field of escapes": (r"doc['\x1b[2J'] = 1; frame(doc)", r"unknown field `\\x1b\[2J"),
    "text as number": ("doc['free_mb'] = '9000'; frame(doc)", "got `str` - at `\\$.free_m"),
    "NaN": ("doc['free_mb'] = float('nan'); frame(doc)", "JSON is malformed"),
    "infinity": ("doc['free_mb'] = float('inf'); frame(doc)", "JSON is malformed"),
    "a negative size": ("doc['free_mb'] = -1; frame(doc)", "Expected `float` >= 0.0"),
    "an overflow": ("frame(b'{\"free_mb\": 1e999}')", "Number out of range"),
    "two lines within": (r"doc['gpu'] = 'a\nb'; frame(doc)", r"at `\$.gpu`"),
    "text without end": ("doc['gpu'] = 'x' * 2000; frame(doc)", "length <= 1000"),
}  # fmt: skip


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_that_no_agent_sends_are_refused(name):
    does, said = DOCUMENTS[name]
    sent = []
    exec(does, {"doc": dict(INFO), "frame": sent.append})
    data = sent[0] if isinstance(sent[0], bytes) else json.dumps(sent[0]).encode()
    with pytest.raises(AnswerError) as refused:
        decode(data, DeviceInfo)
    line = shown(str(refused.value), 200)
    assert re.search(said, line), line
    assert line.isprintable()


MEASUREMENTS = {
    "no bundle": ("doc['bundles'] = []", "has 0 bundles; 1 were sent"),
    "another bundle too": ("doc['bundles'] *= 2", "has 2 bundles; 1 were sent"),
    "another target": ("item['target'] = 'torch'", "unknown field `target`"),
    "another precision": ("item['precision'] = 'int8'", "unknown field `precision`"),
    "another digest of the bundle": (
        "item['bundle_sha256'] = '0' * 64",
        "unknown field `bundle_sha256`",
    ),
    "a phone": ("doc['phone'] = {}", "unknown field `phone`"),
    "energy of its own": ("item['board']['energy_mj'] = 0.0", "unknown field `energy_mj`"),
    "no stage": ("item['stages_ns'] = {}", "has times of no stage"),
    "a stage too few": ("del item['stages_ns']['localize']", "times of regress, total"),
    "an unknown stage": ("item['stages_ns']['nap'] = [1, 2, 3]", "Invalid enum value 'nap'"),
    "a time too few": ("item['stages_ns']['total'].pop()", "has 2 and 3 times where 3 or mo"),
    "fewer times than asked": (
        "[v.pop() for v in item['stages_ns'].values()]",
        "has 2 times where",
    ),
    "a negative time": ("item['stages_ns']['total'][1] = -5", "Expected `int` >= 1"),
    "a broken time": ("item['stages_ns']['total'][1] = 1.5", "Expected `int`, got `float`"),
    "an endless time": ("item['stages_ns']['total'][1] = 10**15", "Expected `int` <= 100000"),
    "a golden age too few": ("item['golden_months'].pop()", r"has \d+ golden ages instead of"),
    "an age that is none": ("item['golden_months'][0] = float('nan')", "JSON is malformed"),
    "an impossible age": ("item['golden_months'][0] = 1e7", "Expected `float` <= 1000000.0"),
    "an age that was not asked": (
        "item['readings'] = [{'id': 'x', 'age_months': 9.0, 'box': [0, 0, 1, 1]}]",
        "ages of other images than those that were sent",
    ),
    "an impossible temperature": ("item['board']['temperature_before_c'] = 9999", "<= 300.0"),
    "an error and an age": ("doc['bundles'] = [{'error': 'x', **item}]", "unknown field"),
}


@pytest.mark.parametrize("name", MEASUREMENTS)
def test_measurements_that_no_agent_sends_are_refused(name, exported):
    change, said = MEASUREMENTS[name]
    bundle = exported("onnx", "fp32")
    task = read_task([bundle], None, None, None, make_settings(3, 0, 1, 1))
    doc = raw(bundle)
    exec(change, {"doc": doc, "item": doc["bundles"][0]})
    with pytest.raises(AnswerError, match=said):
        read_raw(json.dumps(doc).encode(), task, {})


FINE = {
    "an honest device": {},
    "a banner before": dict.fromkeys(("shell", "start"), BANNER)
    | dict.fromkeys(("info", "watch", "fetch"), BANNER + "; frame(doc)"),
    "text after": dict.fromkeys(("info", "watch", "fetch"), "frame(doc); out(b'logout\\n' * 99)"),
    "text between": {
        "watch": "[(frame({'state': 'starting'}), out(b'You have mail\\n')) for _ in range(9)]; "
        "frame(doc)"
    },
    "a prompt before": {"info": "out(b'user@nano:~$ '); frame(doc)"},
    "Latin-1 before": {"info": r"out(b'Gr\xfc\xdfe\n'); frame(doc)"},
    "noise on stderr": {"info": "err('warning: locale\\n' * 99); frame(doc)"},
    "a terminal's line ends": {"info": "frame(doc, end='\\r\\n')"},
    "an old frame before": {"info": "frame(dict(doc, free_mb=1.0), token='0' * 32); frame(doc)"},
    "byte by byte": {
        "info": "import io; real, out = out, (lambda data: [real(bytes([b])) for b in data]); "
        "frame.__globals__.update(out=out); frame(doc)"
    },
    "a bundle that failed": {"fetch": "doc['bundles'] = [{'error': 'no GPU'}]; frame(doc)"},
}


@pytest.mark.parametrize("name", FINE)
def test_what_a_login_shell_prints_is_no_answer(name, device, exported, tmp_path):
    device(FINE[name])
    out = tmp_path / "report.json"
    result = CliRunner().invoke(main, [*words(exported), "--json", str(out)])
    failed = name == "a bundle that failed"
    assert result.exit_code == (1 if failed else 0), result.output
    (bundle,) = json.loads(out.read_text())["bundles"]
    here = exported("onnx", "fp32")
    assert (bundle["name"], bundle["bundle_sha256"]) == (here.name, here.sha256)
    assert (bundle["target"], bundle["precision"]) == ("onnx", "fp32")
    assert bundle["error"] == ("no GPU" if failed else None)


@pytest.mark.parametrize("watch", ["frame(doc)", "frame({'state': 'died', 'error': 'killed'})"])
def test_the_log_lies_beside_the_report_whatever_happens(watch, device, exported, tmp_path):
    log = r"frame(b'[TRT] [E] no kernel\n\x1b[2J\xff\n')"
    told = device({"watch": watch, "log": log})
    out = tmp_path / "report.json"
    CliRunner().invoke(main, [*words(exported), "--json", str(out)])
    assert out.exists() == (watch == "frame(doc)")
    assert (tmp_path / "report.log").read_text() == "[TRT] [E] no kernel\n\\x1b[2J\\xff\n"
    commands = re.findall(r"agent[.]py(?: --frame \w+)? (\w+)", told.read_text())
    assert commands[-2:] == ["log", "stop"], "before the folder is removed"


def test_a_log_that_cannot_be_had_costs_nothing(device, exported, tmp_path):
    device({"log": "out(b'x' * 4000000)"})
    out = tmp_path / "report.json"
    done = CliRunner().invoke(main, [*words(exported), "--json", str(out)])
    assert done.exit_code == 0, done.output
    assert not (tmp_path / "report.log").exists()


def test_a_job_s_folder_is_private_and_cannot_be_guessed(device, exported):
    logs = []
    for _ in range(2):
        log = device()
        assert CliRunner().invoke(main, words(exported)).exit_code == 0
        logs.append(log.read_text().splitlines())
        log.unlink()
    made = [re.match(r"umask 077; mkdir -p (\S+) && mkdir \1/(\w{16}) &&", log[0]) for log in logs]
    assert made[0][2] != made[1][2]
    tokens = re.findall(r"--frame (\w+)", "\n".join(logs[0] + logs[1]))
    assert len(set(tokens)) == len(tokens) == 6, "each command has a token of its own"
    assert all(len(token) == 32 for token in tokens)


@pytest.mark.parametrize(
    "host",
    ["-oProxyCommand=x", "user@-oProxyCommand=x", "", "user@", "a b", "a\nb", "a\x1b[2J", "a\0b",
     "a\u202eb", "a\x7fb", "\x9b2J", "a\u2028b"],
)  # fmt: skip
def test_a_host_that_ssh_would_misread_is_refused(host, refused, exported):
    with pytest.raises(InputError, match="is no host; use user@device"):
        Remote(host)
    if "\0" not in host:
        line = refused("bench", exported("onnx", "fp32").root, f"--host={host}")
        assert line.isprintable()


# Watching


@pytest.mark.parametrize(
    ("reports", "step", "said"),
    [
        ([Progress("running", "latency", 0.5)] * 99, 600, "made no progress for"),
        (
            [Progress("running", "drift", i / 999) for i in range(999)],
            3600,
            "not done after 25 hours",
        ),
        ([Progress("starting")] * 999, 0.001, "reports in 0 seconds"),
    ],
)
def test_no_watch_lasts_for_ever(reports, step, said, monkeypatch):
    now = iter(i * step for i in range(10**6))
    monkeypatch.setattr(run.time, "monotonic", lambda: next(now))
    watch = run._Clock("user@nano", 1)
    with pytest.raises(InputError, match=f"user@nano: the agent .*{said}.*; the run was ended"):
        deque(map(watch.check, reports), maxlen=0)


def test_a_watch_on_the_device_ends_and_is_taken_up_again(tmp_path, monkeypatch, capfdbinary):
    monkeypatch.setattr(agent, "WATCH_S", 1.2)
    monkeypatch.setattr(agent, "is_running", lambda work: 1)
    assert agent.watch_job(str(tmp_path), "t" * 32) == 0
    documents = list(FrameReader("t" * 32, 999).feed(capfdbinary.readouterr().out))
    assert [read_progress(document, 1).state for document in documents] == ["starting"]


def test_a_watch_that_the_agent_ends_is_taken_up_again(device, exported):
    counted = "again = open(sys.argv[0][:-9] + 'log').read().count(' watch ') > 1; "
    log = device({"watch": counted + "frame(doc if again else {'state': 'starting'})"})
    result = CliRunner().invoke(main, words(exported))
    assert result.exit_code == 0, result.output
    assert log.read_text().count(" watch ") == 2


# Units


@hypothesis.given(st.lists(st.binary(max_size=80)), st.lists(st.integers(1, 40)))
def test_frames_are_found_however_the_output_is_cut(texts, cuts):
    reader, stream, sent = FrameReader("t0k3n", 100), b"", []
    for text in texts:
        document = b"[%d]" % len(text)
        digest = agent.sha256(document).encode()
        stream += text.replace(b"bakit", b"") + b"\nbakit-frame t0k3n %d %s\n%s\n" % (
            len(document), digest, document,
        )  # fmt: skip
        sent.append(document)
    found = []
    for cut in cuts:
        found += reader.feed(stream[:cut])
        stream = stream[cut:]
    assert [*found, *reader.feed(stream)] == sent
    reader.close(answered=True)


def test_the_agent_frames_what_the_host_reads(capfdbinary):
    for value in ({"a": 1.5}, {"board": "Jäger"}, []):
        agent.emit(value, "abc")
        (document,) = FrameReader("abc", 999).feed(b"$ " + capfdbinary.readouterr().out)
        assert json.loads(document) == value
    agent.emit({"a": 1}, "")
    assert capfdbinary.readouterr().out == b'{"a": 1}\n'
    with pytest.raises(ValueError, match="not JSON compliant"):
        agent.emit(float("nan"), "abc")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@hypothesis.given(st.binary() | JSON.map(lambda value: json.dumps(value).encode()))
def test_whatever_is_sent_is_an_answer_or_one_error(data):
    for kind in (DeviceInfo, Progress):
        with pytest.raises(AnswerError):
            decode(data, kind)


@hypothesis.given(st.data())
def test_a_changed_document_is_read_or_refused(exported, data):
    bundle = exported("onnx", "fp32")
    task = read_task([bundle], None, None, None, make_settings(3, 0, 1, 1))
    document = raw(bundle)
    place = document
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = data.draw(st.sampled_from(keys))
        if not isinstance(place[key], dict | list) or data.draw(st.booleans()):
            break
        place = place[key]
    if place:
        place[key] = data.draw(JSON)
    with suppress(AnswerError):
        read_raw(json.dumps(document).encode(), task, {})


def test_ages_are_of_the_images_that_were_sent(exported, labelled):
    bundle = exported("onnx", "fp32")
    task = read_task([bundle], labelled.folder, bundle, None, make_settings(3, 0, 1, 1))
    document = raw(bundle)
    ages = [{"id": s.id, "age_months": 99.0, "box": [0, 0, 9, 9]} for s in task.samples]
    first, second, *rest = ages

    def read(readings):
        document["bundles"][0]["readings"] = readings
        return read_raw(json.dumps(document).encode(), task, {}).bundles[0].readings

    assert [reading.id for reading in read(ages)] == [sample.id for sample in task.samples]
    for wrong in (ages[1:], [*ages, first], [second, first, *rest], [{**first, "id": "x"}, *rest]):
        with pytest.raises(AnswerError, match="ages of other images"):
            read(wrong)
    with pytest.raises(AnswerError, match="ages without boxes"):
        read([{**first, "box": None}, second, *rest])


def test_a_refusal_uses_only_what_the_device_said(exported):
    info = dict.fromkeys(DeviceInfo.__struct_fields__)
    info |= {"python": "3.6.9", "board": "", "system": "", "cache": "/", "free_mb": 1.0}
    info |= {"problems": {}}
    found = decode(json.dumps(info).encode(), DeviceInfo)
    manifest = msgspec.to_builtins(exported("onnx", "fp32").manifest)
    how = {"engine": "auto", "allow_downgrade": False}
    with pytest.raises(agent.AgentError, match="numpy is missing"):
        agent.choose_way(manifest, msgspec.to_builtins(found), how)
    better = msgspec.to_builtins(msgspec.structs.replace(found, numpy="1", onnxruntime="1"))
    assert agent.choose_way(manifest, better, how) == ("onnxruntime", False)


def test_long_and_strange_text_is_shown_as_one_line():
    assert shown("a\x1b[2J\n\u202eb", 99) == r"a\x1b[2J\n\u202eb"
    assert shown("x" * 500, 100) == "x" * 97 + "..."
