"""The options of a node, checked before it starts."""

from __future__ import annotations

import ipaddress
import re
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from bakit.errors import InputError
from bakit.files import open_regular

if TYPE_CHECKING:
    from pathlib import Path

_TITLE = re.compile(r"[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?")
"""PS3.5: 1 to 16 ASCII characters without a backslash; outer spaces do not count."""


class Peer(NamedTuple):
    """A DICOM node that takes the reports."""

    title: str
    host: str
    port: int

    @staticmethod
    def parse(text: str) -> Peer:
        """Read ``TITLE@HOST:PORT``; raises ``InputError`` for anything else."""
        title, _, address = text.rpartition("@")
        host, _, port = address.rpartition(":")
        number = int(port) if re.fullmatch("[0-9]{1,5}", port) else 0
        if not (re.fullmatch(r"\S+", host) and 0 < number < 65536):
            message = f"--peer {text!r} is not a DICOM peer; use TITLE@HOST:PORT"
            raise InputError(message)
        return Peer(check_title("--peer", title), host.strip("[]"), number)


class Access(NamedTuple):
    """Who may send radiographs: an AE title or ``*``, at an address or in a network."""

    title: str
    network: ipaddress.IPv4Network | ipaddress.IPv6Network | None

    @staticmethod
    def parse(text: str) -> Access:
        """Read ``TITLE``, ``TITLE@ADDRESS`` or ``TITLE@NETWORK``; raises ``InputError``."""
        title, at, address = text.partition("@")
        try:
            network = ipaddress.ip_network(address) if at else None
        except ValueError as error:
            message = f"--allow {text!r}: {error}; use TITLE@10.0.0.5 or TITLE@10.0.0.0/24"
            raise InputError(message) from error
        return Access(check_title("--allow", title), network)

    def admits(self, title: str, address: str) -> bool:
        """Return whether a sender may send."""
        found = ipaddress.ip_address(address.partition("%")[0])
        if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped:
            found = found.ipv4_mapped
        return self.title in {"*", title} and (self.network is None or found in self.network)


class Tls(NamedTuple):
    """PEM files for TLS: the node's certificate and key, and the CA of all who may connect."""

    certificate: Path
    key: Path
    ca: Path

    def context(self, side: ssl.Purpose) -> ssl.SSLContext:
        """Return the context of one side; raises ``InputError`` if a file cannot be used."""
        try:
            for path in self:
                open_regular(path).close()  # a pipe would be waited for
            context = ssl.create_default_context(side, cafile=self.ca)
            context.load_cert_chain(self.certificate, self.key, "")  # asks for no password
        except OSError as error:  # ssl's own errors are OSErrors
            names = error.filename or ", ".join(map(str, self))
            message = f"{names}: cannot be used for TLS ({error.strerror or error}); use PEM files "
            message += "and a key without a password"
            raise InputError(message) from error
        context.verify_mode = ssl.CERT_REQUIRED
        return context


@dataclass(frozen=True)
class NodeOptions:
    """How a node listens, and where its reports go; the defaults are those of ``bakit node``.

    Attributes:
        spool: Folder of the spool.
        peer: Takes the reports.
        title: The node's AE title.
        bind: Address to listen on.
        port: DICOM port; 0 for a free one.
        allow: Who may send; empty: everybody on this machine.
        associations: Most associations at a time.
        workers: Radiographs that are read at a time.
        web_port: Port of ``/metrics`` and ``/health`` on this machine; 0 for a free one.
        tls: Files for TLS with senders.
        peer_tls: Whether the peer needs TLS too, with the same files.
        min_free_mb: Room on the spool's disk that radiographs leave free.
        keep_days: Days after which refused radiographs are deleted and answered ones forgotten.

    Raises:
        InputError: If a value is not possible.
    """

    spool: Path
    peer: Peer
    title: str = "BAKIT"
    bind: str = "127.0.0.1"
    port: int = 11112
    allow: tuple[Access, ...] = ()
    associations: int = 8
    workers: int = 1
    web_port: int = 9112
    tls: Tls | None = None
    peer_tls: bool = False
    min_free_mb: float = 500.0
    keep_days: float = 30.0

    def __post_init__(self) -> None:
        check_title("--title", self.title)
        if not self.allow and self.bind not in {"127.0.0.1", "::1", "localhost"}:
            message = f"--bind {self.bind} needs --allow: who may send, such as MODALITY@10.0.0.5"
            raise InputError(message)
        if self.peer_tls and self.tls is None:
            message = "--peer-tls needs --tls-cert, --tls-key and --tls-ca"
            raise InputError(message)

    def admits(self, title: str, address: str) -> bool:
        """Return whether a sender may send."""
        return not self.allow or any(access.admits(title, address) for access in self.allow)


def check_title(option: str, title: str) -> str:
    """Return an AE title; raises ``InputError`` if it is none."""
    if not _TITLE.fullmatch(title):
        message = f"{option}: {title!r} is no AE title; use 1 to 16 ASCII characters"
        raise InputError(message)
    return title
