"""pynetdicom as both sides of the node use it: without its log, with its sockets closed."""

from __future__ import annotations

import logging
import socket
from contextlib import suppress
from typing import Any

from pynetdicom import _config
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import InvalidEventError
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


def _react(provider: Any, run: Any = DULServiceProvider.run_reactor) -> None:  # noqa: ANN401
    """Run a connection's thread; end both on an event that their state does not have.

    The node's end aborts all connections, also those that have not asked for anything yet, of which
    pynetdicom knows no abort.
    """
    try:
        run(provider)
    except InvalidEventError:
        provider.assoc._kill = provider._kill_thread = True
        if provider.socket is not None:
            _shut(provider.socket)


AssociationSocket._shutdown_socket = _shut
DULServiceProvider.run_reactor = _react
