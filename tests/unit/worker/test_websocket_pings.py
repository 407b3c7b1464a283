"""Pings, of both sides, and what they say of a client."""

from clusterd.config.serving import WebsocketSettings
from tests.unit.wire.frames import frame
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import (
    BINARY,
    FINAL,
    PING,
    PONG,
    Deaf,
    Scribe,
    Talk,
    text,
)

PONG_FRAME = frame(FINAL | PONG)


def test_pings_are_answered() -> None:
    """§5.5.2; of those that came while the client read nothing, only the last (§5.5.3)."""

    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        assert await talk.say(frame(FINAL | PING, b"a")) == [("pong", b"a")]
        link = talk.socket
        link.pause_writing()
        assert await talk.say(frame(FINAL | PING, b"b"), frame(FINAL | PING, b"c")) == []
        link.resume_writing()
        assert talk.got() == [("pong", b"c")]

    run(test)


def test_a_client_that_answers_pings_stays() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        for _ in range(5):
            talk.pass_time(21)
            assert talk.got() == [("ping", b"")]
            await talk.say(PONG_FRAME)
        assert not talk.transport.closed

    run(test)


def test_a_client_that_does_not_is_let_go_with_1011() -> None:
    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        talk.pass_time(21)
        assert talk.got() == [("ping", b"")]
        talk.pass_time(21)
        ((code, _),) = talk.got()
        assert code == 1011
        await scribe.over.wait()
        assert scribe.received[-1]["code"] == 1011
        talk.pass_time(4)
        assert talk.transport.aborted

    run(test)


def test_anything_that_comes_proves_that_a_client_is_there() -> None:
    """A pong cannot overtake a long message (§5.4), which may take its time."""

    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        whole = frame(FINAL | BINARY, bytes(60_000))
        for at in range(0, 60_000, 10_000):
            talk.pass_time(21)
            await talk.say(whole[at : at + 10_000])
        assert not talk.transport.closed

    run(test)


def test_a_pong_that_we_do_not_read_is_not_missed() -> None:
    """The app is slow, not the client."""

    async def test() -> None:
        deaf = Deaf()
        talk = Talk(deaf)
        await talk.begin()
        await talk.say(*[text("x")] * 100)
        assert talk.transport.paused
        for _ in range(5):
            talk.pass_time(21)
        deaf.take.set()
        await talk.settle()
        assert not talk.transport.closed
        talk.pass_time(21)
        talk.pass_time(21)
        assert (await talk.say())[-1][0] == 1011

    run(test)


def test_an_interval_shorter_than_the_timeout() -> None:
    async def test() -> None:
        settings = WebsocketSettings(websocket_ping_interval=5.0, websocket_ping_timeout=12.0)
        talk = Talk(Scribe(), settings)
        await talk.begin()
        for _ in range(2):
            talk.pass_time(6)
            assert talk.got() == [("ping", b"")]
        talk.pass_time(6)
        assert talk.got()[0][0] == 1011

    run(test)


def test_without_an_interval_there_are_no_pings() -> None:
    async def test() -> None:
        talk = Talk(Scribe(), WebsocketSettings(websocket_ping_interval=0.0))
        await talk.begin()
        for _ in range(100):
            talk.pass_time(20)
        assert talk.got() == []
        assert not talk.transport.closed

    run(test)
