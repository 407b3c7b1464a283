"""What HTTP/2 connections bring at once is worked off in turns of the loop, each in its part."""

import asyncio
from collections.abc import Callable
from typing import Any

from clusterd.worker.turns import PIECE, SLICE, Turns
from tests.support import http2 as frames
from tests.support.http2 import Reading, get
from tests.unit.worker.fakes import Held, hello, run
from tests.unit.worker.fakes_http2 import Bench2


class Item:
    """Something to do in so many pieces, of which each takes its time."""

    def __init__(self, name: str, pieces: int, work: Callable[[str], None]) -> None:
        self.name, self.left, self.work = name, pieces, work

    @property
    def has_little(self) -> bool:
        return self.left <= 1

    def advance(self) -> bool:
        self.left -= 1
        self.work(self.name)
        return self.left > 0


class Bench:
    """Turns, under a clock that stands still but for what work takes."""

    def __init__(self, takes: float) -> None:
        self.now, self.takes = 100.0, takes
        self.done: list[list[str]] = [[]]  # by turn of the loop
        self.turns = Turns(asyncio.get_running_loop(), lambda: self.now)

    def work(self, name: str) -> None:
        self.now += self.takes
        self.done[-1].append(name)

    async def go(self, rounds: int) -> list[str]:
        for _ in range(rounds):
            await asyncio.sleep(0)
            self.done.append([])
        return ["".join(names) for names in self.done if names]


def test_each_waiting_connection_gets_a_piece_and_a_turn_has_its_end() -> None:
    async def test() -> None:
        bench = Bench(takes=SLICE / 3.5)
        for name, pieces in (("a", 4), ("b", 3), ("c", 2)):
            bench.turns.wait(Item(name, pieces, bench.work))
        assert await bench.go(8) == ["abca", "bcab", "a"]

    run(test)


def test_connections_with_little_to_do_come_first() -> None:
    async def test() -> None:
        bench = Bench(takes=SLICE)
        for name, pieces in (("a", 2), ("b", 2), ("c", 1), ("d", 1)):
            bench.turns.wait(Item(name, pieces, bench.work))
        assert await bench.go(9) == ["c", "d", "a", "b", "a", "b"]

    run(test)


def test_an_error_of_one_connection_leaves_no_other_waiting() -> None:
    async def test() -> None:
        bench, failed = Bench(takes=SLICE / 3.5), list[Any]()

        def fail(name: str) -> None:
            raise ValueError(name)

        asyncio.get_running_loop().set_exception_handler(lambda _, context: failed.append(context))
        bench.turns.wait(Item("a", 2, fail))
        bench.turns.wait(Item("b", 2, bench.work))
        assert await bench.go(3) == ["bb"]
        assert [str(context["exception"]) for context in failed] == ["a"]

    run(test)


def test_a_turn_is_used_up_once_it_has_taken_its_time_and_the_next_is_not() -> None:
    async def test() -> None:
        bench = Bench(takes=0)
        turns = bench.turns
        assert not turns.is_used_up(bench.now)
        bench.now += SLICE / 2
        assert not turns.is_used_up(bench.now)
        bench.now += SLICE
        assert turns.is_used_up(bench.now)
        await asyncio.sleep(0)
        assert not turns.is_used_up(bench.now)
        assert turns.look_by > bench.now, "nobody needs to ask for a while"
        bench.now = turns.look_by
        assert not turns.is_used_up(bench.now), "it is this turn that is measured now"

    run(test)


# --- connections


class Ticking(Bench2):
    """Time passes whenever somebody looks at the clock."""

    tick = 0.0
    time = 1000.0

    @property
    def now(self) -> float:
        self.time += self.tick
        return self.time

    @now.setter
    def now(self, value: float) -> None:
        self.time = value

    async def finish(self) -> None:
        """Let all that waits be worked off."""
        self.tick = 0
        for _ in range(40):
            await self.settle()

    def others(self, count: int) -> list[Any]:
        """More connections of the same worker: a link and its transport each."""
        found = [self.connect()[::-1] for _ in range(count)]
        self.tick = SLICE / 6
        return found


def requests(count: int) -> bytes:
    return b"".join(get(n, "/", ("x", "y" * 8_000)) for n in range(1, 2 * count, 2))


def heads_of(transport: Any) -> set[int]:
    return set(Reading().take(bytes(transport.sent)).heads)


def test_what_a_turn_has_no_time_for_waits_and_is_not_read_further() -> None:
    async def test() -> None:
        bench = Ticking(hello)
        heavy = bench.others(6)
        for link, _ in heavy:
            link.data_received(requests(8))
        waiting = [link for link, _ in heavy if link.later]
        assert waiting
        for link, transport in heavy:
            assert transport.paused == bool(link.later)
            assert link.idle == (not link.later and not link.streams)
        assert not any(link.awaits_client for link in waiting)
        assert waiting[-1].measure() >= len(requests(8))
        await bench.finish()
        for link, transport in heavy:
            assert heads_of(transport) == set(range(1, 16, 2))
            assert not transport.paused
            assert not link.later.obj, "what was read is let go of"

    run(test)


def test_a_small_request_is_served_before_what_others_have_waiting() -> None:
    async def test() -> None:
        bench = Ticking(hello)
        *heavy, (small, transport) = bench.others(7)
        for link, _ in heavy:
            link.data_received(requests(16))
        small.data_received(get(1))
        assert small.later, "the turn is used up"
        while not heads_of(transport) - {0}:
            await asyncio.sleep(0)
        assert len([link for link, _ in heavy if link.later]) >= 5
        await bench.finish()

    run(test)


def test_what_waits_goes_with_its_connection() -> None:
    async def test() -> None:
        bench = Ticking(hello)
        heavy = bench.others(6)
        for link, _ in heavy:
            link.data_received(requests(16))
        (lost, _), (closed, transport) = [pair for pair in heavy if pair[0].later][-2:]
        lost.connection_lost(None)
        closed.close(linger=True)
        assert not lost.later
        assert not closed.later
        assert not transport.paused, "what comes after our last word is thrown away"
        await bench.finish()
        assert len(heads_of(heavy[0][1])) == 16
        assert not heads_of(transport)

    run(test)


def test_the_deadline_of_half_a_head_does_not_count_while_its_rest_waits() -> None:
    async def test() -> None:
        bench = Ticking(hello)
        *heavy, (link, _) = bench.others(6)
        half = frames.frame(frames.HEADERS, 1, 1, frames.asked())
        link.data_received(half)
        assert link.due < bench.time + 3600
        for other, _ in heavy:
            other.data_received(requests(16))
        link.data_received(frames.frame(frames.CONTINUATION, 4, 1, b"\x82" * 20))
        assert link.later
        bench.tick = 0
        bench.pass_time(3600)
        assert not link.is_closing
        await bench.finish()

    run(test)


def test_small_pieces_of_a_body_are_worked_off_within_the_time_of_a_turn() -> None:
    """The longest that a piece takes is bounded by its bytes; no more is begun at a time."""

    async def test() -> None:
        bench = Bench2(Held())
        await bench.ask(frames.post(1))
        one = frames.data(1, b"x")
        count = 3 * PIECE // len(one)
        await bench.ask(one * count)
        (exchange,) = [stream.exchange for stream in bench.link.streams.values()]
        assert len(exchange.body) == count

    run(test)
