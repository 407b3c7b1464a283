"""Deadlines: each phase of a connection has one, under a clock that the test moves."""

import asyncio
from typing import Any

import pytest

from clusterd.config.serving import HttpSettings
from clusterd.worker.deadlines import NEVER, RATE, Wheel
from tests.unit.worker.fakes import Bench, echo, get, hello, run, statuses

HTTP = HttpSettings(keep_alive=20, header_timeout=10, body_timeout=30, write_timeout=40)
POST = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n"


def test_a_silent_connection_is_closed_without_a_word() -> None:
    async def test() -> None:
        bench = Bench(hello, HTTP)
        bench.pass_time(9)
        assert not bench.transport.closed
        bench.pass_time(2)
        assert bench.transport.closed
        assert not bench.transport.sent

    run(test)


@pytest.mark.parametrize("kept", [False, True])
def test_half_a_head_is_answered_408(kept: bool) -> None:
    """From its first byte on, and bytes that trickle in do not put it off."""

    async def test() -> None:
        bench = Bench(hello, HTTP)
        if kept:
            await bench.talk(get())
            bench.pass_time(15)
        for byte in get()[:9]:
            bench.feed(bytes([byte]))
            bench.pass_time(1)
        assert not bench.transport.closed
        bench.feed(b"H")
        bench.pass_time(2)
        assert statuses(await bench.talk()) == [408]
        bench.pass_time(5)
        assert bench.transport.closed

    run(test)


def test_a_body_without_progress_is_answered_408() -> None:
    """Progress puts it off; the app is told that the client is gone."""

    async def test() -> None:
        bench = Bench(echo, HTTP)
        bench.feed(POST.replace(b"5", b"50000"))
        for _ in range(4):
            bench.pass_time(25)
            bench.feed(b"x" * RATE * 30)
        assert not bench.transport.closed
        bench.pass_time(32)
        assert statuses(await bench.talk()) == [408]
        assert not bench.server.running

    run(test)


def test_an_idle_connection_is_closed_after_keep_alive() -> None:
    async def test() -> None:
        bench = Bench(hello, HTTP)
        for _ in range(5):
            bench.pass_time(18)
            if bench.transport.closed:
                break
            await bench.talk(get())
        assert bench.transport.closed  # the first wait is for a head: ten seconds
        bench = Bench(hello, HTTP)
        await bench.talk(get())
        for _ in range(5):
            bench.pass_time(18)
            assert statuses(await bench.talk(get())) == [200]
        bench.pass_time(22)
        assert bench.transport.closed

    run(test)


def test_an_answer_that_is_not_taken_is_dropped() -> None:
    """Without progress the connection is aborted; with progress it lives."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 200_000})

        bench = Bench(app, HTTP)
        bench.transport.stuck = True
        bench.feed(get())
        await bench.settle()
        for _ in range(3):
            bench.transport.unsent -= RATE * 40
            bench.pass_time(42)
            assert not bench.transport.aborted
        bench.pass_time(42)
        assert bench.transport.aborted

    run(test)


def test_a_slow_app_has_no_deadline() -> None:
    async def test() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await hello(scope, receive, send)

        bench = Bench(app, HTTP)
        bench.feed(get())
        bench.pass_time(100_000)
        go.set()
        assert statuses(await bench.talk()) == [200]
        bench.pass_time(22)
        assert bench.transport.closed

    run(test)


class Item:
    """Something with a deadline."""

    def __init__(self, due: float) -> None:
        self.due, self.booked = due, NEVER
        self.looked: list[float] = []

    def overdue(self, now: float) -> None:
        self.looked.append(now)


class Timer:
    """The one timer that a wheel may have."""

    def __init__(self) -> None:
        self.set: list[float] = []
        self.is_on = False

    def call_later(self, delay: float, callback: Any) -> "Timer":
        self.set.append(delay)
        self.is_on = True
        return self

    def cancel(self) -> None:
        self.is_on = False


def test_the_wheel_sleeps_until_the_nearest_deadline() -> None:
    """No timer without connections, and one turn a deadline, not one a second."""
    loop, now = Timer(), 0.0
    wheel = Wheel(loop, lambda: now)  # type: ignore[arg-type]
    assert not loop.set
    near, far = Item(10.5), Item(65.0)
    wheel.book(far)
    wheel.book(near)
    assert loop.set == [66.0, 11.0]
    now = 11.0
    wheel.turn()
    assert near.looked == [11.0]
    assert loop.set[-1] == 55.0
    far.due = 100.0  # moved: the wheel looks, and books again
    now = 66.0
    wheel.turn()
    assert not far.looked
    assert loop.set[-1] == 101.0 - 66.0
    wheel.forget(far)
    assert not loop.is_on


def test_a_deadline_that_came_nearer_is_booked_anew() -> None:
    loop, now = Timer(), 0.0
    wheel = Wheel(loop, lambda: now)  # type: ignore[arg-type]
    item = Item(65.0)
    wheel.book(item)
    item.due = 5.0
    wheel.book(item)
    now = 6.0
    wheel.turn()
    assert item.looked == [6.0]
    item.due = NEVER
    wheel.book(item)
    assert item.booked == NEVER
