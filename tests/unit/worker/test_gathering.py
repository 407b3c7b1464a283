"""Small pieces of a streamed answer are written together, and never held beyond the loop's turn."""

import asyncio
from typing import Any

from clusterd.app.http1 import COPIED
from tests.unit.worker.fakes import Bench, get, run, streaming

START: Any = {"type": "http.response.start", "status": 200, "headers": []}


def piece(data: bytes) -> Any:
    return {"type": "http.response.body", "body": data, "more_body": True}


def test_pieces_made_in_one_go_are_one_write() -> None:
    """A hundred pieces without a pause cost one write, and every piece is a chunk."""

    async def test() -> None:
        bench = Bench(streaming(*[b"0123456789"] * 100))
        answer = await bench.talk(get())
        assert bench.transport.writes == 1
        assert answer.count(b"a\r\n0123456789\r\n") == 100
        assert answer.endswith(b"\r\n0\r\n\r\n")

    run(test)


def test_what_was_sent_leaves_before_the_app_waits_on() -> None:
    """An app that waits between two pieces has the first delivered, however small it is."""

    async def test() -> None:
        more = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"first"))
            await more.wait()
            await send(piece(b"second"))
            await asyncio.Event().wait()

        bench = Bench(app)
        answer = await bench.talk(get())
        assert answer.endswith(b"5\r\nfirst\r\n")
        assert bench.transport.writes == 1
        more.set()
        await bench.settle()
        assert bytes(bench.transport.sent) == b"6\r\nsecond\r\n"

    run(test)


def test_no_more_than_a_little_is_held() -> None:
    """An app that never waits has its pieces written as they become many."""

    async def test() -> None:
        held = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal held
            await send(START)
            total = 0
            for _ in range(100):
                await send(piece(b"x" * 1000))
                total += 1000
                held = max(held, total - len(bench.transport.sent))
            await send({"type": "http.response.body"})

        bench = Bench(app)
        answer = await bench.talk(get())
        assert answer.count(b"x" * 1000) == 100
        assert held <= COPIED + 1000

    run(test)


def test_what_is_just_not_too_much_is_held() -> None:
    """Pieces that fill the allowance to the last byte are one write, and a byte more is sent."""

    async def test() -> None:
        writes: list[int] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"first"))
            while not bench.transport.writes:
                await asyncio.sleep(0)
            for _ in range(4):
                await send(piece(b"x" * (COPIED // 4 - 7)))  # with its framing a quarter
            writes.append(bench.transport.writes)
            await send(piece(b"x"))
            writes.append(bench.transport.writes)
            await send({"type": "http.response.body"})

        bench = Bench(app)
        bench.feed(get())
        while not bench.connection.idle:
            await asyncio.sleep(0)
        assert writes == [1, 2]

    run(test)


def test_large_pieces_keep_their_order() -> None:
    """One that is written at once does not overtake those that are held."""

    async def test() -> None:
        pieces = [b"a" * 10, b"b" * COPIED, b"c" * 10, b"d" * (COPIED - 1), b"e"]
        answer = await Bench(streaming(*pieces)).talk(get())
        framed = b"".join(b"%x\r\n%b\r\n" % (len(data), data) for data in pieces)
        assert answer.endswith(framed + b"0\r\n\r\n")

    run(test)


def test_an_app_that_fails_has_sent_what_it_sent() -> None:
    """What came before the failure reaches the client; then the connection is cut."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"so far"))
            raise RuntimeError

        bench = Bench(app)
        answer = await bench.talk(get())
        assert answer.endswith(b"6\r\nso far\r\n")
        assert bench.transport.aborted

    run(test)


def test_nothing_is_written_to_a_client_that_has_left() -> None:
    """Pieces held when the connection is lost go nowhere."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(START)
            await send(piece(b"so far"))
            bench.connection.connection_lost(None)

        bench = Bench(app)
        assert await bench.talk(get()) == b""

    run(test)
