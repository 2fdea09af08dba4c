"""A device that is reached over ssh: commands, files, and what to say when it cannot be."""

from __future__ import annotations

import secrets
import shlex
import shutil
from contextlib import closing
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from bakit.bench.device.frames import AnswerError, FrameReader
from bakit.bench.stream import ConnectionLostError, Limit, Output, shown
from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

Answer = TypeVar("Answer")

SHORT = Limit()
LOST = 255
"""Exit status of ssh itself without a connection, or after losing it."""


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

    def shell(self, remote: str, data: Path | None = None, limit: Limit = SHORT) -> None:
        """Run a shell command on the device; it reads the file ``data``.

        Raises:
            ConnectionLostError: If the connection was there and ended.
            InputError: If the device cannot be reached, or the command fails or does not end.
        """
        output = self._output(remote, remote, limit, data)
        output.read()
        self._check_end(output, remote)

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
        answered, name = False, f"agent.py {question[0]}"
        output = self._output(remote, name, limit)
        try:
            for chunk in output:
                for document in frames.feed(chunk):
                    yield read(document)
                    answered = True
            self._check_end(output, name)
            frames.close(answered=answered)
        except AnswerError as error:
            line = frames.first_line
            said = f"; the device first printed: {line}" if line else "; the device printed nothing"
            problem = shown(str(error), 200)
            message = f"{self.host}: the agent's answer to {question[0]!r} {problem}{said}"
            raise InputError(message) from error

    def _output(self, remote: str, name: str, limit: Limit, data: Path | None = None) -> Output:
        return Output(self.command(remote), self.host, name, limit, data)

    def _check_end(self, output: Output, name: str) -> None:
        """Raise what an exit status means."""
        lines = [shown(line) for line in output.errors.splitlines() if line.strip()]
        if output.status == LOST or output.status < 0:  # ssh itself was killed
            self._refuse(lines[-1] if lines else "no connection")
        if output.status:
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
