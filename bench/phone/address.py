"""How a phone gets to this machine: over the network, or through adb."""

from __future__ import annotations

import ipaddress
import shutil
import socket
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator

ADB_TIMEOUT_S = 30


def is_loopback(bind: str) -> bool:
    """Return whether only this machine can reach an address."""
    try:
        return ipaddress.ip_address(bind).is_loopback
    except ValueError:
        return bind == "localhost"


def reachable_host(bind: str) -> str:
    """Return the address to open for what the server listens on.

    Raises:
        InputError: If it listens everywhere, and this machine's own address cannot be told.
    """
    try:
        everywhere = ipaddress.ip_address(bind).is_unspecified
    except ValueError:
        everywhere = False
    if not everywhere:
        return bind
    found = network_address()
    if found is None:
        message = (
            f"--bind {bind}: this machine's address in the network is unknown; name it instead"
        )
        raise InputError(message)
    return found


def network_address() -> str | None:
    """Return this machine's address in its network, None if it is in none.

    The route to an address that is reserved for documentation is looked up; nothing is sent.
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
    """Let the phone on the USB cable reach a port of this machine as its own ``localhost``.

    Raises:
        MissingProgramError: If adb is not installed.
        InputError: If adb fails, such as without a phone.
    """
    _adb("reverse", f"tcp:{port}", f"tcp:{port}")
    try:
        yield
    finally:
        # The phone may be unplugged by now: then there is nothing to remove.
        with suppress(InputError):
            _adb("reverse", "--remove", f"tcp:{port}")


def open_on_phone(url: str) -> None:
    """Open an address in the phone's browser.

    Raises:
        InputError: If adb fails.
    """
    _adb("shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", url)


def find_adb() -> str:
    """Return the path of adb.

    Raises:
        MissingProgramError: If it is not installed.
    """
    adb = shutil.which("adb")
    if adb is None:
        need = "a phone on a USB cable needs adb, of Android's platform tools"
        raise MissingProgramError(need, "install them, such as with apt install adb")
    return adb


def _adb(*arguments: str) -> None:
    command = [find_adb(), *arguments]
    try:
        done = subprocess.run(  # noqa: S603  # adb, found on the path
            command, capture_output=True, text=True, check=False, timeout=ADB_TIMEOUT_S
        )
    except subprocess.TimeoutExpired as error:
        message = f"adb {arguments[0]}: no answer within {ADB_TIMEOUT_S} s; unlock the phone"
        raise InputError(message) from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        message = (
            f"adb {arguments[0]} failed ({reason}); allow USB debugging on the phone, and see "
            "that adb devices lists it (of several, ANDROID_SERIAL names one)"
        )
        raise InputError(message)
