"""Receive radiographs: the node's C-ECHO and C-STORE, by pynetdicom."""

from __future__ import annotations

import logging
import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from functools import partial
from socketserver import BaseServer
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from pynetdicom import AE, evt
from pynetdicom.sop_class import (
    ComputedRadiographyImageStorage,
    DigitalXRayImageStorageForPresentation,
    Verification,
)
from pynetdicom.transport import ThreadedAssociationServer

from bakit.errors import LISTEN_ERRORS, BakitError, cannot_listen
from bakit.files import sha256
from bakit.image.read import study_of
from bakit.node.library import IDLE_S, LOG, limit_silence

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bakit.node.metrics import Metrics
    from bakit.node.options import NodeOptions
    from bakit.node.spool import Spool

SYNTAXES = [
    f"1.2.840.10008.1.2{end}"
    for end in (".1", "", ".4.70", ".4.57", ".4.80", ".4.90", ".4.91", ".4.50", ".5", ".2")
]
"""Transfer syntaxes that bakit decodes (docs/dicom.md): explicit and implicit little endian, JPEG
lossless, JPEG-LS, JPEG 2000, JPEG baseline, RLE, big endian."""

OK, NOT_AUTHORISED, OUT_OF_RESOURCES = 0x0000, 0x0124, 0xA700
MISMATCH, NOT_UNDERSTOOD = 0xA900, 0xC000
"""Statuses of C-STORE, PS3.4 B.2.3."""

MAX_PDU = 1 << 18
MAX_OTHER_PDU = 1 << 20
"""Longest PDU of a sender that ignores ``MAX_PDU``; requests for an association may be long."""
MAX_FILM = 1 << 28
"""Most bytes of a radiograph: each association may hold one in memory."""
SILENT_S = 15.0
"""Longest time until a new connection asks for an association."""
MANY_KINDS = 8
"""A sender that offers more kinds of files offers all that it knows, whatever it sends."""
SPARE = 32
"""Connections without an association, beside those with one."""

_LOG = logging.getLogger("bakit.node")
_REJECTIONS = {
    "full": ((2, 3, 2), "{} associations are open, the limit"),
    "title": ((1, 1, 7), "it called another AE title"),
    "access": ((1, 1, 3), "no --allow admits it"),
}
"""A-ASSOCIATE-RJ: result, source and reason (PS3.8 9.3.4), and the reason in words."""


@contextmanager
def receiving(
    options: NodeOptions, spool: Spool, metrics: Metrics, on_film: Callable[[str], None]
) -> Iterator[_Server]:
    """Listen while the block runs; ``on_film`` is called with each new radiograph's name.

    Raises:
        InputError: If the address or a file of TLS cannot be used.
    """
    entity = AE(options.title)
    entity.add_supported_context(Verification)
    for kind in (ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation):
        entity.add_supported_context(kind, SYNTAXES)
    entity.maximum_associations = options.associations + SPARE + 1  # _Receiver has the limit
    entity.maximum_pdu_size = MAX_PDU
    entity.acse_timeout, entity.dimse_timeout, entity.network_timeout = SILENT_S, IDLE_S, IDLE_S
    receiver = _Receiver(options, spool, metrics, on_film)
    tls = None if options.tls is None else options.tls.context(ssl.Purpose.CLIENT_AUTH)
    handlers = [
        (evt.EVT_CONN_OPEN, receiver.on_open),
        (evt.EVT_REQUESTED, receiver.on_request),
        (evt.EVT_ACCEPTED, receiver.on_accept),
        (evt.EVT_C_STORE, receiver.on_store),
    ]
    address = (options.bind, options.port)
    try:
        server = entity.make_server(
            address, ssl_context=tls, evt_handlers=handlers, server_class=_Server
        )
    except LISTEN_ERRORS as error:
        raise cannot_listen(*address, error) from error
    LOG.addHandler(receiver)
    server.thread = threading.Thread(target=server.serve_forever, args=(0.1,), daemon=True)
    server.thread.start()
    try:
        yield server
    finally:
        BaseServer.shutdown(server)
        server.server_close()
        LOG.removeHandler(receiver)
        entity.shutdown()  # aborts the associations: their senders try again


class _Server(ThreadedAssociationServer):  # type: ignore[misc]  # its types are skipped
    """Takes connections in ``thread``; a silent one holds up no other."""

    daemon_threads = True
    thread: threading.Thread

    def get_request(self) -> Any:  # noqa: ANN401  # a socket and its address
        """Accept a connection; the TLS handshake runs in the connection's own thread."""
        connection, address = self.socket.accept()
        if self.ssl_context is not None:
            connection = self.ssl_context.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401
        """Close connections beyond any use."""
        return bool(len(self.active_associations) < self.ae.maximum_associations)


class _Receiver(logging.Handler):
    """Handles the events of all associations, and pynetdicom's errors about them.

    An error that ends a connection becomes one line; the traceback that follows it is left out.
    """

    def __init__(
        self, options: NodeOptions, spool: Spool, metrics: Metrics, on_film: Callable[[str], None]
    ) -> None:
        super().__init__(logging.ERROR)
        self._options, self._spool, self._metrics = options, spool, metrics
        self._on_film = on_film
        self._lock = threading.Lock()
        self._open: list[threading.Thread] = []
        self._told: WeakSet[Any] = WeakSet()

    def emit(self, record: logging.LogRecord) -> None:
        """Log pynetdicom's error with the sender whose thread it comes from."""
        for assoc in threading.enumerate():
            if getattr(assoc, "is_acceptor", False):
                dul: threading.Thread = assoc.dul  # type: ignore[attr-defined]
                if record.thread in {assoc.ident, dul.ident}:
                    self._tell(assoc, record.getMessage())

    def _tell(self, assoc: Any, why: str) -> None:  # noqa: ANN401
        if assoc not in self._told:
            self._told.add(assoc)
            self._metrics.count("protocol_errors_total")
            _LOG.warning("%s at %s: connection ended: %s", *_sender(assoc), _printable(why))

    def on_open(self, event: Any) -> None:  # noqa: ANN401
        """Bound what a connection may send."""
        limit_silence(event)
        stream = event.assoc.dul.socket
        stream.recv = partial(self._receive, event.assoc, stream.recv)

    def _receive(self, assoc: Any, receive: Callable[[int], bytes], count: int) -> bytes:  # noqa: ANN401
        """Read bytes for an association; end the connection if they would fill the memory."""
        message = assoc.dimse.message
        held = 0 if message is None else message.data_set.tell()
        if count <= MAX_OTHER_PDU and held + count <= MAX_FILM and assoc.dimse.msg_queue.empty():
            return receive(count)
        limit = f"{MAX_FILM >> 20} MiB"
        self._tell(assoc, f"it sends more than {limit}, or does not wait for answers")
        with suppress(OSError):
            assoc.dul.socket.socket.shutdown(socket.SHUT_RDWR)
        return b""

    def on_request(self, event: Any) -> None:  # noqa: ANN401
        """Reject an association by its titles and address, or if there are too many."""
        assoc = event.assoc
        title, address = _sender(assoc)
        called = assoc.requestor.primitive.called_ae_title.strip()
        outcome = "accepted"
        with self._lock:
            self._open = [other for other in self._open if other.is_alive()]
            if not self._options.admits(title, address):
                outcome = "access"
            elif called != self._options.title:
                outcome = "title"
            elif len(self._open) >= self._options.associations:
                outcome = "full"
            else:
                self._open.append(assoc)
        self._metrics.count("associations_total", outcome=outcome)
        if outcome == "accepted":
            return
        codes, words = _REJECTIONS[outcome]
        why = words.format(self._options.associations)
        _LOG.warning("%s at %s: association rejected: %s", title, address, why)
        assoc.acse.send_reject(*codes)
        assoc.is_rejected = True
        assoc.kill()

    def on_accept(self, event: Any) -> None:  # noqa: ANN401
        """Log the kinds of files that a sender offers and the node does not take."""
        refused = {cx.abstract_syntax for cx in event.assoc.rejected_contexts}
        refused -= {cx.abstract_syntax for cx in event.assoc.accepted_contexts}
        if 0 < len(refused) <= MANY_KINDS:
            title, address = _sender(event.assoc)
            names = ", ".join(sorted(_printable(uid.name) for uid in refused))
            _LOG.warning("%s at %s: not accepted: %s", title, address, names)

    def on_store(self, event: Any) -> int:  # noqa: ANN401
        """Keep a radiograph; the answer 0 promises that it is on the disk."""
        title, address = _sender(event.assoc)
        if event.assoc not in self._open:  # on_request had an error of its own
            return self._refuse("access", NOT_AUTHORISED, "not admitted", title, address)
        try:
            data = event.encoded_dataset()
            key = sha256(event.request.DataSet.getbuffer())
            study = study_of(data, "the file")
            if study["SOPInstanceUID"] != event.request.AffectedSOPInstanceUID:
                return self._refuse("mismatch", MISMATCH, "another SOPInstanceUID", title, address)
            new = self._spool.take(key, data)
        except BakitError as error:
            return self._refuse("damaged", NOT_UNDERSTOOD, str(error), title, address)
        except (AttributeError, TypeError, ValueError):  # no data set
            return self._refuse("damaged", NOT_UNDERSTOOD, "no data set", title, address)
        except OSError as error:
            why = f"{self._spool.root}: {error.strerror or error}"
            return self._refuse("disk", OUT_OF_RESOURCES, why, title, address)
        self._metrics.count("stores_total", outcome="stored" if new else "known")
        word = f"stored, {len(data) / 1e6:.1f} MB" if new else "known already"
        _LOG.info("film %s: from %s at %s: %s", key[:12], title, address, word)
        if new:
            self._on_film(key)
        return OK

    def _refuse(self, outcome: str, status: int, why: str, title: str, address: str) -> int:
        self._metrics.count("stores_total", outcome=outcome)
        _LOG.warning("%s at %s: C-STORE refused (0x%04X): %s", title, address, status, why)
        return status


def _sender(assoc: Any) -> tuple[str, str]:  # noqa: ANN401
    requestor = assoc.requestor
    title = requestor.primitive.calling_ae_title if requestor.primitive else ""
    return _printable(title.strip()) or "?", requestor.address_info.address


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
