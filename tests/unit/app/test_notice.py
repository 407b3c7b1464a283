"""The drain notice: told once the worker leaves, with what is left; nothing before, and no cost."""

import asyncio
from typing import Any

from tests.unit.worker.fakes import Bench, get, hello, run


def test_handlers_hear_that_the_worker_leaves() -> None:
    """Who waits is woken, who asks is answered; what it says is what is left."""

    async def test() -> None:
        heard: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            drain = scope["extensions"]["clusterd.drain"]
            heard.append(drain["left"]())
            heard.append(await drain["wait"]())
            heard.append(drain["left"]())
            await hello(scope, receive, send)

        bench = Bench(app)
        assert await bench.talk(get()) == b""
        assert heard == [None]
        bench.server.drain_begins(False, bench.now + 7)
        await bench.settle()
        assert heard == [None, 7, 7]
        assert b"connection: close" in bench.transport.sent

    run(test)


def test_a_later_order_shortens_it() -> None:
    async def test() -> None:
        bench = Bench(hello)
        drain = bench.server.notice.extension
        bench.server.drain_begins(False, bench.now + 7)
        bench.server.drain_begins(True, bench.now + 2)
        assert await drain["wait"]() == 2  # also who asks late is told
        bench.now += 3
        assert drain["left"]() == 0

    run(test)


def test_waiting_can_be_given_up() -> None:
    """As one does who waits for several things at once; nothing of it stays behind."""

    async def test() -> None:
        bench = Bench(hello)
        waiting = asyncio.ensure_future(bench.server.notice.extension["wait"]())
        await bench.settle()
        waiting.cancel()
        await bench.settle()
        assert waiting.cancelled()
        assert not bench.server.notice._begun._waiters
        bench.server.drain_begins(False, bench.now + 7)

    run(test)


def test_all_scopes_of_a_worker_carry_the_same() -> None:
    """Nothing is made for a request that does not ask."""

    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope["extensions"]["clusterd.drain"])
            await hello(scope, receive, send)

        bench = Bench(app)
        await bench.talk(get(), get())
        assert seen[0] is seen[1] is bench.server.notice.extension

    run(test)
