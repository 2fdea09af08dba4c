"""The server lets one client in and survives the rest."""

from __future__ import annotations

import json
import socket
from contextlib import suppress

import pytest

from bakit.bench.phone.messages import MAX_BODY, Browser, Post, decode
from bakit.errors import InputError, VerificationError


def test_nothing_without_the_token_and_nothing_beside_the_routes(start, bundles):
    run = start(bundles)
    client = run.client()
    for token in ("", "x", client.token[:-1], client.token + "x", "%00", "%C3%A9", "%ff", ".."):
        for name in ("", "app.mjs", "models/0/regressor", "style.css"):
            assert client.get(name, token=token).status == 404, (token, name)
    assert client.ask("POST", "start", json.dumps(client.device), token="nope").status == 404
    for name in (
        "../run.py",
        "..%2frun.py",
        "%2e%2e/pyproject.toml",
        "ort/../../package.json",
        "ort/ort.all.min.mjs",
        "models/0/../1/regressor",
        "models/7/regressor",
        "golden/-1",
        "/etc/passwd",
        "package.json",
        "busy.html",
        "[",
    ):
        assert client.get(name).status == 404, name
    assert client.ask("POST", "app.mjs", "{}").status == 404
    assert client.ask("PUT", "start", "{}").status == 501
    with socket.create_connection(("127.0.0.1", client.port), 300) as raw:
        raw.sendall(b"GET //[x HTTP/1.1\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 404 ")
    page = client.get("")
    assert page.status == 200
    assert b"<title>bakit" in page.body
    assert page.headers["Cross-Origin-Opener-Policy"] == "same-origin"
    assert page.headers["Cross-Origin-Embedder-Policy"] == "require-corp"
    assert page.headers["Content-Security-Policy"].startswith(
        "default-src 'none'; script-src 'self'"
    )
    assert page.headers["Cache-Control"] == "no-store"
    assert "Python" not in page.headers["Server"]
    assert (
        client.get("ort/ort-wasm-simd-threaded.wasm").headers["Content-Type"] == "application/wasm"
    )
    client.start()
    client.end()
    with pytest.raises(VerificationError):
        run.result()


def test_a_second_client_is_refused(start, bundles):
    run = start(bundles)
    first, second = run.client(), run.client()
    assert second.get("").status == 200  # nobody has pressed the button yet
    assert first.start().status == 200
    busy = second.get("")
    assert busy.status == 409
    assert b"in use by another browser" in busy.body
    assert second.get("style.css").status == 200
    for name in ("app.mjs", "models/0/regressor", "golden/0", "crops/0/0"):
        assert second.get(name).status == 409
    assert second.start().status == 409
    second.plan, second.cookie = first.plan, "bakit=guessed"
    assert second.say("done").status == 409
    first.measure(0)
    first.measure(1)
    assert first.say("done").status == 204
    assert run.result().failures == []


def post(message: bytes, sequence: bytes = b"0") -> bytes:
    return b'{"run": 1, "sequence": ' + sequence + b', "message": ' + message + b"}"


BAD = (
    b"",
    b"{}",
    b"[]",
    b"\xff",
    post(b'{"type": "nope"}'),
    post(b'{"type": "done", "more": 1}'),
    post(b'{"type": "done"}', sequence=b"-1"),
    post(b'{"type": "loaded", "bundle": 0, "load_ms": 1e999, "first_ms": 1}'),
    post(b'{"type": "loaded", "bundle": 0, "load_ms": -1, "first_ms": 1}'),
    post(b'{"type": "ages", "bundle": 0, "start": 0, "ages_months": [NaN]}'),
    post(b'{"type": "ages", "bundle": 0, "start": 0, "ages_months": [' + b"1," * 999 + b"1]}"),
)


@pytest.mark.parametrize("body", BAD)
def test_what_is_no_message_is_refused(body):
    with pytest.raises(InputError, match="not a message of the page"):
        decode(body, Post)
    with pytest.raises(InputError, match="not the description of a browser"):
        decode(body, Browser)


def test_messages_that_do_not_fit_are_refused_and_change_nothing(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    assert client.ask("POST", "report", b"nonsense").status == 400
    assert client.say("done").status == 400  # it measured nothing
    assert client.say("loaded", bundle=2, load_ms=1, first_ms=1).status == 400
    times = {"localize_ms": [1.0], "regress_ms": [1.0, 2.0], "runs_per_sample": 1}
    assert client.say("latency", bundle=0, **times).status == 400
    many = {"localize_ms": [1.0] * 301, "regress_ms": [1.0] * 301, "runs_per_sample": 1}
    client.say("loaded", bundle=0, load_ms=1, first_ms=1)
    assert client.say("latency", bundle=0, **many).status == 400
    assert client.say("golden", bundle=0, ages_months=[1], localizer_difference=[1]).status == 400
    assert client.say("ages", bundle=0, start=1, ages_months=[1.0]).status == 400
    assert client.say("ages", bundle=0, start=0, ages_months=[1.0] * 3).status == 400
    assert client.say("alive", sequence=9).status == 409
    client.measure(0)
    repeated = {"localize_ms": [2.0], "regress_ms": [2.0], "runs_per_sample": 1}
    assert client.say("latency", sequence=client.sequence - 1, bundle=0, **repeated).status == 204
    client.measure(1)
    assert client.say("done").status == 204
    assert run.result().report.bundles[0].latency.queries == 2  # the repeated one did not count


def test_a_huge_post_is_refused_unread_and_the_run_goes_on(start, bundles):
    run = start(bundles)
    client = run.client()
    client.start()
    hundred = 100 * 2**20
    refused = client.ask("POST", "report", b"", {"Content-Length": str(hundred)})
    assert refused.status == 413
    assert f"{MAX_BODY} bytes" in refused.body.decode()
    assert client.ask("POST", "report", b"", {"Content-Length": "9" * 400}).status == 413
    assert client.ask("POST", "report", b"", {"Content-Length": "-1"}).status == 411
    chunked = client.ask("POST", "report", iter([b"{}"]), {"Transfer-Encoding": "chunked"})
    assert chunked.status == 411
    head = f"POST /{client.token}/report HTTP/1.1\r\nHost: x\r\nCookie: {client.cookie}\r\n"
    sent = 0
    with suppress(OSError), socket.create_connection(("127.0.0.1", client.port), 300) as raw:
        raw.sendall(f"{head}Content-Length: {hundred}\r\n\r\n".encode())
        while sent < hundred:
            raw.sendall(bytes(2**20))
            sent += 2**20
    assert sent < hundred  # the server hung up
    client.measure(0)
    client.measure(1)
    assert client.say("done").status == 204
    assert run.result().failures == []


def test_clients_that_say_nothing_useful_are_survived(start, bundles, capfd):
    run = start(bundles, adb=False)
    client = run.client(tls=True)
    with socket.create_connection(("127.0.0.1", client.port), 300) as raw:
        raw.sendall(b"GET / HTTP/1.1\r\n\r\n")  # plain http where TLS is spoken
        raw.recv(100)
    idle = socket.create_connection(("127.0.0.1", client.port), 300)
    page = client.get("")
    assert page.status == 200
    assert client.start().status == 200
    assert "Secure" in client.ask("POST", "start", json.dumps(client.device)).headers["Set-Cookie"]
    idle.close()
    client.plan["run"] = 2
    client.end()
    with pytest.raises(VerificationError):
        run.result()
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("usb", [True, False], ids=["http", "TLS"])
def test_many_slow_connections_do_not_shut_the_phone_out(start, bundles, usb):
    """They come from the phone's own address, as those of an app behind its router would."""
    run = start(bundles, adb=usb)
    client = run.client(tls=not usb)

    def crowd(sent):
        slow = [socket.create_connection(("127.0.0.1", client.port), 300) for _ in range(80)]
        for one in slow:
            with suppress(OSError):
                one.sendall(sent)
        return slow

    slow = []
    for sent in (b"", b"GET / HTT", b"\x16\x03\x01", b"GET /x/ HTTP/1.1\r\nHost: "):
        slow += crowd(sent)
        assert client.get("").status == 200, sent
    assert client.start().status == 200
    slow += crowd(b"")
    assert client.say("alive").status == 204
    for one in slow:  # the end waits for connections
        one.close()
    client.end()
    with pytest.raises(VerificationError):
        run.result()


def test_a_connection_without_the_token_ends_in_time_however_busy(monkeypatch, start, bundles):
    monkeypatch.setattr("bakit.bench.phone.server.WITHOUT_TOKEN_S", 0.2)
    run = start(bundles)
    client = run.client()
    with socket.create_connection(("127.0.0.1", client.port), 30) as slow:
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        with suppress(OSError):
            for _ in range(3000):  # a byte now and then, for half a minute at most
                slow.sendall(b"a")
                slow.settimeout(0.01)
                with suppress(TimeoutError):
                    assert slow.recv(1) == b""
                    break
            else:
                pytest.fail("the server waits for every byte")
    client.start()
    client.end()
    with pytest.raises(VerificationError):
        run.result()


def test_connections_are_limited_by_address_and_in_all():
    from bakit.bench.phone.server import MAX_PER_ADDRESS, MAX_WITHOUT_TOKEN, PhoneServer

    with PhoneServer("127.0.0.1", 0, None) as server:
        pairs = [socket.socketpair() for _ in range(2 * MAX_WITHOUT_TOKEN)]
        ours = [one for one, _ in pairs]
        first = ours.pop()
        server.verify_request(first, ("10.0.0.1", 1))
        server.has_token(first)
        for number, one in enumerate(ours):
            server.verify_request(one, (f"10.0.1.{number % 3}", number))
        waiting = [address for address, _ in server._without_token.values()]
        assert max(map(waiting.count, waiting)) == MAX_PER_ADDRESS
        for number, one in enumerate(ours):
            server.verify_request(one, (f"10.0.2.{number}", number))
        assert len(server._without_token) == MAX_WITHOUT_TOKEN
        first.send(b"still open")
        for pair in pairs:
            for one in pair:
                one.close()
