"""A device that is reached over ssh: commands, files, and what to say when it cannot be."""

from __future__ import annotations

import os
import secrets
import selectors
import shlex
import shutil
import subprocess
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, TypeVar

from bakit.bench.device.frames import MAX_OTHER, AnswerError, FrameReader, shown
from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence

Answer = TypeVar("Answer")

LOST = 255
"""Exit status of ssh itself without a connection, or after losing it."""


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


@dataclass(frozen=True)
class Remote:
    """The address of a device; the user's own ssh configuration supplies the rest.

    Attributes:
        host: ``user@device``, or a name of the ssh configuration.
        port: Port; ssh's own choice when None.
        identity: File of a private key; ssh's own choice when None.
        options: As after ssh's ``-o``, such as ``UserKnownHostsFile=FILE``.

    Raises:
        InputError: If the host is none, or the key is not there.
    """

    host: str
    port: int | None = None
    identity: Path | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what ssh would take for an option, and what is no host's name."""
        parts = (self.host, self.host.rpartition("@")[2])
        letters = all(c.isprintable() and not c.isspace() for c in self.host)
        if not letters or any(not part or part.startswith("-") for part in parts):
            message = f"--host {self.host!r} is no host; use user@device"
            raise InputError(message)
        if self.identity is not None and not self.identity.is_file():
            message = f"--identity {self.identity}: no such file; use the private key"
            raise InputError(message)

    def command(self, remote: str) -> list[str]:
        """Return the words that run a shell command on the device.

        Raises:
            MissingProgramError: If there is no ssh here.
        """
        ssh = shutil.which("ssh")
        if ssh is None:
            need = "bakit bench --host needs ssh"
            raise MissingProgramError(need, "sudo apt install openssh-client")
        # Nothing is asked of a person in the middle of a benchmark; a dead line is noticed.
        words = [ssh, "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
        words += ["-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3"]
        if self.port is not None:
            words += ["-p", str(self.port)]
        if self.identity is not None:
            words += ["-i", str(self.identity), "-o", "IdentitiesOnly=yes"]
        for option in self.options:
            words += ["-o", option]
        return [*words, "--", self.host, remote]

    def shell(self, remote: str, data: Path | None = None, limit: Limit = Limit()) -> None:
        """Run a shell command on the device; it reads the file ``data``.

        Raises:
            ConnectionLostError: If the connection was there and ended.
            InputError: If the device cannot be reached, or the command fails or does not end.
        """
        printed = 0
        for chunk in self._output(remote, remote, limit, data):
            printed += len(chunk)
            if printed > MAX_OTHER:
                message = f"{self.host}: {shown(remote, 120)}: prints more than {MAX_OTHER} bytes"
                raise InputError(message)

    def ask(
        self,
        agent: Sequence[str],
        question: Sequence[str],
        read: Callable[[bytes], Answer],
        limit: Limit,
    ) -> Answer:
        """Return the agent's answer to a question; the arguments and errors are ``follow``'s."""
        with closing(self.follow(agent, question, read, limit)) as answers:
            first, *others = islice(answers, 2)
        if others:
            message = f"{self.host}: the agent answered {question[0]!r} more than once"
            raise InputError(message)
        return first

    def follow(
        self,
        agent: Sequence[str],
        question: Sequence[str],
        read: Callable[[bytes], Answer],
        limit: Limit,
    ) -> Generator[Answer, None, None]:
        """Give the agent's answers to a question as they come, at least one.

        Raises:
            ConnectionLostError: If the connection was there and ended.
            InputError: If the device cannot be reached, the command fails or does not end, or
                there is no answer that can be read.
        """
        token = secrets.token_hex(16)
        frames = FrameReader(token, limit.max_bytes)
        remote = shlex.join([*agent, "--frame", token, *question])
        answered = False
        try:
            for chunk in self._output(remote, f"agent.py {question[0]}", limit):
                for document in frames.feed(chunk):
                    yield read(document)
                    answered = True
            frames.close(answered=answered)
        except AnswerError as error:
            line = frames.first_line
            said = f"; the device first printed: {line}" if line else "; the device printed nothing"
            problem = shown(str(error), 200)
            message = f"{self.host}: the agent's answer to {question[0]!r} {problem}{said}"
            raise InputError(message) from error

    def _output(
        self, remote: str, name: str, limit: Limit, data: Path | None = None
    ) -> Iterator[bytes]:
        """Give what a command prints on the device as it comes; raise what its end means."""
        errors, until = b"", time.monotonic() + limit.seconds
        with (
            (data or Path(os.devnull)).open("rb") as file,
            subprocess.Popen(  # noqa: S603  # the user's own host
                self.command(remote), stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            ) as process,
            selectors.DefaultSelector() as open_streams,
        ):
            for stream in (process.stdout, process.stderr):
                open_streams.register(stream, selectors.EVENT_READ)  # type: ignore[arg-type]
            heard, complained = time.monotonic(), 0
            try:
                while open_streams.get_map() or process.poll() is None:
                    if time.monotonic() > until or complained > MAX_OTHER:
                        self._give_up(name, limit, complained)
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
        self._check_end(process.wait(), errors.decode("utf-8", "backslashreplace"), name)

    def _give_up(self, name: str, limit: Limit, complained: int) -> NoReturn:
        """Raise that a command does not end."""
        why = f"was not done after {limit.seconds:.0f} seconds"
        if complained > MAX_OTHER:
            why = f"printed more than {MAX_OTHER} bytes of errors"
        message = f"{self.host}: {shown(name, 120)}: {why}; try it again, or restart the device"
        raise InputError(message)

    def _check_end(self, status: int, errors: str, name: str) -> None:
        """Raise what an exit status means."""
        lines = [shown(line) for line in errors.splitlines() if line.strip()]
        if status == LOST or status < 0:  # ssh itself was killed
            self._refuse(lines[-1] if lines else "no connection")
        if status:
            message = f"{self.host}: {lines[-1] if lines else f'{shown(name, 120)} failed'}"
            if "No space left" in message:
                message += "; free some space on the device"
            raise InputError(message)

    def _refuse(self, said: str) -> None:
        """Raise what a failed connection means."""
        remedies = {
            "Permission denied": f"put your key there: ssh-copy-id {self.host}",
            "Host key verification failed": f"connect once and check its key: ssh {self.host}",
            "REMOTE HOST IDENTIFICATION": "its key has changed; make sure that it is the device",
            "Could not resolve": "check the name",
            "Connection refused": "start sshd on the device, or check --port",
            "timed out": "check that it is on and in this network",
            "No route to host": "check that it is on and in this network",
        }
        for mark, remedy in remedies.items():
            if mark.lower() in said.lower():
                message = f"{self.host}: {said.removeprefix('ssh: ')}; {remedy}"
                raise InputError(message)
        raise ConnectionLostError(said)
