"""How a WebSocket ends from our side: deadlines of the close, and a worker that leaves."""

import asyncio
import random
from typing import Any

from clusterd.worker.websocket_ending import FAREWELL, SPREAD
from tests.unit.wire.frames import closing
from tests.unit.worker.fakes import run
from tests.unit.worker.sockets import (
    Deaf,
    Scribe,
    Talk,
    shake,
    text,
)


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


def test_a_task_that_is_cancelled_before_it_began_is_forgotten() -> None:
    """Before Python 3.12 tasks do not begin at once."""

    async def test() -> None:
        talk = Talk(Scribe())
        talk.server.spawn = talk.loop.create_task
        talk.feed(shake())
        talk.socket.cancel()
        await talk.settle()
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


def test_the_time_for_its_answer_begins_when_a_slow_client_has_our_close() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        talk.transport.stuck = True
        await talk.say(text("x" * 70_000))
        talk.server.drain_begins(last=True, leave_by=talk.now + 100)
        talk.pass_time(20)
        talk.transport.drained()
        talk.pass_time(FAREWELL - 1)
        assert not talk.transport.aborted
        talk.pass_time(3)
        assert talk.transport.aborted

    run(test)


def test_a_client_that_left_is_not_sent_away() -> None:
    async def test() -> None:
        talk = Talk(Scribe())
        await talk.begin()
        link = talk.socket
        talk.server.drain_begins(last=False, leave_by=talk.now + 1000)
        assert link._leaving is not None
        link.connection_lost(None)
        assert link._leaving.cancelled()

    run(test)


def test_what_nobody_took_does_not_keep_a_violation_from_its_end() -> None:
    async def test() -> None:
        deaf = Deaf()
        talk = Talk(deaf)
        await talk.begin()
        await talk.say(text("x") * 100 + b"\x81\x01a")
        assert talk.transport.paused
        deaf.take.set()
        for _ in range(5):
            await talk.settle()
        assert talk.got()[-1][0] == 1002
        assert not talk.transport.paused  # what still comes is thrown away

    run(test)


def test_a_denial_survives_frames_that_came_too_early() -> None:
    """Closed with bytes unread, the connection would be reset, and the answer lost with it."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await send({"type": "websocket.close"})

        talk = Talk(app)
        assert (await talk.talk(shake() + text("early"))).startswith(b"HTTP/1.1 403 ")
        assert talk.transport.ended
        assert not talk.transport.closed
        talk.pass_time(4)
        assert talk.transport.aborted

    run(test)
