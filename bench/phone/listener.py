"""Where the page is found: an address, a certificate for it, and the server behind them."""

from __future__ import annotations

import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, get_args

from bakit.bench.phone import address
from bakit.bench.phone.messages import Provider
from bakit.bench.phone.server import PhoneServer
from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bakit.bench.phone.server import Routes


@dataclass(frozen=True)
class PhoneOptions:
    """How a phone is reached, and what runs there.

    Attributes:
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        bind: Address to listen on.
        port: Port; 0 for any free one.
        adb: Reach the phone through adb instead of the network.
        wait_s: Longest time until a person presses the page's button.
        idle_s: Longest silence after that.

    Raises:
        InputError: If a value is not possible.
    """

    provider: Provider = "wasm"
    bind: str = "127.0.0.1"
    port: int = 0
    adb: bool = False
    wait_s: float = 900.0
    idle_s: float = 120.0

    def __post_init__(self) -> None:
        """Refuse what cannot work before anything is prepared."""
        if self.provider not in get_args(Provider):
            message = f"provider {self.provider!r} is unknown; use {', '.join(get_args(Provider))}"
            raise InputError(message)
        if self.adb and not address.is_loopback(self.bind):
            message = f"with adb the phone uses the cable: leave out --bind {self.bind}"
            raise InputError(message)


class PageAddress(NamedTuple):
    """Where the page is.

    Attributes:
        url: Its address, token included.
        fingerprint: SHA-256 of the certificate; None without one.
        loopback: Whether only this machine, or a phone through adb, can open it.
    """

    url: str
    fingerprint: str | None
    loopback: bool


@dataclass(frozen=True)
class Listener:
    """A bound server that does not answer yet.

    Attributes:
        server: The server.
        host: Name or address by which the phone knows it.
        fingerprint: SHA-256 of the certificate; None without one.
        adb: Whether the phone is on a cable.
    """

    server: PhoneServer
    host: str
    fingerprint: str | None
    adb: bool

    @contextmanager
    def serve(self, routes: Routes) -> Iterator[PageAddress]:
        """Answer, from a thread, while the block runs.

        Raises:
            InputError: If adb fails.
        """
        self.server.routes = routes
        port = self.server.server_port
        with ExitStack() as stack:
            if self.adb:
                stack.enter_context(address.adb_reverse(port))
            thread = threading.Thread(target=self.server.serve_forever, args=(0.1,), daemon=True)
            thread.start()
            stack.callback(thread.join)
            stack.callback(self.server.drain)
            stack.callback(self.server.shutdown)
            scheme = "http" if self.server.tls is None else "https"
            url = address.page_url(scheme, self.host, port, routes.session.token)
            bound = str(self.server.server_address[0])
            yield PageAddress(url, self.fingerprint, address.is_loopback(bound))


@contextmanager
def open_listener(options: PhoneOptions) -> Iterator[Listener]:
    """Bind the server, with a certificate unless the phone is on a cable.

    Raises:
        InputError: If the address cannot be used.
        MissingBackendError: If what makes certificates is not installed.
        MissingProgramError: If adb is needed and not installed.
    """
    tls, fingerprint = None, None
    if options.adb:
        address.find_adb()
        host = "localhost"  # the phone's own: browsers trust it without a certificate
    else:
        from bakit.bench.phone.certificate import make_context  # noqa: PLC0415  # an extra

        host = address.reachable_host(options.bind)
        tls, fingerprint = make_context([host, "localhost"])
    with PhoneServer(options.bind, options.port, tls) as server:
        yield Listener(server, host, fingerprint, options.adb)
