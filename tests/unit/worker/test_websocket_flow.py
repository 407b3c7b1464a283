"""A WebSocket over time: back-pressure both ways, pings, deadlines, and how a worker leaves."""

import asyncio
import random
from typing import Any

from clusterd.config.settings import HttpSettings, WebsocketSettings
from clusterd.worker.websocket import FAREWELL, SPREAD
from tests.unit.wire.frames import closing, frame
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import (
    BINARY,
    FINAL,
    PING,
    PONG,
    Deaf,
    Scribe,
    Talk,
    shake,
    text,
)

PONG_FRAME = frame(FINAL | PONG)


# --- back-pressure


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
        assert len(talk.socket.session._queue) == 64  # type: ignore[union-attr]
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


def test_long_messages_that_nobody_takes_stop_the_reading() -> None:
    async def test() -> None:
        talk = Talk(Deaf())
        await talk.begin()
        await talk.say(frame(FINAL | BINARY, bytes(40_000)))
        assert not talk.transport.paused
        await talk.say(frame(FINAL | BINARY, bytes(40_000)) + text("unread"))
        assert talk.transport.paused
        assert len(talk.socket.session._queue) == 2  # type: ignore[union-attr]

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


# --- pings


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
        whole = frame(FINAL | BINARY, bytes(300))
        for at in range(0, 300, 50):
            talk.pass_time(21)
            await talk.say(whole[at : at + 50])
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


# --- ends


def test_a_client_that_does_not_answer_our_close_is_dropped() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close"})

        talk = Talk(app)
        await talk.begin()
        assert talk.got() == [(1000, "")]
        talk.pass_time(FAREWELL - 1)
        assert not talk.transport.aborted
        talk.pass_time(2)
        assert talk.transport.aborted

    run(test)


def test_our_close_waits_for_messages_that_the_client_has_not_taken_yet() -> None:
    """As long as it takes any: what the app sent comes first."""

    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        talk.transport.stuck = True
        await talk.say(text("x" * 50_000))
        talk.server.drain_begins(last=True, leave_by=talk.now + 100)
        for left in (40_000, 20_000):
            talk.transport.unsent = left
            talk.pass_time(32)
            assert not talk.transport.aborted
        talk.pass_time(32)
        assert talk.transport.aborted

    run(test)


def test_data_behind_our_close_is_dropped_until_the_client_s_close() -> None:
    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        talk.server.drain_begins(last=True, leave_by=talk.now + 100)
        assert await talk.say(text("late")) == [(1001, "")]
        assert await talk.say(text("later"), closing(1001)) == []
        assert [message["type"] for message in scribe.received[1:]] == ["websocket.disconnect"]
        assert talk.transport.closed
        assert not talk.transport.aborted

    run(test)


def test_our_close_is_answered_even_while_the_app_takes_nothing() -> None:
    async def test() -> None:
        talk = Talk(Deaf())
        await talk.begin()
        await talk.say(*[text("x")] * 100)
        assert talk.transport.paused
        talk.server.drain_begins(last=True, leave_by=talk.now + 100)
        assert not talk.transport.paused
        await talk.say(closing(1001))
        assert talk.transport.closed

    run(test)


# --- leaving


class Recorder:
    """A loop whose timers a test looks at."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.delays: list[float] = []
        self._loop = loop

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def call_later(self, delay: float, callback: Any, *args: Any) -> asyncio.TimerHandle:
        self.delays.append(delay)
        return self._loop.call_later(0, callback, *args)


def test_at_a_reload_clients_are_sent_away_one_by_one_with_1012() -> None:
    async def test() -> None:
        random.seed(7)
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        delays = []
        for _ in range(50):
            talk.server.loop = loop = Recorder(talk.loop)  # type: ignore[assignment]
            talk.server.drain_begins(last=False, leave_by=talk.now + 20)
            delays.append(loop.delays[0])
        assert 0 <= min(delays) < 2
        assert 8 < max(delays) <= 20 * SPREAD
        await scribe.over.wait()
        assert talk.got() == [(1012, "")]
        assert scribe.received[-1]["code"] == 1012

    run(test)


def test_what_the_app_sent_before_comes_before_the_close() -> None:
    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        talk.feed(text("a"), text("b"))
        await talk.settle()
        talk.server.drain_begins(last=False, leave_by=talk.now)
        await scribe.over.wait()
        assert talk.got() == ["a", "b", (1012, "")]

    run(test)


def test_at_a_stop_everybody_is_sent_away_at_once_with_1001() -> None:
    async def test() -> None:
        scribe = Scribe()
        talk = Talk(scribe)
        await talk.begin()
        talk.server.drain_begins(last=False, leave_by=talk.now + 1000)
        assert talk.got() == []
        talk.server.drain_begins(last=True, leave_by=talk.now + 1000)
        assert talk.got() == [(1001, "")]
        await scribe.over.wait()
        assert scribe.received[-1]["code"] == 1001

    run(test)


def test_a_handshake_during_a_drain_is_finished_first() -> None:
    async def test() -> None:
        talk = Talk(Scribe("welcome"))
        await talk.talk(shake()[:20])
        talk.server.drain_begins(last=True, leave_by=talk.now + 10)
        answer = await talk.talk(shake()[20:])
        talk.client.receive_data(answer.partition(b"\r\n\r\n")[2])
        assert talk.got()[-1] == (1001, "")

    run(test)


def test_at_the_cut_the_task_is_cancelled() -> None:
    """Also an app that ignores that it was told."""

    async def test() -> None:
        cancelled = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "websocket.accept"})
            try:
                await asyncio.Event().wait()
            finally:
                cancelled.set()

        talk = Talk(app)
        await talk.begin()
        assert talk.socket.cancel()
        await cancelled.wait()
        await talk.settle()
        assert talk.got() == [(1012, "")]
        assert talk.server.app_errors == 0
        assert not talk.server.tasks

    run(test)


def test_a_websocket_is_never_idle() -> None:
    """So no drain closes it without a word, or hands it to a sibling."""

    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        assert not talk.socket.idle
        assert talk.socket.release() is None

    run(test)


# --- denial


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
