"""The HTTP server of the page: one client, and no access without the token."""

from __future__ import annotations

import socket
import sys
import threading
import time
from contextlib import suppress
from http import cookies
from http.server import BaseHTTPRequestHandler
from socketserver import ThreadingTCPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import msgspec

from bakit.bench.phone.messages import MAX_BODY, Browser, Post, decode
from bakit.bench.phone.session import RefusedError
from bakit.bench.phone.web import PAGE
from bakit.errors import LISTEN_ERRORS, BakitError, cannot_listen

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bakit.bench.phone.session import Session

COOKIE = "bakit"
TIMEOUT_S = 30
"""Timeout of a request."""

DRAIN_S = 2.0
"""Timeout for open responses at the end of the run."""

WITHOUT_TOKEN_S = 10.0
"""How long a connection may stay open before its first request with the token."""

MAX_WITHOUT_TOKEN = 32
"""Most connections without a token; a browser needs few. Newer ones replace the oldest."""

MAX_PER_ADDRESS = 8
"""The same, of one address."""

HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self' 'wasm-unsafe-eval'; worker-src 'self'; "
        "style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    # These two make the page cross-origin isolated, for threads and a fine clock.
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Robots-Tag": "noindex",
}

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".mjs": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
}

_BUSY_FILES = {"": "busy.html", "style.css": "style.css", "icon.svg": "icon.svg"}
"""Files for a second browser."""


class PhoneServer(ThreadingTCPServer):
    """Serves one run; ``session`` and ``content`` must be set before serving.

    Without TLS it serves http, which browsers trust only on localhost. Unlike ``HTTPServer``, it
    looks up no host name, which may take seconds.

    Attributes:
        session: The state of the run.
        content: Files and tensors by their exact path below the token; nothing else is served.

    Raises:
        InputError: If the address cannot be used.
    """

    daemon_threads = allow_reuse_address = True
    request_queue_size = 128  # beyond the usual 5, a phone's connection would wait for seconds
    session: Session
    content: Mapping[str, Path | bytes]

    def __init__(self, bind: str, port: int, tls: ssl.SSLContext | None) -> None:
        self.tls = tls
        self.in_flight = 0
        self.quiet = threading.Condition()
        self._lock = threading.Lock()
        self._without_token: dict[object, tuple[object, float]] = {}  # address, start; oldest first
        try:
            family = socket.getaddrinfo(bind, port, type=socket.SOCK_STREAM)[0][0]
            self.address_family = family
            super().__init__((bind, port), _Handler)
        except LISTEN_ERRORS as error:
            raise cannot_listen(bind, port, error) from error

    def get_request(self) -> tuple[socket.socket, object]:
        """Accept a connection; the TLS handshake runs in the connection's own thread."""
        connection, address = super().get_request()
        connection.settimeout(TIMEOUT_S)
        if self.tls is not None:
            connection = self.tls.wrap_socket(
                connection, server_side=True, do_handshake_on_connect=False
            )
        return connection, address

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ANN401
        """Admit every connection; beyond a limit, close the oldest ones without a token.

        If new ones were refused instead, silent ones would shut the phone out.
        """
        with self._lock:
            self._without_token[request] = client_address[0], time.monotonic()
            waiting = self._without_token
            same = [one for one in waiting if waiting[one][0] == client_address[0]]
            for one in (*same[:-MAX_PER_ADDRESS], *list(waiting)[:-MAX_WITHOUT_TOKEN]):
                self._end(one)
        return True

    def service_actions(self) -> None:
        """Close connections that sent no token in time, however many bytes they sent."""
        now = time.monotonic()
        with self._lock:
            for one, (_, started) in list(self._without_token.items()):
                if now - started > WITHOUT_TOKEN_S:
                    self._end(one)

    def has_token(self, connection: object) -> None:
        """Keep a connection open: it sent the token."""
        with self._lock:
            self._without_token.pop(connection, None)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401
        """Close a connection."""
        self.has_token(request)
        super().shutdown_request(request)

    def _end(self, connection: Any) -> None:  # noqa: ANN401
        """Wake the thread of a connection: its next read finds the end."""
        self._without_token.pop(connection, None)
        with suppress(OSError):  # TLS's own shutdown would wait for the client
            socket.socket.shutdown(connection, socket.SHUT_RDWR)

    def drain(self) -> None:
        """Wait until open responses are sent."""
        with self.quiet:
            self.quiet.wait_for(lambda: self.in_flight == 0, DRAIN_S)

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore clients that disconnected or rejected the certificate."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):  # ssl's errors and timeouts are OSErrors
            super().handle_error(request, client_address)  # type: ignore[arg-type]


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: PhoneServer
    protocol_version = "HTTP/1.1"
    timeout = TIMEOUT_S
    server_version = "bakit"
    sys_version = ""

    def do_GET(self) -> None:
        """Send a file or a tensor."""
        self._answer(self._get)

    def do_POST(self) -> None:
        """Handle a message of the page."""
        self._answer(self._post)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the base's name
        """Print nothing, because addresses contain the token."""

    def _answer(self, method: Callable[[str], None]) -> None:
        server = self.server
        with server.quiet:
            server.in_flight += 1
        try:
            self._reply(method)
        finally:
            with server.quiet:
                server.in_flight -= 1
                server.quiet.notify_all()

    def _reply(self, method: Callable[[str], None]) -> None:
        session, name = self.server.session, ""
        try:
            asked = unquote(self.path.partition("?")[0])
            token, _, name = asked.lstrip("/").partition("/")
            session.admit(token, self._cookie())
            self.server.has_token(self.connection)
            method(name)
        except BakitError as error:
            status = error.status if isinstance(error, RefusedError) else 400
            if status == 409 and self.command == "GET" and name in _BUSY_FILES:
                path = PAGE / _BUSY_FILES[name]
                self._send(200 if name else 409, path.read_bytes(), _TYPES[path.suffix])
            else:
                self._refuse(status, str(error))

    def _get(self, name: str) -> None:
        found = self.server.content.get(name)
        if found is None:
            raise RefusedError(404, "not found")
        kind = "application/octet-stream"
        if not isinstance(found, bytes):
            kind, found = _TYPES.get(found.suffix, kind), found.read_bytes()
        self._send(200, found, kind)

    def _post(self, name: str) -> None:
        session = self.server.session
        if name not in {"start", "report"}:
            raise RefusedError(404, "not found")
        body = self._body()
        if name == "report":
            session.receive(decode(body, Post))
            self._send(204, b"", "")
            return
        plan, key = session.start(decode(body, Browser), self._cookie())
        secure = "; Secure" if self.server.tls is not None else ""
        cookie = f"{COOKIE}={key}; Path=/{session.token}/; HttpOnly; SameSite=Strict{secure}"
        self._send(200, msgspec.json.encode(plan), "application/json", {"Set-Cookie": cookie})

    def _body(self) -> bytes:
        """Read the body; a body that is too large is refused before it is read."""
        length = self.headers.get("Content-Length", "")
        if not (length.isascii() and length.isdigit()):
            raise RefusedError(411, "Content-Length is missing or invalid")
        if len(length) > 12 or int(length) > MAX_BODY:
            raise RefusedError(413, f"the message is larger than {MAX_BODY} bytes")
        return self.rfile.read(int(length))

    def _cookie(self) -> str | None:
        try:
            found = cookies.SimpleCookie(self.headers.get("Cookie", "")).get(COOKIE)
        except cookies.CookieError:
            return None
        return found.value if found else None

    def _refuse(self, status: int, reason: str) -> None:
        # The rest of a refused body is not read, so the connection must be closed.
        self._send(status, reason.encode(), "text/plain; charset=utf-8", {"Connection": "close"})

    def _send(
        self, status: int, body: bytes, kind: str, more: dict[str, str] | None = None
    ) -> None:
        self.send_response(status)
        for name, value in {**HEADERS, **(more or {})}.items():
            self.send_header(name, value)
        if kind:
            self.send_header("Content-Type", kind)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
