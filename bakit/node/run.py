"""Run a node: receive radiographs, read them, deliver their reports."""

from __future__ import annotations

import json
import logging
import math
import socket
import threading
import time
from contextlib import ExitStack, suppress
from functools import partial
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any

import bakit.report.dicom_sr  # noqa: F401  # a missing library is found at the start
from bakit.errors import LISTEN_ERRORS, InputError, cannot_listen, safe_text
from bakit.node.deliver import Backoff, Sender
from bakit.node.metrics import Metrics
from bakit.node.receive import receiving
from bakit.node.spool import Spool
from bakit.report.fhir import structured_report
from bakit.session import Closing

if TYPE_CHECKING:
    from collections.abc import Callable

    from bakit.node.metrics import Labels
    from bakit.node.options import NodeOptions
    from bakit.runtime import Runtime

SWEEP_S = 3600.0
MAX_CLIENTS = 16
"""Most open connections to ``/metrics`` and ``/health``; newer ones replace the oldest."""

_LOG = logging.getLogger("bakit.node")


class Node(Closing):
    """A running node; ``close`` stops it after the radiographs that are being read.

    ``runtime`` reads them and stays open.

    The logger ``bakit.node`` has one line for each event, and nothing about a patient: neither
    header fields nor ages.

    Attributes:
        port: The DICOM port.
        web_port: The port of ``/metrics`` and ``/health``.

    Raises:
        InputError: If a port, a file of TLS or the spool cannot be used.
        OSError: If the spool cannot be written.
    """

    def __init__(self, options: NodeOptions, runtime: Runtime) -> None:
        self._runtime, self._metrics = runtime, Metrics(runtime.bundle.manifest)
        self._received: dict[str, float] = {}
        self._backoff, self._later = Backoff(), set[str]()
        self._stop = threading.Event()
        self._keep_days, self._workers = options.keep_days, options.workers
        with ExitStack() as stack:
            self._spool = Spool(options.spool, options.min_free_mb)
            stack.callback(self._spool.close)
            for key in self._spool.crashed:
                _LOG.error("film %s: refused, no report: it crashed the node", key[:12])
            self._sender = Sender(options, self._spool, self._metrics, self._on_delivered)
            web = stack.enter_context(_Web(options.web_port, self))
            jobs: list[Callable[[], None]] = [self._read_all] * options.workers
            jobs += [partial(self._sender.run, self._stop), self._tend, web.serve_forever]
            self._threads = [threading.Thread(target=job, daemon=True) for job in jobs]
            stack.callback(self._end)
            stack.callback(web.shutdown)
            for thread in self._threads:
                thread.start()
            server = stack.enter_context(
                receiving(options, self._spool, self._metrics, self._on_film)
            )
            self._threads.append(server.thread)
            self.port, self.web_port = server.server_address[1], web.server_address[1]
            self._stack = stack.pop_all()

    def close(self) -> None:
        """Stop: first receiving, then reading and delivering."""
        self._stack.close()

    def _end(self) -> None:
        self._stop.set()
        for _ in range(self._workers):
            self._spool.waiting.put(None)
        for thread in self._threads:
            thread.join()

    def _on_film(self, key: str) -> None:
        self._received[key] = time.monotonic()

    def _on_delivered(self, key: str) -> None:
        received = self._received.pop(key, None)
        words = ""
        if received is not None:  # not before a restart
            seconds = time.monotonic() - received
            self._metrics.observe("answer_seconds", seconds)
            words = f", {seconds:.2f} s after the radiograph"
        _LOG.info("film %s: report delivered%s", key[:12], words)

    def _read_all(self) -> None:
        while not self._stop.is_set() and (key := self._spool.waiting.get()) is not None:
            self._try_to_read(key)

    def _try_to_read(self, key: str) -> None:
        """Read a radiograph; if the node cannot, it stays in the spool and is tried again."""
        try:
            self._read(key)
        except Exception as error:
            pause = self._backoff.failed(key)
            self._metrics.count("films_total", status="failed", sex="")
            words = safe_text(error)
            _LOG.error("film %s: not read: %s; tried again in %.0f s", key[:12], words, pause)
            self._later.add(key)
        finally:
            self._spool.ended(key)

    def _read(self, key: str) -> None:
        data = self._spool.read(key)
        started = time.perf_counter()
        try:
            prediction = self._runtime.predict(data)
            seconds = time.perf_counter() - started
            report = None
            if prediction.age_months is not None:
                report = structured_report(prediction, data, "the file")
        except InputError as error:  # the radiograph's own fault
            self._refuse(key, "refused", str(error).removeprefix("the bytes: "))
            return
        self._backoff.worked(key)
        if report is None:
            self._refuse(key, "rejected", ", ".join(prediction.quality.reasons))
        else:
            self._spool.answer(key, report)
            self._sender.wake.set()
            _LOG.info("film %s: %s, read in %.2f s", key[:12], prediction.quality.status, seconds)
        self._metrics.film(prediction, seconds)

    def _refuse(self, key: str, word: str, why: str) -> None:
        self._spool.refuse(key)
        self._received.pop(key, None)
        if word == "refused":
            self._metrics.count("films_total", status=word, sex="")
        _LOG.warning("film %s: %s, no report: %s", key[:12], word, why)

    def _tend(self) -> None:
        """Queue radiographs whose pause is over, and delete old ones each hour."""
        swept = -math.inf
        while not self._stop.wait(0.5):
            for key in filter(self._backoff.is_due, list(self._later)):
                self._later.discard(key)
                self._spool.waiting.put(key)
            if time.monotonic() - swept > SWEEP_S:
                swept = time.monotonic()
                with suppress(OSError):
                    self._spool.sweep(self._keep_days)

    def metrics(self) -> str:
        """Return the metrics in the text format of Prometheus."""
        files: dict[Labels, float] = {
            (("state", name),): len(self._spool.names(name)) for name in ("in", "out", "refused")
        }
        return self._metrics.text(
            {
                "spool_files": files,
                "spool_free_megabytes": {(): self._spool.free_mb()},
                "peer_reachable": {(): float(self._sender.reachable)},
            }
        )

    def health(self) -> tuple[bool, dict[str, Any]]:
        """Return whether all threads run, and the state for a person.

        A full disk or a peer that is down is no reason to restart the node.
        """
        alive = all(thread.is_alive() for thread in self._threads)
        return alive, {
            "status": "ok" if alive else "a thread has ended: restart the node",
            "waiting": len(self._spool.names("in")),
            "undelivered": len(self._spool.names("out")),
            "peer": "reachable" if self._sender.reachable else "unreachable",
            "disk": "ok" if self._spool.free_mb() > 0 else "full",
        }


class _Web(ThreadingTCPServer):
    """Serves metrics and health on this machine.

    Unlike ``HTTPServer``, it looks up no host name, which may take seconds.
    """

    daemon_threads = allow_reuse_address = True

    def __init__(self, port: int, node: Node) -> None:
        self.node = node
        self._open: list[socket.socket] = []
        address = ("127.0.0.1", port)
        try:
            super().__init__(address, _Handler)
        except LISTEN_ERRORS as error:
            raise cannot_listen(*address, error, "--web-port") from error

    def verify_request(self, request: Any, client_address: object) -> bool:  # noqa: ANN401
        """Close the oldest of too many connections: silent ones would use up the node's files."""
        del client_address
        self._open = [one for one in self._open if one.fileno() >= 0] + [request]
        for one in self._open[:-MAX_CLIENTS]:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
        return True

    def handle_error(self, request: object, client_address: object) -> None:
        """Print nothing: a client that has gone is no error."""


class _Handler(BaseHTTPRequestHandler):
    server: _Web
    timeout = 5.0

    def do_GET(self) -> None:
        """Answer ``/metrics`` and ``/health``."""
        status, text, kind = 404, "use /metrics or /health\n", "text/plain; charset=utf-8"
        if self.path == "/metrics":
            status, text, kind = 200, self.server.node.metrics(), "text/plain; version=0.0.4"
        elif self.path == "/health":
            alive, state = self.server.node.health()
            status, text, kind = 200 if alive else 503, json.dumps(state) + "\n", "application/json"
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(text.encode())))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Print nothing."""
