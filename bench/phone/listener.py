"""Serve the page, over the network or through adb."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, get_args

from bakit.bench.phone.messages import Provider
from bakit.bench.phone.server import PhoneServer
from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from bakit.bench.phone.session import Session

ADB_TIMEOUT_S = 30


@dataclass(frozen=True)
class PhoneOptions:
    """Connection to the phone, and the backend in its browser.

    Attributes:
        provider: ``wasm``, ``webgpu`` or ``webnn``.
        bind: Address to listen on.
        port: Port; 0 for a free port.
        adb: Whether to connect through adb instead of the network.
        wait_s: Timeout until the user presses Start.
        idle_s: Timeout between messages after that.

    Raises:
        InputError: If a value is invalid.
    """

    provider: Provider = "wasm"
    bind: str = "127.0.0.1"
    port: int = 0
    adb: bool = False
    wait_s: float = 900.0
    idle_s: float = 120.0

    def __post_init__(self) -> None:
        if self.provider not in get_args(Provider):
            message = f"provider {self.provider!r} is unknown; use {', '.join(get_args(Provider))}"
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


@contextmanager
def adb_reverse(port: int) -> Iterator[None]:
    """Forward a port of the phone's ``localhost`` to this machine over USB.

    Raises:
        MissingProgramError: If adb is not installed.
        InputError: If adb fails, for example without a phone.
    """
    _adb("reverse", f"tcp:{port}", f"tcp:{port}")
    try:
        yield
    finally:
        # This fails if the phone was unplugged: there is nothing to remove then.
        with suppress(InputError):
            _adb("reverse", "--remove", f"tcp:{port}")


def open_on_phone(url: str) -> None:
    """Open an address in the phone's browser; raises ``InputError`` if adb fails."""
    _adb("shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", url)


def find_adb() -> str:
    """Return the path of adb; raises ``MissingProgramError`` if it is not installed."""
    adb = shutil.which("adb")
    if adb is None:
        need = "a phone on USB needs adb, from Android's platform tools"
        raise MissingProgramError(need, "install them, such as with apt install adb")
    return adb


_OTHER_ADB = "doesn't match this client"
_REMEDIES = {
    _OTHER_ADB: "two versions of adb end each other's server: close the program that has the "
    "other one, such as Android Studio, or put its adb first in PATH",
    "daemon": "run: adb kill-server",
    "protocol fault": "run: adb kill-server",
    "more than one": "set ANDROID_SERIAL to one of those that adb devices lists",
    "unauthorized": "unlock the phone, and allow this computer in the dialog that it shows",
    "authorizing": "unlock the phone, and allow this computer in the dialog that it shows",
    "offline": "plug the cable in again, or run: adb kill-server",
    "permissions": "sudo apt install android-sdk-platform-tools-common, then plug it in again",
    "not found": "adb devices lists the names for ANDROID_SERIAL",
    "unable to resolve": "install a browser on the phone, or open the address by hand",
    "": "switch on USB debugging on the phone, and check that adb devices lists it",
}
"""What to do about an error of adb, by a part of its text."""


def _adb(*arguments: str) -> None:
    command = [find_adb(), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # adb, found on the path
            command, capture_output=True, check=False, timeout=ADB_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        message = f"adb {arguments[0]}: no answer within {ADB_TIMEOUT_S} s; unlock the phone"
        raise InputError(message) from error
    # ``am`` ends with 0 whatever happens. adb explains an error in the lines that follow it.
    lines = (done.stderr + b"\n" + done.stdout).decode(errors="replace").splitlines()
    errors = [line for line in lines if line.lower().startswith(("adb: ", "error: "))]
    if done.returncode or errors:
        reason = [*errors, *filter(None, reversed(lines)), "no error message"][0].strip()
        said = next((line for line in lines if _OTHER_ADB in line), reason)
        remedy = next(text for mark, text in _REMEDIES.items() if mark in said)
        message = f"adb {arguments[0]} failed ({reason}); {remedy}"
        raise InputError(message)
