"""adb: a phone on a USB cable. Its commands, and what to do about their errors."""

from __future__ import annotations

import secrets
import shlex
import shutil
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, NamedTuple

from bakit.bench.stream import Limit, Output, shown
from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator

SHORT = Limit(seconds=30)
"""For a command that measures and copies nothing."""

_OTHER_ADB = "doesn't match this client"
_REMEDIES = {
    "No space left": "free some space on the phone",
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


class Ended(NamedTuple):
    """A shell command's exit status, and all that it printed."""

    status: int
    text: str

    @property
    def last_line(self) -> str:
        """The last line that is not empty, printable and short."""
        lines = [line.strip() for line in self.text.splitlines() if line.strip()]
        return shown(lines[-1], 200) if lines else "nothing"


def find_adb() -> str:
    """Return the path of adb; raises ``MissingProgramError`` if it is not installed."""
    adb = shutil.which("adb")
    if adb is None:
        need = "a phone on USB needs adb, from Android's platform tools"
        raise MissingProgramError(need, "install them, such as with apt install adb")
    return adb


@contextmanager
def adb_reverse(port: int) -> Iterator[None]:
    """Forward a port of the phone's ``localhost`` to this machine over USB.

    Raises:
        MissingProgramError: If adb is not installed.
        InputError: If adb fails, for example without a phone.
    """
    adb("reverse", f"tcp:{port}", f"tcp:{port}")
    try:
        yield
    finally:
        # This fails if the phone was unplugged: there is nothing to remove then.
        with suppress(InputError):
            adb("reverse", "--remove", f"tcp:{port}")


def open_on_phone(url: str) -> None:
    """Open an address in the phone's browser; raises ``InputError`` if adb fails."""
    adb("shell", "am", "start", "-a", "android.intent.action.VIEW", "-d", url)


def adb(*arguments: str, limit: Limit = SHORT) -> None:
    """Run adb.

    Raises:
        MissingProgramError: If adb is not installed.
        InputError: If it fails or does not end.
    """
    output, printed = _run(arguments, limit)
    # ``am`` ends with 0 whatever happens. adb explains an error in the lines that follow it.
    _check(arguments[0], output.status, f"{output.errors}\n{printed}")


def shell(command: str, limit: Limit = SHORT) -> Ended:
    """Run a shell command on the phone, with stdout and stderr as one text.

    Raises:
        MissingProgramError: If adb is not installed.
        InputError: If adb fails, or the command does not end or prints too much.
    """
    # Before Android 7, adb does not return the exit status; a lost connection gives none.
    token = secrets.token_hex(8)
    remote = f"sh -c {shlex.quote(command)} 2>&1; status=$?; echo; echo {token} $status"
    output, printed = _run(("shell", remote), limit)
    _check("shell", output.status, output.errors)
    text, found, status = printed.replace("\r\n", "\n").rpartition(f"\n{token} ")
    if not found or not status.strip().isdecimal():
        message = "phone: the connection ended during a command; check the cable, and bench again"
        raise InputError(message)
    return Ended(int(status), text)


def _run(arguments: tuple[str, ...], limit: Limit) -> tuple[Output, str]:
    output = Output([find_adb(), *arguments], "phone", f"adb {arguments[0]}", limit)
    return output, output.read().decode("utf-8", "backslashreplace")


def _check(name: str, status: int, printed: str) -> None:
    """Raise what an exit status, or an error among the printed lines, means."""
    lines = printed.splitlines()
    errors = [line for line in lines if line.lower().startswith(("adb: ", "error: "))]
    if status or errors:
        reason = [*errors, *filter(None, reversed(lines)), "no error message"][0].strip()
        said = next((line for line in lines if _OTHER_ADB in line), reason)
        remedy = next(text for mark, text in _REMEDIES.items() if mark in said)
        message = f"adb {name} failed ({shown(reason)}); {remedy}"
        raise InputError(message)
