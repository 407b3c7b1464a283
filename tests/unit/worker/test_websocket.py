"""A WebSocket on a fake transport: messages both ways, and every end it may have."""

import asyncio
import logging
from typing import Any

import pytest

from clusterd.app.peer import ClientGone, ContractError
from tests.unit.wire.frames import closing, frame
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import (
    ACCEPT,
    BINARY,
    FINAL,
    PING,
    TEXT,
    Scribe,
    Talk,
    accepting,
    text,
)

SEND = {"type": "websocket.send"}


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


@pytest.mark.parametrize("later", [False, True], ids=["one-segment", "while-busy"])
def test_what_came_before_a_violation_gets_its_response(later: bool) -> None:
    """Autobahn's 3.2 and 4.1.3: also where one segment had the message and the broken frame."""

    async def test() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert (await receive())["type"] == "websocket.connect"
            await send(ACCEPT)
            while (message := await receive())["type"] == "websocket.receive":
                await go.wait()
                await send({**SEND, "text": message["text"].upper()})
            ends.append(message["code"])

        ends: list[int] = []
        talk = Talk(app)
        await talk.begin()
        broken = frame(FINAL | 3, b"x")
        if later:
            await talk.say(text("one") + text("two"))
            await talk.say(broken)
        else:
            await talk.say(text("one") + text("two") + broken)
        assert talk.got() == []
        go.set()
        await talk.settle()
        assert talk.got() == ["ONE", "TWO", (1002, "an opcode that means nothing")]
        assert ends == [1002]
        assert talk.transport.ended

    run(test)


def test_an_app_that_never_asks_again_does_not_keep_a_broken_connection() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send(ACCEPT)
            await asyncio.Event().wait()

        talk = Talk(app)
        await talk.begin()
        assert await talk.say(text("one") + frame(FINAL | 3, b"x")) == []
        talk.pass_time(7)
        assert talk.got() == [(1002, "an opcode that means nothing")]

    run(test)
