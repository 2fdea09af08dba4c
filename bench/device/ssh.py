"""A device that is reached over ssh: commands, files, and what to say when it cannot be."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bakit.errors import InputError, MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

LOST = 255
"""Exit status of ssh itself without a connection, or after losing it."""


class ConnectionLostError(Exception):
    """The connection ended; what runs on the device goes on."""


@dataclass(frozen=True)
class Remote:
    """The address of a device; the user's own ssh configuration supplies the rest.

    Attributes:
        host: ``user@device``, or a name of the ssh configuration.
        port: Port; ssh's own choice when None.
        identity: File of a private key; ssh's own choice when None.
        options: As after ssh's ``-o``, such as ``UserKnownHostsFile=FILE``.

    Raises:
        InputError: If the host is none.
    """

    host: str
    port: int | None = None
    identity: Path | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what ssh would take for an option."""
        if not self.host or self.host.startswith("-") or any(c.isspace() for c in self.host):
            message = f"--host {self.host!r} is no host; use user@device"
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

    def run(self, words: Sequence[str]) -> str:
        """Run a command on the device and return its output; words are quoted for its shell.

        Raises:
            ConnectionLostError: If the connection was there and ended.
            InputError: If the device cannot be reached, or the command fails.
        """
        return self.shell(shlex.join(words))

    def shell(self, remote: str, data: Path | None = None) -> str:
        """Run a shell command on the device, as ``run`` does; it reads the file ``data``."""
        arguments = self.command(remote)
        with (data or Path(os.devnull)).open("rb") as file:
            done = subprocess.run(  # noqa: S603  # the user's own host
                arguments, stdin=file, capture_output=True, check=False
            )
        said = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if done.returncode == LOST:
            self._refuse(said[-1] if said else "no connection")
        if done.returncode:
            message = f"{self.host}: {said[-1] if said else f'{remote} failed'}"
            if "No space left" in message:
                message += "; free some space on the device"
            raise InputError(message)
        return done.stdout.decode("utf-8", "replace")

    def lines(self, words: Sequence[str]) -> Iterator[str]:
        """Run a command on the device and give its lines as they come.

        Raises:
            ConnectionLostError: If the connection ended.
        """
        with subprocess.Popen(  # noqa: S603  # the user's own host
            self.command(shlex.join(words)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process:
            try:
                yield from process.stdout or ()
            finally:
                process.terminate()
            if process.wait() in {LOST, -15}:
                raise ConnectionLostError

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
