"""Attacks on the doors whose inputs are made by hand: names, keys, requests, answers."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import socket
import tarfile
import threading
import zipfile
from collections import Counter
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, NamedTuple

import cv2

from bakit.bench.device.answers import DeviceInfo, decode, read_progress
from bakit.bench.device.frames import AnswerError, FrameReader
from bakit.bench.device.ssh import Remote
from bakit.bench.phone.server import PhoneServer
from bakit.bench.phone.session import Session
from bakit.bundle import MANIFEST, Bundle, seal
from bakit.errors import BakitError
from bakit.files import sha256
from bakit.phantoms import make_phantom
from bakit.runtime import Runtime
from bakit.score.sources import MAX_PACKED, find_films, loaded
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


def sealed_files(prepared: Path, work: Path) -> Attacks:
    """Files of a bundle that are exchanged between its check and the moment they are opened."""
    copy = shutil.copytree(prepared / "bundle", work / "sealed")
    elsewhere = work / "elsewhere"
    bundle = Bundle.read(copy)

    def link(path: Path, _: bytes) -> None:
        path.symlink_to(elsewhere)

    def folder_link(path: Path, data: bytes) -> None:
        folder = work / "folder"
        folder.mkdir(exist_ok=True)
        (folder / path.name).write_bytes(data[:-1] + b"x")
        path.symlink_to(folder / path.name)

    def sparse(path: Path, _: bytes) -> None:
        with path.open("wb") as file:
            file.truncate(1 << 40)

    def flipped(data: bytes) -> bytes:
        return data[:-1] + bytes([data[-1] ^ 1])

    changes: dict[str, Callable[[Path, bytes], object]] = {
        "a link": link,
        "a link to a changed file": folder_link,
        "a link to itself": lambda path, _: path.symlink_to(path.name),
        "a link to a device": lambda path, _: path.symlink_to("/dev/zero"),
        "a pipe": lambda path, _: os.mkfifo(path),
        "a folder": lambda path, _: path.mkdir(),
        "a socket": lambda path, _: _bind(path),
        "a sparse file of a TiB": sparse,
        "nothing": lambda path, _: None,
        "no bytes": lambda path, _: path.write_bytes(b""),
        "one more byte": lambda path, data: path.write_bytes(data + b"\0"),
        "one byte less": lambda path, data: path.write_bytes(data[:-1]),
        "one changed bit": lambda path, data: path.write_bytes(flipped(data)),
    }

    def attempt(name: str, change: Callable[[Path, bytes], object]) -> None:
        path = copy / name
        data = path.read_bytes()
        elsewhere.write_bytes(data)
        path.unlink()
        try:
            change(path, data)
            Runtime(bundle, 1).close()  # opens the models
            bundle.files.read(name)
        finally:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink(True)
            path.write_bytes(data)

    names = [item.path for item in (*bundle.manifest.artifacts, bundle.manifest.golden[0])]
    return [
        Attack(f"{change} as {name}", lambda n=name, c=call: attempt(n, c))
        for name in names
        for change, call in changes.items()
    ]


def _bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(path))


def archives(work: Path) -> Attacks:
    """Archives of films with odd members; each must give rows, and write nothing."""
    place = work / "archives"
    place.mkdir()
    picture = cv2.imencode(".png", make_phantom(3, height=96).image)[1].tobytes()

    def read(path: Path) -> None:
        before = sorted(work.rglob("*"))
        found = list(loaded(find_films([str(path)], "F", Counter())))
        if sorted(work.rglob("*")) != before:
            message = "files were written"
            raise AssertionError(message)
        if any(len(film.data) > MAX_PACKED for film in found):
            message = "more bytes than the limit"
            raise AssertionError(message)

    def member(path: Path, name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> None:
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, target
        entry.size = len(picture) if kind == tarfile.REGTYPE else 0
        with tarfile.open(path, "w") as file:
            file.addfile(entry, io.BytesIO(picture))
        read(path)

    def zipped(path: Path, name: str, mode: int = 0o100644, data: bytes = picture) -> None:
        info = zipfile.ZipInfo(name)
        info.external_attr = mode << 16
        info.compress_type = zipfile.ZIP_DEFLATED
        with zipfile.ZipFile(path, "w") as file:
            file.writestr(info, data)
        read(path)

    def damaged(path: Path, position: int) -> None:
        zipped(path, "a.png")
        data = bytearray(path.read_bytes())
        data[position % len(data)] ^= 0xFF
        path.write_bytes(data)
        read(path)

    kinds = {
        name: getattr(tarfile, name)
        for name in ("SYMTYPE", "LNKTYPE", "FIFOTYPE", "CHRTYPE", "BLKTYPE", "DIRTYPE", "CONTTYPE")
    }
    tar, pack = place / "x.tar", place / "x.zip"
    found = [
        Attack(f"{path.name} {name!r}", lambda c=call, p=path, n=name: c(p, n), False)
        for path, call in ((tar, member), (pack, zipped))
        for name in ("../../x.png", "/etc/x.png", "a\\..\\x.png", "x" * 300 + ".png", "\x1b[2J.png")
    ]
    found += [
        Attack(f"tar {kind}", lambda k=code: member(tar, "a.png", k, "/etc/passwd"), False)
        for kind, code in kinds.items()
    ]
    bomb = bytes(MAX_PACKED + 1)
    found.append(Attack("a zip bomb", lambda: zipped(pack, "a.png", data=bomb), False))
    found.append(Attack("a link in a zip", lambda: zipped(pack, "a.png", 0o120777), False))
    found.append(
        Attack("a zip in a zip", lambda: zipped(pack, "a.zip", data=pack.read_bytes()), False)
    )
    found += [
        Attack(f"zip byte {index}", lambda i=index: damaged(pack, i * 7), False)
        for index in range(30)
    ]
    for name, data in {
        "empty": b"",
        "text": b"x" * 99,
        "gzip": gzip.compress(b"x" * 10**6),
    }.items():
        for suffix in (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2"):
            path = place / f"{name}{suffix}"
            path.write_bytes(data)
            found.append(Attack(path.name, lambda p=path: read(p), False))
    return found


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
