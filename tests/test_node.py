"""The DICOM node, with dcmtk's programs as senders and as the peer."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.error import HTTPError

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pydicom = pytest.importorskip("pydicom")
pytest.importorskip("highdicom")
pynetdicom = pytest.importorskip("pynetdicom", reason="pynetdicom is not installed")

from pydicom.uid import (  # noqa: E402
    CTImageStorage,
    ExplicitVRLittleEndian,
    RLELossless,
    generate_uid,
)
from pynetdicom import evt  # noqa: E402
from pynetdicom.sop_class import (  # noqa: E402
    ComprehensiveSRStorage,
    DigitalXRayImageStorageForPresentation,
    ModalityPerformedProcedureStep,
    Verification,
)

from bakit.errors import InputError, VerificationError  # noqa: E402
from bakit.model.intervals import EDGES_MONTHS, Intervals  # noqa: E402
from bakit.node import deliver  # noqa: E402
from bakit.node import run as node_run  # noqa: E402
from bakit.node.metrics import Metrics  # noqa: E402
from bakit.node.options import Access, NodeOptions, Peer, Tls  # noqa: E402
from bakit.node.run import Node  # noqa: E402
from bakit.node.spool import CRASHES, FOLDERS, Spool  # noqa: E402
from bakit.runtime import Runtime  # noqa: E402
from tests.test_dicom import dataset, stored  # noqa: E402
from tests.test_score import IDENTIFYING  # noqa: E402

NAME = "Secret^Patient"
# pynetdicom installs programs of the same names into an environment's folder.
PATH = os.pathsep.join(
    place
    for place in os.get_exec_path()
    if Path(place).resolve() != Path(sysconfig.get_path("scripts")).resolve()
)
needs_dcmtk = pytest.mark.skipif(
    not all(shutil.which(name, path=PATH) for name in ("storescu", "storescp", "echoscu")),
    reason="no dcmtk here",
)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(deliver, "FIRST_S", 0.2)


@pytest.fixture(scope="module")
def runtime(exported):
    with Runtime(exported("onnx", "fp32"), 1) as opened:
        yield opened


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Return the files of six different radiographs."""
    folder = tmp_path_factory.mktemp("films")
    for index in range(6):
        (folder / f"{index}.dcm").write_bytes(film(index))
    return sorted(folder.iterdir())


def film(index, **fields):
    data = dataset(**(dict.fromkeys(IDENTIFYING, "Secret-7") | {"PatientName": NAME} | fields))
    data.SOPInstanceUID = generate_uid(entropy_srcs=["film", str(index)])
    data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID
    return stored(data)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Storescp:
    """dcmtk's receiver, as the peer; it is not there before ``start``."""

    def __init__(self, folder):
        self.folder, self.port, self.process = folder, free_port(), None
        folder.mkdir()

    def start(self):
        words = ["storescp", "-q", "-aet", "PACS", "-od", self.folder, str(self.port)]
        self.process = subprocess.Popen(list(map(str, words)), stderr=subprocess.DEVNULL)
        wait_until(lambda: listens(self.port))

    def stop(self):
        if self.process is not None:
            self.process.terminate()
            self.process.wait()

    def reports(self):
        return [pydicom.dcmread(path) for path in self.folder.iterdir() if path.stat().st_size]

    def answered(self):
        """Return the SOPInstanceUID of the radiograph of each report."""
        return sorted(
            item.ReferencedSOPSequence[0].ReferencedSOPInstanceUID
            for report in self.reports()
            for study in report.CurrentRequestedProcedureEvidenceSequence
            for item in study.ReferencedSeriesSequence
        )


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture
def pacs(tmp_path):
    peer = Storescp(tmp_path / "pacs")
    yield peer
    peer.stop()


@pytest.fixture
def start(tmp_path, runtime):
    """Return what starts a node of this process; all are closed at the end."""
    nodes = []

    def make(peer_port, **how):
        how = {"port": 0, "web_port": 0, "min_free_mb": 0.0, **how}
        peer = Peer("PACS", "127.0.0.1", peer_port)
        nodes.append(Node(NodeOptions(how.pop("spool", tmp_path / "spool"), peer, **how), runtime))
        return nodes[-1]

    yield make
    for node in nodes:
        node.close()


def wait_until(true, seconds=600):
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until
        time.sleep(0.02)


def run(program, *words, port, title="BAKIT"):
    found = shutil.which(program, path=PATH) or program
    command = [found, "-aec", title, *map(str, words[:-1] if program == "storescu" else words)]
    command += ["127.0.0.1", str(port)]
    command += [str(word) for word in words[-1]] if program == "storescu" else []
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)


def store(port, files, *words, title="BAKIT"):
    return run("storescu", *words, files, port=port, title=title)


def uids(files):
    return sorted(pydicom.dcmread(path).SOPInstanceUID for path in files)


def in_spool(root, folder):
    return [path for path in (root / folder).iterdir() if path.name[0] != "."]


def web(node, page="metrics"):
    with urllib.request.urlopen(f"http://127.0.0.1:{node.web_port}/{page}") as answer:
        return answer.read().decode()


def warnings_of(caplog):
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.name == "bakit.node"
    ]


@needs_dcmtk
def test_films_of_several_senders_are_each_answered_once(start, pacs, films, tmp_path, caplog):
    caplog.set_level(logging.DEBUG)
    pacs.start()
    node = start(pacs.port, associations=4, workers=2)
    assert run("echoscu", port=node.port).returncode == 0
    parts = [films[:3], films[2:], films]  # three senders, and most films come twice
    done = []
    threads = [
        threading.Thread(target=lambda part=part: done.append(store(node.port, part)))
        for part in parts
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [sent.returncode for sent in done] == [0, 0, 0]
    wait_until(lambda: len(in_spool(tmp_path / "spool", "done")) == len(films))
    assert pacs.answered() == uids(films)
    report = pacs.reports()[0]
    assert (report.SOPClassUID, report.PatientName) == (ComprehensiveSRStorage, NAME)
    assert all(not in_spool(tmp_path / "spool", name) for name in FOLDERS[:3])
    text = web(node)
    assert 'bakit_node_stores_total{outcome="stored"} 6' in text
    assert 'bakit_node_stores_total{outcome="known"} 7' in text
    assert 'bakit_node_deliveries_total{outcome="delivered"} 6' in text
    assert 'bakit_node_age_months_count{sex="F"} 6' in text
    assert "bakit_node_answer_seconds_count 6" in text
    assert json.loads(web(node, "health"))["status"] == "ok"
    logged = caplog.text + text
    assert "Secret" not in logged
    assert "20100101" not in logged
    assert warnings_of(caplog) == []


@needs_dcmtk
def test_a_peer_that_is_down_gets_its_reports_later(start, pacs, films, tmp_path, caplog):
    node = start(pacs.port)
    assert store(node.port, films[:2]).returncode == 0
    wait_until(lambda: "peer_reachable 0" in web(node))
    assert json.loads(web(node, "health"))["peer"] == "unreachable"
    time.sleep(0.7)  # further tries say nothing
    (line,) = [text for text in warnings_of(caplog) if "peer" in text]
    assert f"peer PACS at 127.0.0.1:{pacs.port}: no answer" in line
    pacs.start()
    wait_until(lambda: len(in_spool(tmp_path / "spool", "done")) == 2)
    assert pacs.answered() == uids(films[:2])


def node_process(root, bundle, peer_port, port, web_port=0, workers=1):
    words = ["--spool", root, "--peer", f"PACS@127.0.0.1:{peer_port}", "--bundle", bundle]
    words += ["--port", port, "--web-port", web_port, "--min-free-mb", 0, "--workers", workers]
    process = subprocess.Popen(
        [sys.executable, "-m", "bakit", "node", *map(str, words)],
        stderr=subprocess.PIPE, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert "node: BAKIT" in process.stderr.readline()
    return process


@needs_dcmtk
def test_kill_9_loses_no_film_and_doubles_no_report(exported, pacs, films, tmp_path):
    port, root = free_port(), tmp_path / "spool"
    bundle = exported("onnx", "fp32").root
    node = node_process(root, bundle, pacs.port, port)
    sent = [store(port, films[:1]).returncode]

    def send_rest():
        sent.extend(store(port, [path]).returncode for path in films[1:])

    sender = threading.Thread(target=send_rest)
    sender.start()
    wait_until(lambda: len(sent) >= 3)
    node.kill()
    node.wait()
    node.stderr.close()
    sender.join()
    acknowledged = [path for path, code in zip(films, sent, strict=True) if code == 0]
    assert len(acknowledged) >= 3
    kept = {path.name for name in ("in", "out") for path in in_spool(root, name)}
    assert len(kept) >= len(acknowledged)
    pacs.start()
    node = node_process(root, bundle, pacs.port, port)
    try:
        assert store(port, films).returncode == 0
        wait_until(lambda: len(in_spool(root, "done")) == len(films))
        assert pacs.answered() == uids(films)
    finally:
        node.send_signal(signal.SIGTERM)
        log = node.communicate()[1]
    assert node.returncode == 0
    assert "Secret" not in log
    assert "Traceback" not in log


@needs_dcmtk
@pytest.mark.parametrize(
    ("garbage", "said"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "Unknown PDU type received '0x47'"),
        (b"\x01\x00\x00\x00\x00\x10" + bytes(16), "Invalid 'Called AE Title' value"),
        (b"\x04\x00\x00\x00\x01\x00", "The received PDU is shorter than expected"),
        (b"\x01\x00\xff\xff\xff\xff" + bytes(64), "it sends more than 256 MiB"),
        (b"\x04\x00\x00\x00\x00\x04abcd", "Unable to decode the received PDU"),
    ],
)
def test_garbage_ends_its_connection_alone(start, films, caplog, garbage, said):
    node = start(free_port())
    with socket.create_connection(("127.0.0.1", node.port)) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(10)
        while connection.recv(1024):
            pass
    assert run("echoscu", port=node.port).returncode == 0
    (line,) = warnings_of(caplog)
    assert f"? at 127.0.0.1: connection ended: {said}" in line
    assert "bakit_node_protocol_errors_total 1" in web(node)


@needs_dcmtk
def test_other_files_are_refused_with_one_line(start, films, tmp_path, caplog):
    node = start(free_port())
    ct = dataset(SOPClassUID=CTImageStorage)
    ct.file_meta.MediaStorageSOPClassUID = CTImageStorage
    (tmp_path / "ct.dcm").write_bytes(stored(ct))
    assert store(node.port, [tmp_path / "ct.dcm"], "-R").returncode != 0
    (line,) = warnings_of(caplog)
    assert "127.0.0.1: not accepted: CT Image Storage" in line
    caplog.clear()
    (tmp_path / "no-uid.dcm").write_bytes(film(0, StudyInstanceUID=""))
    assert store(node.port, [tmp_path / "no-uid.dcm"]).returncode != 0
    (line,) = warnings_of(caplog)
    assert "C-STORE refused (0xC000): the file: StudyInstanceUID is missing" in line
    assert in_spool(tmp_path / "spool", "in") == []


@needs_dcmtk
def test_a_film_that_cannot_be_read_is_kept_aside(start, pacs, films, tmp_path, caplog):
    pacs.start()
    node = start(pacs.port)
    short = dataset(PatientName=NAME)
    short.PixelData = short.PixelData[:1000]
    bad = {"short": stored(short), "no-sex": film(8, PatientSex="SECRET")}
    blank = np.zeros((64, 64), np.uint8)
    bad["blank"] = film(9, image=blank)
    for name, data in bad.items():
        (tmp_path / name).write_bytes(data)
        assert store(node.port, [tmp_path / name]).returncode == 0
    assert store(node.port, films[:1]).returncode == 0
    wait_until(lambda: pacs.answered() == uids(films[:1]))
    wait_until(lambda: len(in_spool(tmp_path / "spool", "refused")) == len(bad))
    lines = warnings_of(caplog)
    assert len(lines) == len(bad)
    assert all("refused, no report" in line for line in lines)
    names = [path.name for path in (tmp_path / "spool").rglob("*")]
    assert "secret" not in f"{caplog.text}{names}{web(node)}".lower()
    assert 'films_total{status="refused",sex=""} 3' in web(node)


@needs_dcmtk
def test_a_full_disk_refuses_films_and_keeps_none(start, films, tmp_path, monkeypatch, caplog):
    node = start(free_port(), min_free_mb=1e12)
    assert store(node.port, films[:1]).returncode != 0
    (line,) = warnings_of(caplog)
    assert "C-STORE refused (0xA700)" in line
    assert "No space left on device" in line
    assert json.loads(web(node, "health"))["disk"] == "full"
    node.close()
    other = start(free_port(), spool=tmp_path / "other")

    def full(number):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        assert store(other.port, films[:1]).returncode != 0
    assert [path for path in tmp_path.glob("other/*/*") if path.is_file()] == []
    assert store(other.port, films[:1]).returncode == 0


@needs_dcmtk
def test_who_may_send(start, caplog):
    access = Access.parse("XRAY@127.0.0.0/8"), Access.parse("CR@10.0.0.5")
    node = start(free_port(), allow=access)
    assert run("echoscu", "-aet", "XRAY", port=node.port).returncode == 0
    for words, title, said in (
        (("-aet", "CR"), "BAKIT", "no --allow admits it"),
        (("-aet", "OTHER"), "BAKIT", "no --allow admits it"),
        (("-aet", "XRAY"), "PACS", "it called another AE title"),
    ):
        caplog.clear()
        answer = run("echoscu", *words, port=node.port, title=title)
        assert answer.returncode != 0
        assert "Rejected" in answer.stderr
        assert said in warnings_of(caplog)[0]


def test_a_connection_that_asks_for_nothing_ends_with_the_node(start):
    """Quietly: an error in pynetdicom's thread fails a test."""

    def is_open():
        acceptors = [item for item in threading.enumerate() if getattr(item, "is_acceptor", False)]
        return any(item.dul.state_machine.current_state == "Sta2" for item in acceptors)

    node = start(free_port())
    with socket.create_connection(("127.0.0.1", node.port)) as silent:
        wait_until(is_open)
        node.close()
        silent.settimeout(600)
        assert silent.recv(1) == b""


@needs_dcmtk
def test_a_full_node_rejects_politely(start, caplog):
    node = start(free_port(), associations=2)
    entity = pynetdicom.AE("CR")
    entity.add_requested_context(Verification)
    held = [entity.associate("127.0.0.1", node.port, ae_title="BAKIT") for _ in range(2)]
    silent = socket.create_connection(("127.0.0.1", node.port))  # takes no place
    answer = run("echoscu", port=node.port)
    assert answer.returncode != 0
    assert "Local Limit Exceeded" in answer.stderr
    assert "2 associations are open, the limit" in warnings_of(caplog)[0]
    for assoc in held:
        assoc.release()
    wait_until(lambda: run("echoscu", port=node.port).returncode == 0)
    silent.close()


@needs_dcmtk
def test_tls(start, films, tmp_path, caplog):
    if shutil.which("openssl") is None:
        pytest.skip("no openssl here")
    key, cert = tmp_path / "key.pem", tmp_path / "cert.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", key, "-out"]
    words += [cert, "-days", "2", "-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(words, check=True, capture_output=True)
    tls = Tls(cert, key, cert)
    second = start(free_port(), spool=tmp_path / "second", tls=tls)  # also the first one's peer
    node = start(second.port, tls=tls, peer_tls=True)
    secure = ["+tls", key, cert, "+cf", cert]
    assert run("echoscu", *secure, port=node.port).returncode == 0
    assert run("echoscu", port=node.port).returncode != 0
    assert run("echoscu", "+tla", "-ic", port=node.port).returncode != 0
    assert store(node.port, films[:1], *secure).returncode == 0
    wait_until(
        lambda: "it does not take structured reports" in caplog.text or "called" in caplog.text
    )
    with pytest.raises(InputError, match=r"nothing\.pem: cannot be used for TLS"):
        start(free_port(), tls=Tls(tmp_path / "nothing.pem", key, cert), spool=tmp_path / "third")
    words = ["openssl", "rsa", "-aes128", "-passout", "pass:x", "-in", key, "-out", tmp_path / "x"]
    subprocess.run(words, check=True, capture_output=True)
    with pytest.raises(InputError, match="use PEM files and a key without a password"):
        start(free_port(), tls=Tls(cert, tmp_path / "x", cert), spool=tmp_path / "third")


def peer_that_answers(statuses, got):
    """Start a peer that answers with one status after the other."""

    def on_store(event):
        got.append(event.request.AffectedSOPInstanceUID)
        return statuses.pop(0) if statuses else 0

    entity = pynetdicom.AE("PACS")
    entity.add_supported_context(ComprehensiveSRStorage, "1.2.840.10008.1.2")
    return entity.start_server(
        ("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, on_store)]
    )


@needs_dcmtk
def test_a_report_that_the_peer_refuses_holds_up_no_other(start, films, tmp_path, caplog):
    got = []
    peer = peer_that_answers([0xA700, 0x0000, 0xB000, 0xC001], got)
    try:
        node = start(peer.server_address[1])
        assert store(node.port, films[:3]).returncode == 0
        wait_until(lambda: len(in_spool(tmp_path / "spool", "done")) == 3)
    finally:
        peer.shutdown()
    assert len(set(got)) == 3
    assert len(got) >= 4
    assert sum("refused it with status 0x" in line for line in warnings_of(caplog)) >= 1


@needs_dcmtk
def test_a_node_that_cannot_read_keeps_the_film(start, pacs, films, runtime, monkeypatch, caplog):
    pacs.start()
    predict, failures = runtime.predict, [VerificationError("no number"), ValueError(NAME)]

    def failing(image):
        if failures:
            raise failures.pop()
        return predict(image)

    monkeypatch.setattr(runtime, "predict", failing)
    node = start(pacs.port)
    assert store(node.port, films[:1]).returncode == 0
    wait_until(lambda: pacs.answered() == uids(films[:1]))
    lines = [line.split(": ")[2] for line in warnings_of(caplog)]
    assert lines[0].startswith("ValueError (test_node.py:")
    assert lines[1].startswith("no number; tried again")


def test_a_crash_at_any_step_of_the_spool_loses_and_doubles_nothing(tmp_path, monkeypatch):
    """The spool's own calls to the system fail one after the other, each for good."""

    class Crashed(BaseException):
        pass

    def live(root, delivered):
        opened = Spool(root, 0)
        try:
            for key in ("a", "b"):
                opened.take(key, key.encode())
            while not opened.waiting.empty():
                key = opened.waiting.get()
                opened.answer(key, opened.read(key).upper())
            for key in opened.names("out"):
                delivered.append((key, opened.path("out", key).read_bytes()))
                opened.delivered(key)
        finally:
            opened.close()

    def crash_at(step):
        calls = 0

        def wrap(function):
            def call(*arguments, **named):
                nonlocal calls
                calls += 1
                if calls >= step:  # a killed process does nothing more
                    raise Crashed
                return function(*arguments, **named)

            return call

        with monkeypatch.context() as patch:
            for owner, name in ((os, "fsync"), (Path, "rename"), (Path, "unlink"), (Path, "touch")):
                patch.setattr(owner, name, wrap(getattr(owner, name)))
            try:
                live(tmp_path / str(step), delivered)
            except Crashed:
                return True
        return False

    step = 1
    while True:
        delivered = []
        crashed = crash_at(step)
        live(tmp_path / str(step), delivered)
        assert dict(delivered) == {"a": b"A", "b": b"B"}
        assert len(delivered) <= 3, "only the one whose delivery was not noted is sent again"
        left = {name: in_spool(tmp_path / str(step), name) for name in FOLDERS}
        assert [len(left[name]) for name in FOLDERS] == [0, 0, 0, 2]
        assert list((tmp_path / str(step)).glob("*/.*")) == []
        if not crashed:
            break
        step += 1
    assert step > 20


def test_the_film_that_was_being_read_at_a_crash_comes_last(tmp_path):
    first = Spool(tmp_path, 0)
    for key in ("a", "b", "c"):
        first.take(key, b"film")
        os.utime(tmp_path / "in" / key, (0, 0))
    first.read("a")
    first.close()
    again = Spool(tmp_path, 0)
    assert [again.waiting.get() for _ in range(3)] == ["b", "c", "a"]
    again.close()


def test_a_film_that_crashes_the_node_each_time_is_put_aside(tmp_path):
    opened = Spool(tmp_path, 0)
    for key in ("a", "b"):
        opened.take(key, b"film")
    for crash in range(CRASHES):
        assert opened.crashed == []
        assert [opened.waiting.get() for _ in range(2)] == (["b", "a"] if crash else ["a", "b"])
        opened.read("b")
        opened.ended("b")
        opened.read("a")  # the clock may go back meanwhile: no order depends on it
        os.utime(tmp_path / "in" / "a", (0, 0))
        opened.close()
        opened = Spool(tmp_path, 0)
    assert (opened.crashed, opened.names("refused")) == (["a"], ["a"])
    assert (opened.waiting.get(), opened.waiting.empty()) == ("b", True)
    assert opened.names("reading") == []
    opened.close()


def associate(port, kind, syntax=ExplicitVRLittleEndian):
    entity = pynetdicom.AE("CR")
    entity.add_requested_context(kind, syntax)
    return entity.associate("127.0.0.1", port, ae_title="BAKIT")


@pytest.mark.filterwarnings("ignore:Unknown encoding")  # of the client
def test_what_else_a_ward_sends(start, films, tmp_path, caplog):
    """Each is refused or answered for itself; the next film is answered as usual."""
    spool, peer = tmp_path / "spool", peer_that_answers([], got := [])
    node = start(peer.server_address[1])
    broken = associate(node.port, DigitalXRayImageStorageForPresentation)
    broken.dul.socket.socket.sendall(b"\x04\x00\x00\x01\x00\x00" + bytes(500))  # half a PDU
    broken.abort()
    assert not associate(node.port, ModalityPerformedProcedureStep).is_established
    wait_until(lambda: "not accepted: Modality Performed Procedure Step" in caplog.text)

    frames = dataset(NumberOfFrames=2, PatientName=NAME)
    frames.PixelData *= 2
    foreign = dataset(SpecificCharacterSet="ISO_IR 192", PatientName="Søren^Ångström")
    unknown = stored(dataset(SpecificCharacterSet="ISO_IR 100", PatientName="Müller"))
    other = dataset(PatientName=NAME, PatientID="another")
    other.SOPInstanceUID = other.file_meta.MediaStorageSOPInstanceUID = foreign.SOPInstanceUID
    sent = [stored(frames), stored(foreign), unknown.replace(b"ISO_IR 100", b"ISO_IR 1X0")]
    sent += [stored(other), films[0].read_bytes()]
    assoc = associate(node.port, DigitalXRayImageStorageForPresentation)
    for data in sent:
        (tmp_path / "film").write_bytes(data)
        assert assoc.send_c_store(tmp_path / "film").Status == 0
    assoc.release()
    try:
        wait_until(lambda: len(in_spool(spool, "done")) == len(sent) - 1)
    finally:
        peer.shutdown()
    assert len(set(got)) == len(sent) - 1  # two films of one UID have a report each
    (line,) = [text for text in warnings_of(caplog) if "refused" in text]
    assert line.endswith("refused, no report: contains 2 frames; use a file of one radiograph")
    assert not any(name in caplog.text for name in ("Secret", "ngstr", "ller"))
    assert json.loads(web(node, "health"))["status"] == "ok"


@pytest.mark.parametrize("which", [0, -1])
def test_a_dead_thread_is_bad_health(start, which):
    node = start(free_port())
    ended = threading.Thread(target=int)
    ended.start()
    ended.join()
    node._threads[which], living = ended, node._threads[which]
    with pytest.raises(HTTPError, match="503"):
        web(node, "health")
    node._threads[which] = living


def test_old_films_are_deleted(tmp_path):
    opened = Spool(tmp_path, 0)
    for key in ("a", "b"):
        opened.take(key, b"film")
        opened.refuse(key)
    os.utime(tmp_path / "refused/a", (0, 0))
    opened.sweep(30)
    assert opened.names("refused") == ["b"]
    with pytest.raises(InputError, match="another node uses this spool"):
        Spool(tmp_path, 0)
    opened.close()


def test_pauses_double_and_end(monkeypatch):
    monkeypatch.setattr(deliver, "FIRST_S", 1.0)
    pauses = deliver.Backoff()
    assert [pauses.failed("x") for _ in range(11)] == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert not pauses.is_due("x")
    assert pauses.is_due("y")
    assert pauses.worked("x")
    assert pauses.is_due("x")
    assert not pauses.worked("x")


def test_the_metrics_show_a_drift_from_the_checkpoint(runtime, films):
    samples = {"F": (0, 50, 0, 0, 0), "M": (10, 20, 20, 0, 0)}
    samples = {sex: tuple(max(n, 1) for n in numbers) for sex, numbers in samples.items()}
    total = sum(map(sum, samples.values()))
    offsets = dict.fromkeys("FM", ((-12.0, 14.0),) * 5)
    intervals = Intervals(0.9, EDGES_MONTHS, offsets, samples)
    manifest = msgspec.structs.replace(runtime.bundle.manifest, intervals=intervals)
    metrics = Metrics(manifest)
    prediction = runtime.predict(films[0].read_bytes())
    for _ in range(20):
        metrics.film(msgspec.structs.replace(prediction, age_months=80.0, sex="F"), 0.1)
    text = metrics.text({})
    share = samples["F"][1] / total
    assert f"bakit_node_drift {1 - share:.10g}" in text
    assert 'reference_share{measure="interval_months",le="28"} 1' in text
    assert 'reference_share{measure="interval_months",le="24"} 0' in text
    assert 'age_months_bucket{sex="F",le="84"} 20' in text
    assert 'age_months_bucket{sex="F",le="72"} 0' in text
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{(\w+="[^"]*",?)+\})? [-\d.e+]+', line), (
            line
        )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--peer", "PACS"], "--peer 'PACS' is not a DICOM peer; use TITLE@HOST:PORT"),
        (["--peer", "PACS@host:99999"], "is not a DICOM peer"),
        (["--peer", "PACS@two words:104"], "is not a DICOM peer"),
        (["--peer", "PACS@host:\u0661"], "is not a DICOM peer"),
        (["--peer", "A-TITLE-OF-17-CHR@host:104"], "is no AE title; use 1 to 16"),
        (["--title", ""], "--title: '' is no AE title"),
        (["--allow", "CR@10.0.0"], "--allow 'CR@10.0.0': '10.0.0' does not appear"),
        (["--allow", "CR@10.0.0.5/24"], "has host bits set; use TITLE@10.0.0.5"),
        (["--bind", "0.0.0.0"], "--bind 0.0.0.0 needs --allow"),
        (["--bind", "::"], "--bind :: needs --allow"),
        (["--tls-cert", "cert.pem"], "TLS needs three files: add --tls-key"),
        (["--peer-tls"], "--peer-tls needs --tls-cert"),
        (["--bundle", "nothing"], "nothing"),
        (["--associations", "0"], "0 is not possible; use 1 to 200"),
    ],
)
def test_bad_options(refused, words, said):
    given = words if "--peer" in words else ["--peer", "PACS@host:104", *words]
    assert said in refused("node", "--spool", "spool", *given)


def test_silent_clients_of_the_metrics_do_not_shut_others_out(start, monkeypatch):
    monkeypatch.setattr(node_run, "MAX_CLIENTS", 3)
    node = start(1)
    with ExitStack() as stack:
        address = ("127.0.0.1", node.web_port)
        silent = [stack.enter_context(socket.create_connection(address)) for _ in range(5)]
        assert '"status": "ok"' in web(node, "health")
        for oldest in silent[:3]:
            oldest.settimeout(300)
            assert oldest.recv(1) == b"", "closed for a newer one"


def test_ports_in_use(start, tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1 port {port}"):
            start(1, port=port)
        with pytest.raises(InputError, match=f"cannot listen on 127.0.0.1 port {port}.*--web-port"):
            start(1, web_port=port)
    start(1)  # the spool is free again


@pytest.mark.parametrize(
    ("rule", "title", "address", "admitted"),
    [
        ("CR", "CR", "10.0.0.9", True),
        ("CR", "cr", "10.0.0.9", False),
        ("CR@10.0.0.5", "CR", "10.0.0.5", True),
        ("CR@10.0.0.5", "CR", "::ffff:10.0.0.5", True),
        ("*@10.0.0.0/24", "ANY", "10.0.0.77", True),
        ("*@10.0.0.0/24", "ANY", "10.0.1.77", False),
        ("*@fe80::/10", "ANY", "fe80::1%eth0", True),
        ("*@10.0.0.0/24", "ANY", "::1", False),
    ],
)
def test_rules_of_access(rule, title, address, admitted):
    assert Access.parse(rule).admits(title, address) is admitted


def test_compressed_films(start, films, tmp_path):
    """A sender's own syntax reaches the spool unchanged."""
    node = start(free_port())
    data = dataset()
    data.compress(RLELossless, generate_instance_uid=False)
    entity = pynetdicom.AE("CR")
    entity.add_requested_context(DigitalXRayImageStorageForPresentation, RLELossless)
    assoc = entity.associate("127.0.0.1", node.port, ae_title="BAKIT")
    assert assoc.send_c_store(data).Status == 0
    assoc.release()
    wait_until(lambda: in_spool(tmp_path / "spool", "out"))
    assert in_spool(tmp_path / "spool", "refused") == []


@given(st.text(max_size=40))
@example("PACS@host:" + "1" * 5000)
@example("PACS@[::1]:104")
def test_any_text_is_read_or_refused(text):
    for parse in (Peer.parse, Access.parse):
        with suppress(InputError):
            found = parse(text)
            assert 1 <= len(found.title) <= 16
            assert found.title.isascii()
