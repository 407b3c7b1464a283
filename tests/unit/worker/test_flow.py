"""Flow control both ways, clients that leave, and bodies that nobody reads."""

from typing import Any

from clusterd.worker import ending as module
from clusterd.worker.connection import PIECE
from clusterd.worker.turns import SLICE
from tests.unit.worker.fakes import (
    CHUNKED,
    POST,
    Bench,
    Held,
    echo,
    get,
    hello,
    run,
    statuses,
)


def test_a_body_waits_for_its_app() -> None:
    """A fast sender to a slow app: reading stops at 64 KiB, and goes on as the app takes it."""

    async def test() -> None:
        app = Held()
        bench = Bench(app)
        size = 1024 * 1024
        bench.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        while not bench.transport.paused:
            bench.feed(b"x" * 16384)
            sent += 16384
        assert sent <= module.BODY_ROOM + 16384
        bench.pass_time(1000)
        assert not bench.transport.closed  # it is the app that is slow
        app.go.set()
        await bench.settle()
        while sent < size:
            assert not bench.transport.paused
            bench.feed(b"x" * 16384)
            sent += 16384
            await bench.settle()
        assert statuses(await bench.talk()) == [200]

    run(test)


def test_one_byte_chunks_cost_no_object_each() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(CHUNKED.partition(b"3\r\n")[0] + b"1\r\nx\r\n" * 1000)
        assert bench.connection.exchange is not None
        assert bench.connection.exchange.body == b"x" * 1000
        app.go.set()
        assert statuses(await bench.talk(b"0\r\n\r\n")) == [200]

    run(test)


def test_a_slow_reader_holds_up_its_app() -> None:
    """A big answer to a client that does not read: the app waits, memory stays bounded."""

    async def test() -> None:
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"x" * 50000, "more_body": True})
                sent += 50000
            await send({"type": "http.response.body"})

        bench = Bench(app)
        bench.transport.stuck = True
        bench.feed(get())
        await bench.settle()
        assert sent <= 100_000
        bench.transport.drained()
        await bench.settle()
        assert sent == 5_000_000

    run(test)


def test_who_does_not_read_answers_gets_no_more_of_them() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 100_000})

        bench = Bench(app)
        bench.transport.stuck = True
        bench.feed(get() * 10)
        await bench.settle()
        assert bench.transport.unsent < 250_000
        bench.transport.drained()
        for _ in range(20):
            await bench.settle()
        assert bench.connection.idle

    run(test)


def test_a_client_that_leaves_is_told_as_disconnect() -> None:
    """`receive` says so, the app runs on, and `send` raises OSError (ASGI HTTP 2.4)."""

    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((await receive())["type"])
            seen.append((await receive())["type"])
            try:
                await send({"type": "http.response.start", "status": 200})
            except OSError as error:
                seen.append(type(error).__name__)

        bench = Bench(app)
        bench.feed(get())
        await bench.settle()
        assert seen == ["http.request"]
        task = bench.connection.exchange.task if bench.connection.exchange else None
        bench.connection.connection_lost(None)
        await bench.settle()
        assert seen == ["http.request", "http.disconnect", "ClientGone"]
        assert task is not None
        assert task.exception() is None
        assert not bench.server.app_errors
        assert bench.server.open == 0
        assert not bench.server.running

    run(test)


def test_a_client_that_closes_its_side_gets_its_answer() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(POST)
        assert bench.connection.eof_received()
        app.go.set()
        assert (await bench.talk()).endswith(b"POST /p hello")
        assert bench.transport.closed

    run(test)


def test_a_truncated_body_is_not_taken_as_complete() -> None:
    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while True:
                seen.append(await receive())
                if seen[-1]["type"] == "http.disconnect":
                    return

        bench = Bench(app)
        bench.feed(CHUNKED[:-5])
        bench.connection.eof_received()
        await bench.settle()
        assert [message.get("more_body") for message in seen] == [True, None]

    run(test)


def test_an_unread_body_is_read_if_short_and_never_parsed() -> None:
    """A short rest is read away and the connection kept; after a long one it is closed."""

    async def test() -> None:
        smuggled = get("/smuggled")
        head = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        short = Bench(hello)
        answers = await short.talk(head % len(smuggled), smuggled + get("/2"))
        assert len(statuses(answers)) == 2
        assert not short.transport.closed
        for body in (head % 10**6, CHUNKED.partition(b"3\r\n")[0]):
            long = Bench(hello)
            answer = await long.talk(body)
            assert b"connection: close" in answer
            assert long.transport.ended  # our side is shut, theirs is read for a moment
            assert await long.talk(smuggled * 10) == b""
            long.pass_time(10)
            assert long.transport.aborted

    run(test)


async def mirror(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the body, each piece as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


def test_a_body_goes_on_once_its_client_reads_the_answer() -> None:
    """What came of it while nothing could be sent is read first, in its order."""

    async def test() -> None:
        bench = Bench(mirror)
        bench.transport.stuck = True
        pieces = [b"%d" % n * 16384 for n in range(8)]
        bench.feed(b"POST / HTTP/1.0\r\nContent-Length: %d\r\n\r\n" % sum(map(len, pieces)))
        taken = 0
        while not bench.connection.is_paused:
            await bench.talk(pieces[taken])
            taken += 1
        bench.feed(pieces[taken])
        assert bench.transport.paused
        bench.transport.drained()
        await bench.settle()
        assert not bench.transport.paused
        answer = await bench.talk(*pieces[taken + 1 :])
        assert answer == b"".join(pieces[taken:])
        assert bench.transport.closed

    run(test)


def test_a_body_goes_on_where_only_a_part_of_its_framing_was_held() -> None:
    """There is nothing for the application to take, which would have reading go on."""

    async def test() -> None:
        bench = Bench(mirror)
        bench.transport.stuck = True
        bench.feed(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        while not bench.connection.is_paused:
            await bench.talk(b"4000\r\n%b\r\n" % (b"x" * 16384))
        bench.feed(b"1")
        assert bench.transport.paused
        bench.transport.drained()
        await bench.settle()
        assert not bench.transport.paused
        assert await bench.talk(b"0\r\n%b\r\n0\r\n\r\n" % (b"y" * 16)) == (
            b"10\r\n%b\r\n0\r\n\r\n" % (b"y" * 16)
        )

    run(test)


def test_a_body_in_chunks_of_one_byte_leaves_turns_to_others() -> None:
    """What does not fit into this turn of the loop waits, and is read in its order."""

    async def test() -> None:
        bench = Bench(echo)
        await bench.talk(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        bench.server.turns.is_used_up(bench.now)
        bench.now += SLICE  # other connections have used up this turn
        body = bytes(range(97, 123)) * 1700
        data = b"".join([b"1\r\n%c\r\n" % byte for byte in body]) + b"0\r\n\r\n" + get("/next")
        assert len(data) > 4 * PIECE
        bench.feed(data)
        assert bench.transport.paused
        assert bench.connection.measure() >= len(data)
        assert bench.connection.advance()
        bench.connection.body_taken()  # by the application
        assert bench.connection.measure() >= len(data)
        assert bench.transport.paused
        answers = await bench.talk()
        assert statuses(answers) == [200, 200]
        assert b"POST / " + body in answers
        assert not bench.transport.paused

    run(test)


def test_a_client_that_is_refused_in_its_turn_is_read_to_its_end() -> None:
    async def test() -> None:
        bench = Bench(echo)
        await bench.talk(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
        bench.server.turns.is_used_up(bench.now)
        bench.now += SLICE
        bench.feed(b"zz\r\n" + b"1\r\nx\r\n" * 30000)
        assert bench.transport.paused
        assert statuses(await bench.talk()) == [400]
        assert not bench.transport.paused
        assert bench.transport.ended

    run(test)
