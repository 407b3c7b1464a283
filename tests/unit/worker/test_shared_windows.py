"""The windows promised to all HTTP/2 clients of a worker fit its memory budget."""

import asyncio
from typing import Any

from clusterd.config.serving import HttpSettings
from clusterd.worker.http2_windows import WIDEST, Windows
from clusterd.worker.memory_budget import MemoryBudget
from tests.support import http2 as frames
from tests.support.http2 import Reading, get, post
from tests.unit.worker.fakes import Held, echo, run
from tests.unit.worker.fakes_http2 import Bench2

LEAST = 65_535
KIB = 1024


class Client:
    """A connection, as it asks."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.promised = 0
        self.asked = 0

    def widen(self) -> None:
        self.asked += 1
        self.windows.grant(self, LEAST + self.promised)


def make(limit: int) -> tuple[MemoryBudget, Windows]:
    loop = asyncio.get_running_loop()
    memory = MemoryBudget(limit, loop, set())
    return memory, Windows(memory, loop)


def test_a_window_is_doubled_until_it_is_the_widest() -> None:
    async def test() -> None:
        _, windows = make(10 * WIDEST)
        client = Client(windows)
        for _ in range(6):
            client.widen()
        assert LEAST + client.promised == WIDEST
        assert windows.promised == client.promised

    run(test)


def test_what_is_held_and_promised_by_all_fits_the_budget() -> None:
    async def test() -> None:
        memory, windows = make(1024 * KIB)
        memory.held = 300 * KIB
        clients = [Client(windows) for _ in range(20)]
        for client in clients:
            client.widen()
        assert sum(client.promised > 0 for client in clients) == 8
        assert memory.held + windows.promised <= memory.high
        windows.forget(clients[0])
        clients[-1].widen()
        assert clients[-1].promised

    run(test)


def test_no_window_gets_wider_while_memory_is_short_and_it_asks_again() -> None:
    async def test() -> None:
        memory, windows = make(10 * WIDEST)
        memory.is_short = True
        client = Client(windows)
        client.widen()
        assert not client.promised
        memory.is_short = False
        while not client.promised:
            await asyncio.sleep(0)
        assert client.asked == 2

    run(test)


def test_who_is_gone_asks_no_more() -> None:
    async def test() -> None:
        memory, windows = make(10 * WIDEST)
        memory.is_short = True
        gone, other = Client(windows), Client(windows)
        gone.widen()
        other.widen()
        windows.forget(gone)
        memory.is_short = False
        while other.asked < 2:
            await asyncio.sleep(0)
        assert gone.asked == 1

    run(test)


def test_while_memory_is_short_what_was_promised_is_not_given_back() -> None:
    async def test() -> None:
        memory, windows = make(10 * WIDEST)
        client = Client(windows)
        client.widen()
        assert windows.reclaim(client, 10_000) == 0
        memory.is_short = True
        assert windows.reclaim(client, 50_000) == 50_000
        assert windows.reclaim(client, 50_000) == 15_535
        assert windows.reclaim(client, 50_000) == 0, "the least stays"
        assert client.promised == windows.promised == 0

    run(test)


# --- connections


def given(transport: Any) -> int:
    """Bytes that a client's connection may have sent, by all WINDOW_UPDATE that it got."""
    updates = Reading().take(bytes(transport.sent)).of(frames.WINDOW_UPDATE)
    return LEAST + sum(int.from_bytes(sent.body) for sent in updates if not sent.stream)


def test_a_client_that_fills_its_window_gets_a_wider_one() -> None:
    async def test() -> None:
        bench = Bench2(Held(), HttpSettings(memory_budget=64 * WIDEST))
        bench.feed(post(1))
        assert given(bench.transport) == LEAST
        sent = 0
        while sent + 16_000 <= min(given(bench.transport), 250_000):
            bench.feed(frames.data(1, b"x" * 16_000))
            sent += 16_000
            await bench.settle()
        assert sent == 240_000
        assert given(bench.transport) == 8 * LEAST
        assert bench.server.windows.promised == 7 * LEAST
        bench.link.connection_lost(None)
        assert bench.server.windows.promised == 0

    run(test)


def test_a_body_gets_through_while_memory_is_short_and_other_streams_as_well() -> None:
    """The window gets narrow, but what the app takes is given back."""

    async def test() -> None:
        bench = Bench2(echo, HttpSettings(memory_budget=64 * WIDEST))
        memory = bench.server.memory
        bench.feed(frames.window(0, 2**30), frames.settings((4, 2**30)))
        bench.feed(post(1), *[frames.data(1, b"x" * 16_000)] * 4)
        await bench.settle()
        assert bench.server.windows.promised
        memory.is_short = True
        sent = 64_000
        for _ in range(100):
            while sent + 8_000 > given(bench.transport):
                await asyncio.sleep(0)
            bench.feed(frames.data(1, b"x" * 8_000))
            sent += 8_000
            await bench.settle()
        assert bench.server.windows.promised == 0
        assert given(bench.transport) - sent <= LEAST
        bench.feed(frames.data(1, b"", end=True), get(3))
        await bench.settle()
        client = Reading().take(bytes(bench.transport.sent))
        assert client.ended == {1, 3}
        assert client.bodies[1] == b"POST / " + b"x" * sent

    run(test)
