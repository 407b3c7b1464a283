"""A WebSocket on a fake transport: the handshake, messages both ways, and every end it may have."""

import logging
from typing import Any

import pytest

from clusterd.app.peer import ClientGone, ContractError
from clusterd.ipc.scoreboard import Cell
from tests.unit.wire.frames import closing, frame
from tests.unit.worker.fakes import get, hello, run, status_of
from tests.unit.worker.sockets import (
    BINARY,
    FINAL,
    KEY,
    PING,
    SWITCH,
    TEXT,
    VERSION,
    Scribe,
    Talk,
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


def test_messages_go_both_ways() -> None:
    async def test() -> None:
        scribe = Scribe("welcome")
        talk = Talk(scribe)
        await talk.begin()
        assert talk.got() == ["welcome"]
        assert await talk.say(text("é"), frame(FINAL | BINARY, b"\0")) == ["é", b"\0"]
        assert await talk.say(frame(TEXT, b"a") + frame(FINAL, b"b")) == ["ab"]
        long = "x" * 100_000
        assert await talk.say(text(long)) == [long]
        assert scribe.received[1:3] == [
            {"type": "websocket.receive", "text": "é"},
            {"type": "websocket.receive", "bytes": b"\0"},
        ]

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
        assert talk.transport.closed
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


def accepting(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


ACCEPT = {"type": "websocket.accept"}


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


SEND = {"type": "websocket.send"}


@pytest.mark.parametrize(
    "message",
    [
        SEND,
        {**SEND, "text": None, "bytes": None},
        {**SEND, "text": "a", "bytes": b"a"},
        {**SEND, "text": b"a"},
        {**SEND, "text": "\ud800"},
        {**SEND, "bytes": "a"},
        ACCEPT,
        {"type": "websocket.close", "code": 1006},
        {"type": "websocket.close", "code": "1000"},
        {"type": "websocket.close", "reason": "x" * 124},
        {"type": "websocket.close", "reason": 7},
        {"type": "http.response.start", "status": 200},
        {"type": "websocket.http.response.start", "status": 200},
        {},
        None,
    ],
)
def test_nonsense_of_the_app_closes_its_connection_with_1011(
    message: Any, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        talk = Talk(accepting(ACCEPT, message))
        await talk.begin()
        assert talk.got() == [(1011, "")]
        assert talk.server.app_errors == 1
        assert "contract" in caplog.text

    run(test)


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([ACCEPT], (1000, "")),
        ([ACCEPT, {"type": "websocket.close"}], (1000, "")),
        ([ACCEPT, {"type": "websocket.close", "code": 4321, "reason": "é"}], (4321, "é")),
        ([ACCEPT, {"type": "websocket.close", "code": 3000, "reason": None}], (3000, "")),
    ],
)
def test_the_app_closes(messages: Any, expected: Any) -> None:
    """By word, or by returning; the client's answer ends the connection."""

    async def test() -> None:
        talk = Talk(accepting(*messages))
        await talk.begin()
        assert talk.got() == [expected]
        assert not talk.transport.closed
        assert await talk.say(closing(expected[0])) == []
        assert talk.transport.closed
        assert talk.server.app_errors == 0

    run(test)


def test_sending_after_one_s_own_close_breaks_the_contract() -> None:
    async def test() -> None:
        errors: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in (ACCEPT, {"type": "websocket.close"}):
                await send(message)
            for message in ({**SEND, "text": "x"}, {"type": "websocket.close"}, ACCEPT):
                with pytest.raises(ContractError) as error:
                    await send(message)
                errors.append(error)
            assert (await receive())["type"] == "websocket.connect"
            assert await receive() == {
                "type": "websocket.disconnect",
                "code": 1000,
                "reason": "",
            }

        talk = Talk(app)
        await talk.begin()
        assert len(errors) == 3
        assert talk.got() == [(1000, "")]
        assert talk.server.app_errors == 0

    run(test)


@pytest.mark.parametrize(
    ("data", "code", "reason", "answer"),
    [
        (closing(4001, b"bye"), 4001, "bye", (4001, "")),
        (closing(1000), 1000, "", (1000, "")),
        (frame(0x88), 1005, "", (1005, "")),
    ],
)
def test_the_client_closes(data: bytes, code: int, reason: str, answer: Any) -> None:
    """Its code comes back (§5.5.1), the app is told, and nobody blames anybody."""

    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        assert await talk.say(data) == [answer]
        assert scribe.received[-1] == {
            "type": "websocket.disconnect",
            "code": code,
            "reason": reason,
        }
        assert talk.transport.closed
        assert not talk.transport.aborted

    run(test)


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"\x81\x01a", 1002),
        (frame(FINAL | PING, bytes(126)), 1002),
        (frame(FINAL | TEXT, b"\xff"), 1007),
        (frame(FINAL | BINARY, length=b"\xff" + (1 << 30).to_bytes(8)), 1009),
    ],
)
def test_a_client_that_breaks_the_protocol_is_told_how(data: bytes, code: int) -> None:
    """And is let go after a moment in which it may take that in."""

    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        ((told, reason),) = await talk.say(data)
        assert told == code
        assert reason
        assert scribe.received[-1]["code"] == code
        assert talk.transport.ended
        assert not talk.transport.closed
        assert await talk.say(text("more")) == []
        talk.pass_time(4)
        assert talk.transport.aborted

    run(test)


def test_a_flood_after_the_end_is_cut_off() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        await talk.say(b"\x81\x01a")
        await talk.say(bytes(2**20 + 1))
        assert talk.transport.aborted

    run(test)


@pytest.mark.parametrize("how", ["eof", "lost"])
def test_a_client_that_leaves_without_a_word(how: str, caplog: pytest.LogCaptureFixture) -> None:
    """1006 for the app, whose sending then fails as over HTTP, and is no fault of its."""

    async def test() -> None:
        errors: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            errors.append(await receive())
            with pytest.raises(ClientGone) as error:
                await send({**SEND, "text": "x"})
            assert isinstance(error.value, OSError)
            await send({**SEND, "text": "x"})

        talk = Talk(app)
        await talk.begin()
        link = talk.socket
        if how == "eof":
            assert link.eof_received() is False
        link.connection_lost(None)
        await talk.settle()
        assert errors == [{"type": "websocket.disconnect", "code": 1006, "reason": ""}]
        assert talk.server.app_errors == 0
        assert not caplog.records
        assert talk.server.open == 0
        assert not talk.server.tasks
        assert not talk.server.wheel._buckets

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


def test_an_app_that_fails_is_blamed_once_and_its_client_told(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(ACCEPT)
            raise ValueError("of the app's own")

        talk = Talk(app)
        await talk.begin()
        assert talk.got() == [(1011, "")]
        (record,) = caplog.records
        assert record.levelno == logging.ERROR
        assert record.exc_info is not None

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
