"""What a command that reaches a device prints, bounded in time and size."""

from __future__ import annotations

import os
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from bakit.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

MAX_OTHER = 1 << 20
"""Bytes that a device may print besides the agent's documents."""

_CHUNK = 1 << 16
_KEPT_ERRORS = 4096


class ConnectionLostError(Exception):
    """The connection ended; what runs on the device goes on."""


@dataclass(frozen=True)
class Limit:
    """What a command on the device may take.

    Attributes:
        seconds: Longest time.
        silence_s: Longest time without output, after which the connection counts as lost.
        max_bytes: Largest document of the agent.
    """

    seconds: float = 60.0
    silence_s: float = float("inf")
    max_bytes: int = 1 << 16


@dataclass
class Output:
    """The output of a command, read as it comes; the command ends with the iteration.

    Attributes:
        command: The program here and its arguments.
        host: Name of the device, for messages.
        name: What runs on the device, for messages.
        limit: What it may take.
        data: File that the command reads; None: nothing.
        status: Exit status of the command, after the iteration.
        errors: The end of its stderr, after the iteration.
    """

    command: Sequence[str]
    host: str
    name: str
    limit: Limit
    data: Path | None = None
    status: int = 0
    errors: str = ""

    def __iter__(self) -> Iterator[bytes]:
        """Give the stdout in parts.

        Raises:
            ConnectionLostError: If nothing came for too long.
            InputError: If the command takes too long, or prints too many errors.
        """
        limit, until = self.limit, time.monotonic() + self.limit.seconds
        errors = b""
        with (
            (self.data or Path(os.devnull)).open("rb") as file,
            subprocess.Popen(  # noqa: S603  # ssh or adb, for the user's own device
                self.command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
            selectors.DefaultSelector() as open_streams,
        ):
            for stream in (process.stdout, process.stderr):
                open_streams.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
            heard, complained = time.monotonic(), 0
            try:
                while open_streams.get_map() or process.poll() is None:
                    if complained > MAX_OTHER:
                        self._fail(f"printed more than {MAX_OTHER} bytes of errors")
                    if time.monotonic() > until:
                        self._fail(f"was not done after {limit.seconds:.0f} seconds")
                    if time.monotonic() - heard > limit.silence_s:
                        silence = f"{self.host} was silent for {limit.silence_s:.0f} seconds"
                        raise ConnectionLostError(silence)
                    ended = process.poll() is not None
                    ready = open_streams.select(0.2)
                    if ended and not ready:
                        break  # a connection that ssh shares keeps its end of the streams open
                    for key, _ in ready:
                        chunk = os.read(key.fd, _CHUNK)
                        if not chunk:
                            open_streams.unregister(key.fileobj)
                        elif key.fileobj is process.stderr:
                            errors = (errors + chunk)[-_KEPT_ERRORS:]
                            complained += len(chunk)
                        else:
                            heard = time.monotonic()
                            yield chunk
            finally:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(2)
                process.kill()
        self.status = process.wait()
        self.errors = errors.decode("utf-8", "backslashreplace")

    def read(self) -> bytes:
        """Return the whole stdout.

        Raises:
            ConnectionLostError: If nothing came for too long.
            InputError: As the iteration, or if it is larger than ``MAX_OTHER``.
        """
        printed = bytearray()
        for chunk in self:
            printed += chunk
            if len(printed) > MAX_OTHER:
                self._fail(f"prints more than {MAX_OTHER} bytes")
        return bytes(printed)

    def _fail(self, what: str) -> NoReturn:
        message = (
            f"{self.host}: {shown(self.name, 120)}: {what}; try it again, or restart the device"
        )
        raise InputError(message)


def shown(text: str, length: int = 400) -> str:
    """Return a device's text as one short line that a terminal only prints."""
    safe = "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
    return safe if len(safe) <= length else f"{safe[: length - 3]}..."
