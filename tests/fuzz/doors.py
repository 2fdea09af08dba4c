"""Attacks on the doors whose inputs are made by hand: names, keys, requests, answers."""

from __future__ import annotations

import base64
import json
import shutil
import socket
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench.device.answers import DeviceInfo, decode, read_progress
from bakit.bench.device.frames import AnswerError, FrameReader
from bakit.bench.device.ssh import Remote
from bakit.bench.phone.server import PhoneServer
from bakit.bench.phone.session import Session
from bakit.bundle import MANIFEST, Bundle, seal
from bakit.errors import BakitError
from bakit.files import sha256
from bakit.signature import SUFFIX, sign

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

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


def phone_server(tries: int, draw: random.Random) -> Iterator[Attack]:
    """Raw requests without and with the token; the page is served after each."""
    server = PhoneServer("127.0.0.1", 0, None)
    session = Session(SimpleNamespace(bundles=[]))  # type: ignore[arg-type]
    server.session, server.content = session, {"page": b"the page"}
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    token = session.token.encode()

    def ask(request: bytes) -> bytes:
        with socket.create_connection(server.server_address, LIMIT_S) as raw:
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
    try:
        for index, request in enumerate(requests):
            yield Attack(f"request {index}", lambda r=request: attempt(r), False)
    finally:
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
