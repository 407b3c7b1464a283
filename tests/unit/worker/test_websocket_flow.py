"""A WebSocket whose app or whose client is slow: back-pressure both ways."""

import asyncio
from typing import Any

from clusterd.config.serving import HttpSettings
from tests.unit.wire.frames import frame
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import (
    BINARY,
    FINAL,
    Deaf,
    Scribe,
    Talk,
    shake,
    text,
)


def test_an_app_that_takes_nothing_stops_the_reading() -> None:
    """By number and by size; nothing is lost, and order is kept."""

    async def test() -> None:
        deaf = Deaf()
        talk = Talk(deaf)
        await talk.begin()
        await talk.say(*[text(str(number)) for number in range(63)])
        assert not talk.transport.paused
        await talk.say(b"".join(text(str(number)) for number in range(63, 1000)))
        assert talk.transport.paused
        assert len(talk.socket.session._queue) == 64
        deaf.take.set()
        while len(deaf.received) < 1000:
            await talk.settle()
        assert [message["text"] for message in deaf.received] == [str(n) for n in range(1000)]
        assert not talk.transport.paused

    run(test)


def test_a_client_that_never_pauses_leaves_others_their_turn() -> None:
    """An app that only receives never waits by itself while there is something to take."""

    async def test() -> None:
        deaf = Deaf()
        deaf.take.set()
        talk = Talk(deaf)
        await talk.begin()
        talk.feed(text("x") * 1000)
        turns = 0
        while len(deaf.received) < 1000:
            await asyncio.sleep(0)
            turns += 1
        assert turns >= 1000 // 64

    run(test)


def test_an_app_that_keeps_up_never_stops_the_reading() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        stops: list[None] = []
        talk.transport.pause_reading = lambda: stops.append(None)  # type: ignore[method-assign]
        for _ in range(20):
            await talk.say(text("x" * 40_000))
        assert not stops

    run(test)


def test_long_messages_that_nobody_takes_stop_the_reading() -> None:
    async def test() -> None:
        talk = Talk(Deaf())
        await talk.begin()
        await talk.say(frame(FINAL | BINARY, bytes(40_000)))
        assert not talk.transport.paused
        await talk.say(frame(FINAL | BINARY, bytes(40_000)) + text("unread"))
        assert talk.transport.paused
        assert len(talk.socket.session._queue) == 2

    run(test)


def test_frames_before_the_accept_stop_the_reading() -> None:
    async def test() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await Scribe()(scope, receive, send)

        talk = Talk(app)
        await talk.talk(shake())
        await talk.talk(text("early"))
        assert talk.transport.paused
        go.set()
        answer = await talk.talk()
        talk.client.receive_data(answer.partition(b"\r\n\r\n")[2])
        assert talk.got() == ["early"]
        assert not talk.transport.paused

    run(test)


def flood(count: int, sent: list[int], size: int = 1000) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        for number in range(count):
            await send({"type": "websocket.send", "bytes": bytes(size)})
            sent.append(number)

    return app


def test_the_app_waits_while_its_client_does_not_read() -> None:
    async def test() -> None:
        sent: list[int] = []
        talk = Talk(flood(1000, sent))
        talk.transport.stuck = True
        await talk.talk(shake())
        assert len(sent) < 80
        talk.transport.drained()
        await talk.settle()
        assert len(sent) == 1000

    run(test)


def test_a_client_that_never_reads_is_dropped() -> None:
    async def test() -> None:
        sent: list[int] = []
        talk = Talk(flood(1000, sent), http=HttpSettings(write_timeout=5.0))
        talk.transport.stuck = True
        await talk.talk(shake())
        talk.pass_time(7)
        assert talk.transport.aborted
        assert talk.socket.session is not None
        assert talk.socket.session.gone  # at once: nothing is written to it any more
        talk.socket.connection_lost(None)
        await talk.settle()
        assert len(sent) < 80
        assert not talk.server.tasks
        assert talk.server.app_errors == 0

    run(test)


def test_an_app_that_never_waits_leaves_others_their_turn() -> None:
    async def test() -> None:
        sent: list[int] = []
        talk = Talk(flood(3000, sent))
        talk.feed(shake())
        await asyncio.sleep(0)
        assert 1000 < len(sent) < 3000

    run(test)
