"""pynetdicom as both sides of the node use it: without its log, with its sockets closed."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

from pynetdicom import _config
from pynetdicom.transport import AssociationSocket

IDLE_S = 60.0
"""Longest silence of a sender or the peer."""

_config.LOG_HANDLER_LEVEL = "none"  # its own log prints requests with the patient's identity
LOG = logging.getLogger("pynetdicom")
LOG.propagate = False


def limit_silence(event: Any) -> None:  # noqa: ANN401
    """Let no read of a connection wait for ever (``EVT_CONN_OPEN``)."""
    event.assoc.dul.socket.socket.settimeout(IDLE_S)


def _shut(stream: Any) -> None:  # noqa: ANN401
    """Close a socket; pynetdicom leaves it open if the other side has closed it first."""
    if stream.socket is not None:
        with suppress(OSError):
            stream.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            stream.socket.close()


AssociationSocket._shutdown_socket = _shut
