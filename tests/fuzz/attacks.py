"""Attack every door of bakit, and count by area what survives.

    make attack            # or: python -m tests.fuzz.attacks --tries 30

An attack survives if it ends in anything but bakit's own error or an ordinary answer: another
exception, a process that dies or does not end, a file outside of its folder. Where an attack has to
be refused (``Attack.refused``), being taken counts as survival, too. Damaged inputs (images, DICOM,
labels, reports, checkpoints, models) are those of ``tests.fuzz.entries``.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from bakit.bench.device.answers import DeviceInfo, decode, read_progress
from bakit.bench.device.frames import AnswerError, FrameReader
from bakit.bench.device.ssh import Remote
from bakit.bench.phone.server import PhoneServer, Routes
from bakit.bench.phone.session import Session
from bakit.bundle import MANIFEST, Bundle, seal
from bakit.errors import BakitError
from bakit.files import sha256
from bakit.runtime import Runtime
from bakit.signature import SUFFIX, sign
from tests.fuzz.entries import Entry, damaged, entries, prepare

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).resolve().parents[2]
TOKEN = "t" * 32
LIMIT_S = 600.0
"""Longest time of a command; none takes so long, however busy the machine is."""


class Attack(NamedTuple):
    """One try.

    Attributes:
        name: What is tried.
        call: Tries it.
        refused: Whether it has to end in one of bakit's errors.
    """

    name: str
    call: Callable[[], object]
    refused: bool = True


Attacks = list[Attack]

NAMES = (
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../x.onnx",
    "a/../../x",
    "a//b",
    "./x",
    "././regressor.onnx",
    "x/",
    "a\\b",
    "C:\\x",
    "C:x",
    "\\\\host\\x",
    "//host/x",
    "x\0y",
    "x\ny",
    "x\x1b[2J",
    "CON",
    "aux.onnx",
    "com1",
    "x.",
    "x..y",
    ".hidden",
    "a/.b",
    "x y",
    "é.onnx",
    "\u202ex",
    "\udcff",
    "x" * 241,
    "x/" * 200 + "y",
    "~",
    "~root/x",
    "$HOME/x",
    "`id`",
    "x;id",
    "%2e%2e/x",
    "x?y",
    "x*",
    "<x",
    "x:ads",
    "manifest.json",
    "REGRESSOR.onnx",
)


def bundle_paths(prepared: Path, work: Path) -> Attacks:
    """Hostile names at every place of a manifest where a path stands."""
    copy = shutil.copytree(prepared / "bundle", work / "paths")
    original = (copy / MANIFEST).read_bytes()

    def attempt(place: str, name: str) -> None:
        manifest = json.loads(original)
        model = manifest["artifacts"][0]
        if place == "golden":
            manifest["golden"][0]["path"] = name
        elif place == "companion":
            model["companions"] = [{"path": name, "sha256": "0" * 64}]
        elif place == "build":
            model["builds"] = [{"path": name, "min_version": "8.0"}]
        else:
            model["path"] = name
        (copy / MANIFEST).write_text(json.dumps(manifest), "utf-8")
        seal(copy)
        Bundle.read(copy)

    places = ("artifact", "companion", "golden", "build")
    return [
        Attack(f"{place} {name!r}", lambda p=place, n=name: attempt(p, n))
        for name in NAMES
        for place in places
    ]


def signatures(prepared: Path, work: Path, tries: int) -> Attacks:
    """Bundles whose signature, key, seal or files were changed after signing."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    copy = shutil.copytree(prepared / "bundle", work / "signed")
    keys = []
    for name in ("ours", "other"):
        key = Ed25519PrivateKey.generate()
        private, public = work / f"{name}.pem", work / f"{name}.pub"
        encoding, raw = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
        private.write_bytes(key.private_bytes(encoding, raw, serialization.NoEncryption()))
        spki = serialization.PublicFormat.SubjectPublicKeyInfo
        public.write_bytes(key.public_key().public_bytes(encoding, spki))
        keys.append(public)
    sign(copy / MANIFEST, work / "ours.pem")
    Bundle.read(copy, keys[0])
    path = copy / (MANIFEST + SUFFIX)
    good, manifest = path.read_bytes(), (copy / MANIFEST).read_bytes()
    signature = base64.b64decode(good)

    def attempt(text: bytes | None, key: Path = keys[0], document: bytes = manifest) -> None:
        (copy / MANIFEST).write_bytes(document)
        seal(copy)
        path.unlink(missing_ok=True)
        if text is not None:
            path.write_bytes(text)
        Bundle.read(copy, key)

    flips = (bytes([*signature[:i], signature[i] ^ 1, *signature[i + 1 :]]) for i in range(64))
    texts = [None, b"", b"=", b"A" * 88, good * 2, good[:40], b"\xff" * 88, bytes(10**6)]
    texts += [base64.b64encode(text) for text in (b"", signature[:63], signature + b"x", *flips)]
    found = [Attack(f"signature {i}", lambda t=text: attempt(t)) for i, text in enumerate(texts)]
    found.append(Attack("another key", lambda: attempt(good, keys[1])))
    found.append(Attack("a private key", lambda: attempt(good, work / "ours.pem")))
    found.append(Attack("no key", lambda: attempt(good, work / "none.pem")))
    changed = manifest.replace(b'"months"', b'"months" ')
    found.append(Attack("a changed manifest", lambda: attempt(good, document=changed)))
    return found[-4:] + found[: tries + 4]


def arrays(prepared: Path) -> Attacks:
    """Arrays and other objects instead of an image."""
    runtime = Runtime(prepared / "bundle", threads=1)
    shapes = [
        (),
        (0,),
        (9,),
        (0, 0),
        (1, 1),
        (0, 300),
        (300, 0),
        (2, 2, 2),
        (9, 9, 9, 9),
        (64, 64, 7),
    ]
    odd: list[Any] = [np.zeros(shape, np.float32) for shape in shapes]
    odd += [np.full((200, 160), value, np.float32) for value in (np.nan, np.inf, -np.inf, 1e38, -1)]
    odd += [
        np.zeros((200, 160), dtype) for dtype in ("c8", "?", "U4", "O", "M8[s]", "i8", "f2", "f8")
    ]
    odd += [np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), (10**6, 10**6), (0, 0))]
    odd += [None, 7, "", "no-such-file.png", b"", b"\x89PNG", [[1]], {}, Path("/dev/null"), Path()]
    odd += [
        Path("/proc/self/mem"),
        "\0",
        "x" * 5000,
        "/dev/zero",
        prepared,
        object(),
        memoryview(b"x"),
    ]
    return [
        Attack(f"array {i}: {type(item).__name__}", lambda x=item: runtime.predict(x, "F"), False)
        for i, item in enumerate(odd)
    ]


def phone_server(tries: int, draw: random.Random) -> Iterator[Attack]:
    """Raw requests without and with the token; the page is served after each."""
    server = PhoneServer("127.0.0.1", 0, None)
    session = Session(SimpleNamespace(bundles=[]))  # type: ignore[arg-type]
    server.routes = Routes(session, {}, {"page": b"the page"})
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    token = session.token.encode()

    def ask(request: bytes) -> bytes:
        with socket.create_connection(("127.0.0.1", server.server_port), LIMIT_S) as raw:
            with suppress(OSError):
                raw.sendall(request)
                raw.shutdown(socket.SHUT_WR)
            answer = b""
            with suppress(OSError):
                while part := raw.recv(1 << 16):
                    answer += part
        return answer

    def attempt(request: bytes) -> None:
        answer = ask(request)
        if b"/page" not in request and b" 200 " in answer.partition(b"\r\n")[0]:
            message = f"answered: {answer[:80]!r}"
            raise AssertionError(message)
        page = ask(b"GET /%s/page HTTP/1.0\r\n\r\n" % token)
        if not page.endswith(b"the page"):
            message = f"the page is gone: {page[:80]!r}"
            raise AssertionError(message)

    paths = [
        b"",
        b"x",
        b"..",
        b"%00",
        token[:-1],
        token + b"/..",
        token + b"/../page",
        token + b"/%2e",
    ]
    requests = [b"GET /%s HTTP/1.1\r\nHost: x\r\n\r\n" % path for path in paths]
    post = b"POST /%s/report HTTP/1.1\r\n%s\r\n\r\n%s"
    for head in (
        b"Content-Length: -1",
        b"Content-Length: 9" + b"9" * 50,
        b"Content-Length: x",
        b"X: y",
        b"Transfer-Encoding: chunked",
        b"Content-Length: 4",
        b"Content-Length: \xb2",
        b"Cookie: a=b; \x01",
        b"Cookie: " + b"a" * 60000,
    ):
        requests += [post % (token, head, body) for body in (b"", b"{}\0\0", b"[" * 9000)]
    requests += [b"", b"\0", b"\r\n" * 9, b"GET", b"\x16\x03\x01" * 9, b"GET / HTTP/9.9\r\n\r\n"]
    requests += [b"A" * 70000, b"PRI * HTTP/2.0\r\n\r\n", b"GET http://x/ HTTP/1.1\r\n\r\n"]
    requests += [bytes(draw.randrange(256) for _ in range(300)) for _ in range(tries)]
    for index, request in enumerate(requests):
        yield Attack(f"request {index}", lambda r=request: attempt(r), False)
    server.shutdown()
    server.server_close()


def ssh_answers(tries: int, draw: random.Random) -> Attacks:
    """Output of a device: banners, cut, odd and enormous frames, wrong documents."""

    def frame(data: bytes, token: str = TOKEN, size: int | None = None) -> bytes:
        head = f"\nbakit-frame {token} {len(data) if size is None else size} {sha256(data)}\n"
        return head.encode() + data

    def attempt(output: bytes) -> None:
        reader = FrameReader(TOKEN, 1 << 16)
        try:
            documents = list(reader.feed(output))
            reader.close(answered=bool(documents))
            for document in documents:
                decode(document, DeviceInfo)
                read_progress(document, 1)
        except AnswerError as error:
            raise BakitError(str(error)) from error

    documents = [
        b"",
        b"null",
        b"[]",
        b"{}",
        b"1e999",
        b"[" * 50000,
        b"\xff",
        b'{"state": "mining"}',
        b'{"state": 7}',
        b'{"numpy": "\\ud800"}',
        b'{"free_mb": NaN}',
        b'"' + b"x" * 60000 + b'"',
    ]
    outputs = [frame(data) for data in documents]
    outputs += [frame(b"{}", size=size) for size in (0, 1, 3, 10**11, 1 << 16)]
    outputs += [
        b"",
        b"Welcome!\n",
        frame(b"{}", "u" * 32),
        frame(b"{}")[:-1],
        b"\n" * (1 << 21),
        b"x" * (1 << 21),
        b"\nbakit-frame " * 1000,
        frame(b"{}").replace(b"{}", b"[]"),
    ]
    outputs += [
        bytes(draw.choice(b'{}[]":,0x\n \xff') for _ in range(200)) + frame(b"{" + b"}" * (i % 3))
        for i in range(tries)
    ]
    return [Attack(f"output {i}", lambda o=output: attempt(o)) for i, output in enumerate(outputs)]


def host_strings() -> Attacks:
    """Names of hosts that are options, commands or nothing."""
    hosts = (
        "",
        " ",
        "-",
        "-oProxyCommand=id",
        "--",
        "a b",
        "a\nb",
        "a\0",
        "\x1b[2J",
        "@",
        "a@",
        "@-x",
        "u@-oProxyCommand=id",
        "a@ b",
        "\u202e",
        "x\ty",
        "-v",
        "-F/etc/passwd",
        "u@",
        "\x9b31m",
    )
    return [Attack(f"host {host!r}", lambda h=host: Remote(h).command("true")) for host in hosts]


def commands(work: Path) -> Attacks:
    """Commands under signals and limits: one line, no traceback, nothing left behind."""

    def run(code: str, words: str, stop: int | None = None, wait_s: float = 0.0) -> None:
        place = Path(tempfile.mkdtemp(dir=work))
        process = subprocess.Popen(
            [sys.executable, "-c", f"{code}\nfrom bakit.cli import main\nmain()", *words.split()],
            cwd=place,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        if stop is not None:
            time.sleep(wait_s)
            process.send_signal(stop)
        _, error = process.communicate(timeout=LIMIT_S)
        # Before bakit's first line runs, a signal is Python's own affair.
        if "Traceback" in error and "bakit" in error:
            raise AssertionError(error[-800:])
        if left := [str(path) for path in place.rglob(".*")]:
            raise AssertionError(str(left))

    limits = {
        "no room for a file": "resource.RLIMIT_FSIZE, (9000, 9000)",
        "few open files": "resource.RLIMIT_NOFILE, (40, 40)",
        "no core": "resource.RLIMIT_CORE, (0, 0)",
    }
    phantoms = "phantoms --out out -n 40 --height 300"
    found = [
        Attack(
            name, lambda c=f"import resource; resource.setrlimit({value})": run(c, phantoms), False
        )
        for name, value in limits.items()
    ]
    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)
    for stop in signals:
        for wait_s in (0.6, 1.2, 2.4):
            call = lambda s=stop, w=wait_s: run("", phantoms, s, w)  # noqa: E731
            found.append(Attack(f"{stop.name} after {wait_s} s", call, False))
    return found


def damaged_inputs(name: str, entry: Entry, tries: int, seed: int) -> Attacks:
    """Inputs that were damaged at random."""
    return [
        Attack(
            f"{name} {index}",
            lambda i=index: entry.call(damaged(name, entry, random.Random(f"{seed}/{name}/{i}"))),
            False,
        )
        for index in range(tries)
    ]


def areas(prepared: Path, work: Path, tries: int, seed: int) -> dict[str, Callable[[], Any]]:
    """Return what makes the attacks of each area.

    Args:
        prepared: What ``tests.fuzz.entries.prepare`` made.
        work: An empty folder.
        tries: Random tries of each area that has them.
        seed: Seed of the random ones.
    """
    draw = random.Random(seed)
    found: dict[str, Callable[[], Any]] = {
        "bundle paths": lambda: bundle_paths(prepared, work),
        "signatures": lambda: signatures(prepared, work, tries),
        "arrays": lambda: arrays(prepared),
        "phone server": lambda: phone_server(tries, draw),
        "ssh answers": lambda: ssh_answers(tries, draw),
        "host strings": host_strings,
        "signals and limits": lambda: commands(work),
    }
    doors = entries(prepared, work)
    for name, entry in doors.items():
        found[name] = lambda n=name, e=entry: damaged_inputs(n, e, tries, seed)
    return found


def survives(attack: Attack) -> str:
    """Try an attack; return what it achieved, nothing if it was parried."""
    try:
        attack.call()
    except BakitError:
        return ""
    except Exception:  # anything else is what is looked for
        return f"{attack.name}: {traceback.format_exc(limit=-2)}"
    return f"{attack.name}: taken" if attack.refused else ""


def main() -> None:
    """Print tries and survivors by area; exit with 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tries", type=int, default=30, help="random ones of each area")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    tried: Counter[str] = Counter()
    survivors: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory(prefix="bakit-attacks-") as folder:
        work = Path(folder)
        (work / "prepared").mkdir()
        prepared = prepare(work / "prepared")
        for area, make in areas(prepared, work, given.tries, given.seed).items():
            survivors[area] = []
            for attack in make():
                tried[area] += 1
                survivors[area] += filter(None, [survives(attack)])
            print(f"{area:20} {tried[area]:5} tries {len(survivors[area]):4} survivors", flush=True)
            for line in survivors[area]:
                print(line, file=sys.stderr)
    total = sum(map(len, survivors.values()))
    print(f"{'all areas':20} {tried.total():5} tries {total:4} survivors")
    sys.exit(1 if total else 0)


if __name__ == "__main__":
    main()
