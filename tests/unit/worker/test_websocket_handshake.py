"""The handshake of a WebSocket on a fake transport: what is one, and what the app makes of it."""

from pathlib import Path
from typing import Any

import pytest

from clusterd.app.asgi import AsgiHttp1
from clusterd.app.peer import ClientGone
from clusterd.config.serving import ProxySettings
from clusterd.ipc.scoreboard import Cell
from clusterd.worker.access import STYLES
from tests.unit.worker.fakes import get, hello, run, status_of
from tests.unit.worker.sockets import (
    ACCEPT,
    KEY,
    SWITCH,
    VERSION,
    Scribe,
    Talk,
    accepting,
    shake,
    text,
)


def test_the_answer_and_the_scope() -> None:
    """RFC 6455 §4.2.2, and every key that ASGI names."""

    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe, shared="thing")
        head = await talk.begin("Sec-WebSocket-Protocol: a, b", "X-Y: z")
        assert head == (
            b"HTTP/1.1 101 Switching Protocols\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\n"
            b"server: clusterd\r\nupgrade: websocket\r\nconnection: Upgrade\r\n"
            b"sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        )
        (scope,) = scribe.scopes
        assert (b"x-y", b"z") in scope.pop("headers")
        extensions = scope.pop("extensions")
        assert "websocket.http.response" in extensions
        assert not [name for name in extensions if name.startswith("http.")]
        assert scope.pop("asgi")["version"] == "3.0"
        assert scope == {
            "type": "websocket",
            "http_version": "1.1",
            "scheme": "ws",
            "path": "/",
            "raw_path": b"/",
            "query_string": b"",
            "root_path": "",
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 80),
            "state": {"shared": "thing"},
            "subprotocols": ["a", "b"],
        }
        assert scribe.received == [{"type": "websocket.connect"}]

    run(test)


def test_compression_is_agreed_on_and_used() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        assert b"permessage-deflate" in await talk.begin(
            "Sec-WebSocket-Extensions: permessage-deflate"
        )
        before = talk.server.bytes_out
        long = "abc" * 10_000
        await talk.talk(text(long))
        assert talk.server.bytes_out - before < 1000

    run(test)


def test_frames_right_behind_the_request_wait_for_the_accept() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        answer = await talk.talk(shake() + text("early") + text("bird"))
        _, _, frames = answer.partition(b"\r\n\r\n")
        talk.client.receive_data(frames)
        assert talk.got() == ["early", "bird"]

    run(test)


def test_a_handshake_after_other_requests_of_the_connection() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await (hello if scope["type"] == "http" else Scribe("hi"))(scope, receive, send)

        talk = Talk(app)
        answer = await talk.talk(get() + get() + shake() + text("a"))
        assert answer.count(b"HTTP/1.1 200 OK") == 2
        _, _, frames = answer.partition(b"xOo=\r\n\r\n")
        talk.client.receive_data(frames)
        assert talk.got() == ["hi", "a"]
        assert talk.server.open == 1

    run(test)


@pytest.mark.parametrize(
    ("request_", "status", "header"),
    [
        (get("/", *SWITCH, VERSION), 400, b""),
        (get("/", *SWITCH, KEY, "Sec-WebSocket-Version: 7"), 426, b"sec-websocket-version: 13\r\n"),
        (get("/", *SWITCH, KEY), 426, b"\r\nconnection: close, upgrade\r\n"),
        (get("/", *SWITCH, KEY, VERSION, method="POST"), 405, b"allow: GET\r\n"),
        (shake("/", "Sec-WebSocket-Protocol: caf\xe9").replace(b"\xc3\xa9", b"\xe9"), 400, b""),
    ],
)
def test_a_handshake_that_is_none_never_reaches_the_app(
    request_: bytes, status: int, header: bytes
) -> None:
    """HARDNESS: a subprotocol beyond ASCII killed workers elsewhere."""

    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        answer = await talk.talk(request_)
        assert status_of(answer) == status
        assert header in answer
        assert talk.transport.ended  # and not closed: frames on their way would reset it
        assert not scribe.scopes
        assert talk.server.answers[4] == 1

    run(test)


@pytest.mark.parametrize(
    "request_",
    [
        get("/", "Connection: Upgrade", "Upgrade: h2c", KEY, VERSION),
        get("/", "Upgrade: websocket", KEY, VERSION),
        get("/", *SWITCH, KEY, VERSION, version="1.0"),
    ],
)
def test_what_asks_for_something_else_is_a_request_like_any_other(request_: bytes) -> None:
    async def test() -> None:
        assert status_of(await Talk(hello).talk(request_)) == 200

    run(test)


async def closes_first(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.close", "code": 4000})


async def raises(scope: Any, receive: Any, send: Any) -> None:
    raise ValueError("of the app's own")


async def returns(scope: Any, receive: Any, send: Any) -> None:
    await receive()


@pytest.mark.parametrize(("app", "status"), [(closes_first, 403), (raises, 500), (returns, 500)])
def test_a_handshake_that_the_app_does_not_accept(app: Any, status: int) -> None:
    async def test() -> None:
        talk = Talk(app)
        assert status_of(await talk.talk(shake())) == status
        assert talk.transport.closed
        assert talk.server.answers[status // 100] == 1
        assert talk.server.app_errors == (status == 500)
        assert not talk.server.running
        assert not talk.server.tasks

    run(test)


@pytest.mark.parametrize(
    "message",
    [
        {"subprotocol": "not offered"},
        {"subprotocol": "\xe9"},
        {"subprotocol": 7},
        {"headers": [(b"x", b"a\r\nb: c")]},
        {"headers": [(b"x\r\n", b"a")]},
        {"headers": [("x", "a")]},
        {"headers": [(b"x",)]},
        {"headers": [b"x"]},
        {"headers": 7},
        {"headers": [(b"Sec-WebSocket-Accept", b"x")]},
        {"headers": [(b"sec-websocket-protocol", b"a")]},
    ],
)
def test_an_accept_that_cannot_be_sent_costs_one_500(
    message: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        talk = Talk(accepting({**ACCEPT, **message}))
        assert status_of(await talk.talk(shake("/", "Sec-WebSocket-Protocol: a"))) == 500
        assert "contract" in caplog.text

    run(test)


def test_the_app_s_headers_and_subprotocol_are_in_the_answer() -> None:
    async def test() -> None:
        headers = [(b"X-A", b"b"), (b"date", b"now"), (b"Upgrade", b"x"), (b"connection", b"close")]
        talk = Talk(accepting({**ACCEPT, "subprotocol": "b", "headers": headers}))
        head = await talk.begin("Sec-WebSocket-Protocol: a, b")
        lines = head.lower().split(b"\r\n")
        assert b"sec-websocket-protocol: b" in lines
        assert b"x-a: b" in lines
        assert [line for line in lines if line.startswith((b"date", b"upgrade", b"conn"))] == [
            b"date: now",
            b"upgrade: websocket",
            b"connection: upgrade",
        ]

    run(test)


def test_a_client_that_leaves_before_the_accept() -> None:
    async def test() -> None:
        errors: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            errors.append((await receive())["code"])
            with pytest.raises(ClientGone):
                await send(ACCEPT)

        talk = Talk(app)
        await talk.talk(shake())
        talk.server.publish()
        assert talk.row[Cell.IN_FLIGHT] == 1
        talk.socket.connection_lost(None)
        await talk.settle()
        assert errors == [1006]
        talk.server.publish()
        assert (talk.row[Cell.IN_FLIGHT], talk.row[Cell.CONNECTIONS]) == (0, 0)

    run(test)


def test_counters() -> None:
    """A handshake counts as one request, answered with 101; then only bytes are counted."""

    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        await talk.say(text("abc"))
        talk.server.publish()
        row = talk.row
        assert (row[Cell.REQUESTS], row[Cell.CONNECTIONS], row[Cell.IN_FLIGHT]) == (1, 1, 0)
        assert row[Cell.BYTES_IN] == len(shake()) + len(text("abc"))

    run(test)


def test_a_denial_is_an_answer_like_any_other() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            start = {"type": "websocket.http.response.start", "status": 401}
            await send({**start, "headers": [(b"x-a", b"b")]})
            body = {"type": "websocket.http.response.body"}
            await send({**body, "body": b"not ", "more_body": True})
            await send({**body, "body": b"you"})

        talk = Talk(app)
        answer = await talk.talk(shake())
        assert answer.startswith(b"HTTP/1.1 401 ")
        assert b"x-a: b\r\n" in answer
        assert b"connection: close\r\n" in answer
        assert answer.endswith(b"4\r\nnot \r\n3\r\nyou\r\n0\r\n\r\n")
        assert talk.transport.closed
        assert talk.server.answers[4] == 1
        assert not talk.server.running

    run(test)


def test_half_a_denial_is_cut() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.http.response.start", "status": 401})
            body = {"type": "websocket.http.response.body", "body": b"x", "more_body": True}
            await send(body)

        talk = Talk(app)
        await talk.talk(shake())
        assert talk.transport.aborted
        assert talk.server.app_errors == 1

    run(test)


def test_what_a_trusted_proxy_says_of_the_client_is_in_the_scope() -> None:
    """And what anybody else says is not."""

    async def test() -> None:
        for proxies, client, scheme in (
            (("192.0.2.1",), ("203.0.113.9", 0), "wss"),
            ((), ("192.0.2.1", 50000), "ws"),
        ):
            scribe = Scribe()
            talk = Talk(scribe, proxy=ProxySettings(trusted_proxies=proxies))
            await talk.begin("X-Forwarded-For: 203.0.113.9", "X-Forwarded-Proto: https")
            (scope,) = scribe.scopes
            assert (scope["client"], scope["scheme"]) == (client, scheme)
            told = any(name == b"x-forwarded-for" for name, _ in scope["headers"])
            assert told is (proxies != ())

    run(test)


def test_a_wsgi_app_is_asked_as_if_nobody_wanted_a_websocket() -> None:
    async def test() -> None:
        class Wsgi(AsgiHttp1):
            __slots__ = ()
            interface = "WSGI"

        talk = Talk(hello)
        talk.server.exchange = Wsgi
        assert status_of(await talk.talk(shake())) == 200

    run(test)


def test_the_access_log_has_a_line_for_each_handshake(tmp_path: Path) -> None:
    """Of whatever became of it; and no client can forge one."""

    async def test() -> None:
        with (tmp_path / "log").open("wb") as log:
            for app, request_ in (
                (Scribe(), shake("/chat?a=b")),
                (closes_first, shake("/no")),
                (Scribe(), get('/"x', *SWITCH)),
            ):
                talk = Talk(app)
                talk.server.access = STYLES["common"](log.fileno(), {})
                await talk.talk(request_)
                assert talk.server.access is not None
                talk.server.access.flush()
        lines = (tmp_path / "log").read_text().splitlines()
        found = [line.split('"', 1)[1] for line in lines]
        assert found[0].startswith('GET /chat?a=b HTTP/1.1" 101 ')
        assert found[1].startswith('GET /no HTTP/1.1" 403 ')
        assert found[2].startswith('GET /\\"x HTTP/1.1" 426 ')
        assert len(found) == 3

    run(test)
