"""Each phase of a connection has a deadline or a rate, whatever trickles in or out; and at the
connection cap those go first who are nearest to theirs."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clusterd.config.serving import HttpSettings
from clusterd.worker.connection import Connection
from clusterd.worker.deadlines import NEVER, RATE, Wheel
from clusterd.worker.ending import LINGER, LINGER_ROOM
from tests.unit.worker.fakes import (
    Bench,
    FakeTransport,
    Held,
    echo,
    get,
    hello,
    run,
    statuses,
)
from tests.unit.worker.test_deadlines import Item, Timer

HTTP = HttpSettings(keep_alive=65, header_timeout=10, body_timeout=30, write_timeout=30)
LONG = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


async def lasts(bench: Bench, tick: Callable[[], object], each: float, most: float) -> float:
    """Seconds until the connection is given up while something goes on; fails after too many."""
    began = bench.now
    while not bench.connection.is_closing:
        tick()
        bench.pass_time(each)
        await asyncio.sleep(0)
        assert bench.now - began < most
    return bench.now - began


TRICKLES = [
    # name, what comes first, what comes again and again, seconds between, seconds it may last
    ("nothing", b"", b"", 1, 12),
    ("blank lines", b"", b"\r\n", 1, 12),
    ("request line", b"GET /", b"a", 1, 12),
    ("head", b"GET / HTTP/1.1\r\nHost: a\r\n", b"X: y\r\n", 1, 12),
    ("header line", b"GET / HTTP/1.1\r\nHost: a\r\nX: ", b"y", 1, 12),
    ("body, stalled", LONG, b"", 1, 33),
    ("body, a byte a second", LONG, b"x", 1, 33),
    ("body, a byte each 29 s", LONG, b"x", 29, 70),
    ("body, just too slow", LONG, b"x" * (RATE - 20), 1, 500),
    ("chunk-size line", CHUNKED + b"1", b"", 1, 33),
    ("noughts before a size", CHUNKED, b"0", 3, 36),
    ("chunk extension", CHUNKED + b"5;", b"a", 1, 33),
    ("data of a chunk", CHUNKED + b"ffff\r\n", b"x", 1, 33),
    ("tiny chunks", CHUNKED, b"1\r\nx\r\n", 1, 33),
    ("end of a chunk", CHUNKED + b"1\r\nx\r", b"", 1, 33),
    ("trailers", CHUNKED + b"0\r\n", b"A: b\r\n", 1, 33),
]


@pytest.mark.parametrize("case", TRICKLES, ids=[case[0] for case in TRICKLES])
@pytest.mark.parametrize("kept", [False, True], ids=["first", "kept"])
def test_no_trickle_holds_a_connection(case: Any, kept: bool) -> None:
    """Whatever comes too slowly is answered 408, or with nothing where nothing was asked."""
    _, first, again, each, most = case

    async def test() -> None:
        bench = Bench(echo, HTTP)
        if kept:
            await bench.talk(get())
        bench.feed(first)
        waits = 70 if kept and not first else most
        await lasts(bench, lambda: bench.feed(again) if again else None, each, waits)
        asked = bool(first)
        assert statuses(await bench.talk()) == ([408] if asked else [])
        bench.pass_time(LINGER + 2)
        assert bench.transport.closed
        assert not bench.server.running

    run(test)


def test_a_body_that_comes_at_the_rate_is_waited_for() -> None:
    """Steadily, or in lumps; also for hours."""

    async def test() -> None:
        for size, each in ((RATE, 1), (RATE * 20, 20)):
            bench = Bench(echo, HTTP)
            bench.feed(LONG)
            for _ in range(int(2000 / each)):
                bench.feed(b"x" * size)
                bench.pass_time(each)
                await asyncio.sleep(0)
            assert not bench.transport.closed

    run(test)


def test_what_came_fast_buys_no_long_silence() -> None:
    """Megabytes at once are worth as much time as a body may stand still, and no more."""

    async def test() -> None:
        bench = Bench(echo, HTTP)
        bench.feed(LONG.replace(b"1000000", b"100000000"))
        for _ in range(100):
            bench.feed(b"x" * 60_000)
            await asyncio.sleep(0)
        assert await lasts(bench, lambda: None, 1, 40) >= 30

    run(test)


def test_a_slow_app_is_not_its_clients_fault() -> None:
    """While we do not read there is no rate; afterwards the client has all its time again."""

    async def test() -> None:
        app = Held()
        bench = Bench(app, HTTP)
        bench.feed(LONG)
        while not bench.transport.paused:
            bench.feed(b"x" * 16384)
        bench.pass_time(100_000)
        app.go.set()
        await bench.settle()
        assert not bench.transport.paused
        bench.pass_time(29)
        assert not bench.transport.closed
        bench.pass_time(3)
        assert statuses(await bench.talk()) == [408]

    run(test)


async def big(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    for _ in range(100):
        await send({"type": "http.response.body", "body": b"x" * 50_000, "more_body": True})
    await send({"type": "http.response.body"})


def test_who_was_slow_to_take_the_answer_may_still_send_the_body() -> None:
    """Both go on at once: each has a time of its own."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
            while (await receive()).get("more_body"):
                pass

        bench = Bench(app, HTTP)
        bench.transport.stuck = True
        bench.feed(LONG)
        await bench.settle()
        bench.pass_time(28)
        bench.transport.drained()
        bench.pass_time(28)
        assert not bench.transport.closed
        bench.pass_time(4)
        assert bench.transport.aborted

    run(test)


@pytest.mark.parametrize(("taken", "outlives"), [(0, 33), (1, 33), (100, 33), (RATE - 20, 33)])
def test_an_answer_that_is_taken_too_slowly_is_dropped(taken: int, outlives: float) -> None:
    """Bytes a second that the client takes, below the rate; the app is told that it is gone."""

    async def test() -> None:
        bench = Bench(big, HTTP)
        bench.transport.stuck = True
        bench.feed(get())
        await bench.settle()

        def take() -> None:
            bench.transport.unsent -= taken

        assert await lasts(bench, take, 1, outlives) >= 30
        assert bench.transport.aborted
        bench.connection.connection_lost(None)
        await bench.settle()
        assert not bench.server.tasks

    run(test)


def test_an_answer_that_is_taken_at_the_rate_is_waited_for() -> None:
    async def test() -> None:
        bench = Bench(hello, HTTP)
        bench.transport.stuck = True
        bench.transport.write(b"x" * 100_000)
        for _ in range(300):
            bench.transport.unsent -= RATE
            bench.pass_time(1)
        assert not bench.transport.closed

    run(test)


def test_the_last_answer_has_the_same_rate() -> None:
    """Also when the connection is closing, and nobody writes any more."""

    async def test() -> None:
        bench = Bench(hello, HTTP)
        bench.transport.stuck = True
        bench.feed(get("/", "Connection: close"))
        await bench.settle()
        assert bench.transport.closed
        assert not bench.transport.aborted
        bench.pass_time(32)
        assert bench.transport.aborted

    run(test)


def test_lingering_is_bounded_in_time_and_bytes() -> None:
    """After a refusal what comes is thrown away, for a moment."""

    async def test() -> None:
        for each, size in ((0.1, 1), (0.0, 100_000)):
            bench = Bench(hello, HTTP)
            bench.feed(b"\0")
            assert bench.transport.ended
            for _ in range(40):
                bench.feed(b"x" * size)
                bench.pass_time(each)
            assert bench.transport.aborted
            assert size * 40 > LINGER_ROOM or each * 40 > LINGER

    run(test)


# --- at the connection cap


class Crowd:
    """A server with many connections, each made a second after the one before."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        bench.connection.abort()
        bench.connection.connection_lost(None)

    async def one(self, *pieces: bytes) -> tuple[FakeTransport, Connection]:
        transport, connection = self.bench.connect()
        for piece in pieces:
            connection.data_received(piece)
        await self.bench.settle()
        self.bench.now += 1.0
        return transport, connection

    def shed(self, *candidates: tuple[FakeTransport, Connection]) -> int | None:
        """Which of them had to go; None for none of them, and 503."""
        before = [transport.closed for transport, _ in candidates]
        made_room = self.bench.server.shed()
        after = [transport.closed for transport, _ in candidates]
        gone = [index for index, was in enumerate(before) if after[index] and not was]
        assert made_room == bool(gone)
        assert len(gone) <= 1
        for index in gone:
            candidates[index][1].connection_lost(None)
        return gone[0] if gone else None


def crowd(test: Callable[[Crowd], Awaitable[None]], app: Any = echo) -> None:
    async def within() -> None:
        await test(Crowd(Bench(app, HTTP)))

    run(within)


def test_the_silent_go_in_their_order() -> None:
    """Those who were there first have had the most time."""

    async def test(crowd: Crowd) -> None:
        every = [await crowd.one() for _ in range(5)]
        crowd.bench.now -= 0.5
        assert [crowd.shed(*every) for _ in range(6)] == [0, 1, 2, 3, 4, None]

    crowd(test)


def test_who_is_slow_goes_before_who_is_idle_and_nobody_in_mid_request() -> None:
    """Half a head and silence are due in seconds, an idle connection in a minute."""

    async def test(crowd: Crowd) -> None:
        idle = await crowd.one(get())
        silent = await crowd.one()
        waiting = await crowd.one(LONG)
        half = await crowd.one(b"GET / HT")
        recent = await crowd.one(get())
        await crowd.bench.settle()
        every = [idle, silent, waiting, half, recent]
        assert [crowd.shed(*every) for _ in range(5)] == [1, 3, 0, 4, None]

    crowd(test)


def test_who_was_idle_for_long_goes_before_who_just_came() -> None:
    """So a flood of new connections cannot be, but a crowd of kept ones can be, displaced."""

    async def test(crowd: Crowd) -> None:
        kept = [await crowd.one(get()) for _ in range(3)]
        await crowd.bench.settle()
        crowd.bench.pass_time(58)
        new = await crowd.one()
        assert [crowd.shed(*kept, new) for _ in range(5)] == [0, 1, 2, 3, None]

    crowd(test)


def test_who_is_past_a_deadline_goes_first_even_in_mid_request() -> None:
    """A body below its rate is late, though the wheel has not looked yet."""

    async def test(crowd: Crowd) -> None:
        slow = await crowd.one(LONG)
        silent = await crowd.one()
        await crowd.bench.settle()
        for _ in range(5):
            slow[1].data_received(b"x")
            crowd.bench.now += 1
        assert crowd.shed(slow, silent) == 1
        crowd.bench.now += 25
        fresh = await crowd.one()
        assert crowd.bench.server.shed()
        assert statuses(bytes(slow[0].sent)) == [408]
        assert not fresh[0].closed

    crowd(test)


def test_who_was_refused_is_not_listened_to_at_the_cap() -> None:
    """Lingering is a courtesy to who sends on after an error: it ends when room is wanted."""

    async def test(crowd: Crowd) -> None:
        idle = await crowd.one(get())
        refused = await crowd.one(b"\0")
        await crowd.bench.settle()
        assert refused[0].ended
        assert crowd.shed(idle, refused) == 1

    crowd(test)


def test_who_sends_on_after_its_answer_is_not_listened_to_at_the_cap() -> None:
    async def test(crowd: Crowd) -> None:
        idle = await crowd.one(get())
        sending = await crowd.one(LONG)
        await crowd.bench.settle()
        assert sending[0].ended
        assert crowd.shed(idle, sending) == 1

    crowd(test, hello)


def test_an_untaken_answer_is_not_dropped_for_somebody_new() -> None:
    async def test(crowd: Crowd) -> None:
        transport, connection = await crowd.one(get())
        transport.stuck = True
        connection.data_received(get())
        await crowd.bench.settle()
        assert transport.unsent
        assert crowd.shed((transport, connection)) is None

    crowd(test)


def test_a_flood_of_silent_connections_displaces_itself() -> None:
    """At the cap, with a thousand a second coming: who asks at once is served, and kept."""

    async def test(crowd: Crowd) -> None:
        bench = crowd.bench
        polite = [await crowd.one(get()) for _ in range(20)]
        flood = [bench.connect() for _ in range(80)]
        for turn in range(3000):
            bench.now += 0.001
            assert bench.server.shed()
            for index, (transport, connection) in enumerate(flood):
                if transport.closed:
                    connection.connection_lost(None)
                    flood[index] = bench.connect()
                    break
            if turn % 100 == 0:  # and one in a hundred is no attacker
                transport, connection = bench.connect()
                connection.data_received(get())
                await asyncio.sleep(0)
                assert statuses(bytes(transport.sent)) == [200]
                connection.abort()
                connection.connection_lost(None)
        assert not any(transport.closed for transport, _ in polite)
        assert bench.server.open == 100

    crowd(test)


def test_the_wheel_goes_by_true_deadlines() -> None:
    """What moved meanwhile comes where it belongs now, and what has none does not come."""

    wheel = Wheel(Timer(), lambda: 0.0)  # type: ignore[arg-type]
    items = [Item(due) for due in (5.0, 3.0, 8.2, 3.5, 6.0, 8.0, 8.1)]
    for item in items:
        wheel.book(item)
    items[1].due = 7.0
    items[4].due = NEVER
    for _ in range(2):
        assert [item.due for item in wheel.nearest()] == [3.5, 5.0, 7.0, 8.0, 8.1, 8.2]
