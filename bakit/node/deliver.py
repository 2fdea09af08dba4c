"""Deliver reports to the peer, by pynetdicom; what cannot be delivered is tried again."""

from __future__ import annotations

import logging
import ssl
import threading
import time
from typing import TYPE_CHECKING, Any

from pynetdicom import AE, evt
from pynetdicom.sop_class import ComprehensiveSRStorage

from bakit.errors import safe_text
from bakit.node.library import IDLE_S, limit_silence

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bakit.node.metrics import Metrics
    from bakit.node.options import NodeOptions
    from bakit.node.spool import Spool

FIRST_S, LONGEST_S = 1.0, 300.0
"""Pauses after failures: the first, and the longest of those that double."""
SYNTAXES = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2")
"""Explicit and implicit little endian."""
_LOG = logging.getLogger("bakit.node")


class Backoff:
    """Pauses that double with each failure of one thing, by its name."""

    def __init__(self) -> None:
        self._until: dict[str, tuple[float, float]] = {}

    def failed(self, name: str) -> float:
        """Return the pause in seconds after a further failure."""
        _, before = self._until.get(name, (0.0, FIRST_S / 2))
        pause = min(2 * before, LONGEST_S)
        self._until[name] = (time.monotonic() + pause, pause)
        return pause

    def is_due(self, name: str) -> bool:
        """Return whether the pause is over, or there is none."""
        return self._until.get(name, (0.0, 0.0))[0] <= time.monotonic()

    def worked(self, name: str) -> bool:
        """Forget the failures; return whether there were any."""
        return self._until.pop(name, None) is not None


class Sender:
    """Sends the reports of the spool to the peer; ``on_delivered`` gets the name of each.

    Raises:
        InputError: If a file of TLS cannot be used.
    """

    def __init__(
        self,
        options: NodeOptions,
        spool: Spool,
        metrics: Metrics,
        on_delivered: Callable[[str], None],
    ) -> None:
        self._peer, self._spool, self._metrics = options.peer, spool, metrics
        self._on_delivered = on_delivered
        self._backoff = Backoff()
        self._tls: tuple[ssl.SSLContext, str] | None = None
        if options.peer_tls and options.tls is not None:
            self._tls = options.tls.context(ssl.Purpose.SERVER_AUTH), self._peer.host
        self._entity = AE(options.title)
        self._entity.add_requested_context(ComprehensiveSRStorage, list(SYNTAXES))
        self._entity.acse_timeout = self._entity.connection_timeout = 15.0
        self._entity.dimse_timeout = self._entity.network_timeout = IDLE_S
        self.wake = threading.Event()
        self.reachable = True

    def run(self, stop: threading.Event) -> None:
        """Send until ``stop``; set ``wake`` when there is a new report."""
        while not stop.is_set():
            self.wake.wait(0.5)
            self.wake.clear()
            if self._backoff.is_due(""):
                self._send_due(stop)

    def _send_due(self, stop: threading.Event) -> None:
        try:
            keys = [key for key in self._spool.names("out") if self._backoff.is_due(key)]
            if keys:
                self._send(keys, stop)
        except OSError as error:  # of the spool, such as a full disk
            pause = self._backoff.failed("")
            _LOG.error("spool: %s; tried again in %.0f s", error, pause)

    def _send(self, keys: Sequence[str], stop: threading.Event) -> None:
        peer, problem = self._peer, "no answer, or not DICOM"
        assoc: Any = None
        try:
            how = {"tls_args": self._tls, "evt_handlers": [(evt.EVT_CONN_OPEN, limit_silence)]}
            assoc = self._entity.associate(peer.host, peer.port, ae_title=peer.title, **how)
        except OSError as error:
            problem = str(error.strerror or error)
        if assoc is None or not assoc.is_established:
            if assoc is not None and assoc.is_rejected:
                problem = f"association rejected: {assoc.acceptor.primitive.reason_str}"
            elif assoc is not None and assoc.rejected_contexts:
                problem = "it does not take structured reports (Comprehensive SR)"
            self._lost(problem, len(keys))
            return
        try:
            for key in keys:
                if stop.is_set() or not self._send_one(assoc, key):
                    break
        finally:
            if assoc.is_established:
                assoc.release()

    def _lost(self, problem: str, waiting: int) -> None:
        self.reachable = False
        pause = self._backoff.failed("")
        self._metrics.count("deliveries_total", outcome="unreachable")
        if pause <= FIRST_S:  # once, not at each try
            _LOG.warning(
                "peer %s at %s:%d: %s; %d reports wait, tried again", *self._peer, problem, waiting
            )

    def _send_one(self, assoc: Any, key: str) -> bool:  # noqa: ANN401
        """Send a report; return whether the association can be used further."""
        try:
            answer = assoc.send_c_store(self._spool.path("out", key))
        except (OSError, RuntimeError, ValueError, AttributeError) as error:
            self._failed(key, f"not sent: {safe_text(error)}")
            return bool(assoc.is_established)
        if "Status" not in answer:
            self._lost("the connection ended before it answered", 1)
            return False
        if self._backoff.worked(""):
            _LOG.info("peer %s at %s:%d: answers again", *self._peer)
        self.reachable = True
        status = int(answer.Status)
        if status and status >> 12 != 0xB:  # 0xB...: stored, with a warning
            self._failed(key, f"the peer refused it with status 0x{status:04X}")
            return True
        self._spool.delivered(key)
        self._backoff.worked(key)
        self._metrics.count("deliveries_total", outcome="delivered")
        self._on_delivered(key)
        return True

    def _failed(self, key: str, problem: str) -> None:
        pause = self._backoff.failed(key)
        self._metrics.count("deliveries_total", outcome="refused")
        _LOG.warning("film %s: report: %s; tried again in %.0f s", key[:12], problem, pause)
