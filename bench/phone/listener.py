"""Serve the page, over the network or through adb."""

from __future__ import annotations

import ipaddress
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench.phone.adb import adb_reverse, find_adb
from bakit.bench.phone.server import PhoneServer
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bakit.bench.phone.messages import Provider
    from bakit.bench.phone.session import Session


@dataclass(frozen=True)
class PhoneOptions:
    """Connection to the phone, and the backend in its browser.

    Attributes:
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        bind: Address to listen on.
        port: Port; 0 for a free port.
        adb: Whether to connect through adb instead of the network.
        benchmark_binary: Programs for the phone that take the times instead of its browser:
            LiteRT's ``benchmark_model``, ONNX Runtime's ``onnxruntime_perf_test``, or both.
        wait_s: Timeout until the user presses Start.
        idle_s: Timeout between messages after that.
        run_s: Timeout of one run of a benchmark binary.

    Raises:
        InputError: If ``adb`` and the other options contradict each other.
    """

    provider: Provider = "wasm"
    bind: str = "127.0.0.1"
    port: int = 0
    adb: bool = False
    benchmark_binary: tuple[Path, ...] = ()
    wait_s: float = 900.0
    idle_s: float = 120.0
    run_s: float = 1800.0

    def __post_init__(self) -> None:
        if self.benchmark_binary and not self.adb:
            message = "--benchmark-binary runs on a phone on a cable: add --adb"
            raise InputError(message)
        if self.adb and not is_loopback(self.bind):
            message = f"--adb uses the USB cable: remove --bind {self.bind}"
            raise InputError(message)


class PageAddress(NamedTuple):
    """The address of the page, with its token, and the SHA-256 of the certificate if it has one."""

    url: str
    fingerprint: str | None


@dataclass(frozen=True)
class Listener:
    """A bound server that does not serve yet."""

    server: PhoneServer
    host: str
    fingerprint: str | None
    adb: bool

    @contextmanager
    def serve(self, session: Session, content: Mapping[str, Path | bytes]) -> Iterator[PageAddress]:
        """Serve from a thread while the ``with`` block runs; raises ``InputError`` if adb fails."""
        self.server.session, self.server.content = session, content
        port = int(self.server.server_address[1])
        with ExitStack() as stack:
            if self.adb:
                stack.enter_context(adb_reverse(port))
            thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self.server.drain)
            stack.callback(self.server.shutdown)
            scheme = "http" if self.server.tls is None else "https"
            url = page_url(scheme, self.host, port, session.token)
            yield PageAddress(url, self.fingerprint)


@contextmanager
def open_listener(options: PhoneOptions) -> Iterator[Listener]:
    """Bind the server, with a certificate unless the phone is connected by USB.

    Raises:
        InputError: If the address cannot be used.
        MissingBackendError: If the library for certificates is not installed.
        MissingProgramError: If adb is needed and not installed.
    """
    tls, fingerprint = None, None
    if options.adb:
        find_adb()
        host = "localhost"  # on the phone; browsers trust it without a certificate
    else:
        from bakit.bench.phone.certificate import make_context  # noqa: PLC0415  # an extra

        host = reachable_host(options.bind)
        tls, fingerprint = make_context([host, "localhost"])
    with PhoneServer(options.bind, options.port, tls) as server:
        yield Listener(server, host, fingerprint, options.adb)


def is_loopback(bind: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def reachable_host(bind: str) -> str:
    """Return the address that a phone must open, given the address that the server listens on.

    Raises:
        InputError: If the server listens on all addresses and this machine's address is unknown.
    """
    try:
        everywhere = ipaddress.ip_address(bind).is_unspecified
    except ValueError:
        everywhere = False
    if not everywhere:
        return bind
    found = network_address()
    if found is None:
        message = f"--bind {bind}: this machine's network address is unknown; pass it to --bind"
        raise InputError(message)
    return found


def network_address() -> str | None:
    """Return this machine's network address; None without a network.

    It is the source address of the route to a reserved address; nothing is sent.
    """
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))
        except OSError:
            return None
        address: str = probe.getsockname()[0]
    return None if ipaddress.ip_address(address).is_loopback else address


def page_url(scheme: str, host: str, port: int, token: str) -> str:
    """Return the address of the page."""
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}/{token}/"
