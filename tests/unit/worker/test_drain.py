"""Leaving: what is in hand is finished, what is idle is handed on or closed, all within a time."""

import asyncio
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from clusterd.ipc.messages import Drain as Order
from clusterd.worker.drain import LAST_SILENCE, SILENCE, Drain, reserve, unread
from clusterd.worker.handover import Handover

START = 1000.0


class FakeConnection:
    """One client, idle unless said otherwise."""

    def __init__(self, host: "FakeHost", since: float = START, idle: bool = True) -> None:
        self.host, self.since, self.idle = host, since, idle
        self.stubborn = False  # its task does not heed being cancelled
        self.ours, self.theirs = socket.socketpair()
        self.end = ""
        host.connections.add(self)

    def fileno(self) -> int:
        return self.ours.fileno()

    def release(self) -> int | None:
        if not self.idle:
            return None
        fd = os.dup(self.ours.fileno())
        self._leave("released")
        return fd

    def close_when_idle(self) -> None:
        self._leave("closed")

    def abort(self) -> None:
        self._leave("aborted")

    def cancel(self) -> None:
        if not self.stubborn:
            self._leave("cancelled")

    def _leave(self, end: str) -> None:
        self.end = end
        self.host.connections.discard(self)
        self.ours.close()
        if not self.host.connections and self.host.when_empty is not None:
            self.host.when_empty()


class FakeHost:
    def __init__(self) -> None:
        self.connections: set[Any] = set()
        self.running: dict[Any, None] = {}
        self.tasks: set[Any] = set()
        self.when_empty: Callable[[], None] | None = None
        self.draining = False

    def drain_begins(self, last: bool, leave_by: float) -> None:
        self.draining = True


class FakeAcceptor:
    """Notes what it is told; `queue` are clients that wait in it."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.queue: list[Callable[[], object]] = []
        self.returned: list[int] = []

    def stop(self) -> None:
        self.told.append("stop")

    def close(self) -> None:
        self.told.append("close")

    def sweep(self) -> int:
        count = len(self.queue)
        for connect in self.queue:
            connect()
        self.queue.clear()
        return count

    def take_back(self, fd: int) -> None:
        self.returned.append(fd)
        os.close(fd)


class Bench:
    """A drain whose time passes as fast as the loop turns."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.real = loop
        self.now = START
        self.host = FakeHost()
        self.acceptor = FakeAcceptor()
        self.handover: Handover | None = None
        self.clients: list[FakeConnection] = []
        self.at: list[tuple[float, Callable[[], object]]] = []

    def call_later(self, seconds: float, callback: Callable[[], None]) -> asyncio.Handle:
        self.now += seconds
        for when, what in [entry for entry in self.at if entry[0] <= self.now]:
            self.at.remove((when, what))
            what()
        return self.real.call_soon(callback)

    def connect(self, **about: Any) -> FakeConnection:
        self.clients.append(FakeConnection(self.host, **about))
        return self.clients[-1]

    def drain(self, **order: Any) -> Drain:
        order = {"why": "test", "within": 25.0, "handover": False, **order}
        return Drain(
            self,  # type: ignore[arg-type]  # as much of a loop as it asks for
            self.host,
            self.acceptor,  # type: ignore[arg-type]
            self.handover,
            Order(**order),
            5.0,
            lambda: self.now,
        )

    def run(self, **order: Any) -> float:
        """Drain to the end. How long it took."""
        self.real.run_until_complete(self.drain(**order).run())
        return self.now - START


@pytest.fixture
def bench(loop: asyncio.AbstractEventLoop) -> Iterator[Bench]:
    bench = Bench(loop)
    yield bench
    for client in bench.clients:
        client.ours.close()
        client.theirs.close()


@pytest.fixture
def handover() -> Iterator[Handover]:
    handover = Handover(socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    yield handover
    handover.close()


def test_with_nothing_in_hand_it_is_over_at_once(bench: Bench) -> None:
    assert bench.run(last=True) == 0
    assert bench.acceptor.told == ["stop", "close"]
    assert bench.host.draining


def test_idle_ones_go_to_a_sibling(bench: Bench, handover: Handover) -> None:
    bench.handover = handover
    clients = [bench.connect() for _ in range(3)]

    assert bench.run(handover=True) == 0
    assert {client.end for client in clients} == {"released"}
    for _ in clients:
        os.close(handover.take())


def test_without_a_sibling_idle_ones_are_closed_after_silence(bench: Bench) -> None:
    """Counted from the drain's begin: their next request is answered, and told to be the last."""
    client = bench.connect(since=START - 60)

    assert bench.run() == pytest.approx(SILENCE, abs=0.1)
    assert client.end == "closed"


def test_a_full_queue_leaves_them_here(bench: Bench, handover: Handover) -> None:
    """Descriptors wait until a sibling takes some, and nothing is lost meanwhile."""
    bench.handover = handover
    left, right = socket.socketpair()
    given = 0
    while handover.has_room():
        assert handover.give(os.dup(left.fileno()))
        given += 1
    client = bench.connect()

    def take_all() -> None:
        for _ in range(given):
            os.close(handover.take())

    bench.at.append((START + 1, take_all))
    assert bench.run(handover=True) == pytest.approx(1, abs=0.1)
    assert client.end == "released"
    left.close()
    right.close()


def test_the_last_one_empties_the_queue_first(bench: Bench) -> None:
    """Nobody comes after us: whoever waits in the accept queue still gets an answer."""
    late: list[FakeConnection] = []
    knew: list[bool] = []

    def connect() -> None:
        knew.append(bench.host.draining)  # or it would promise to keep the connection
        late.append(bench.connect(idle=False))

    bench.acceptor.queue.append(connect)
    bench.at.append((START + 2, lambda: late[0].close_when_idle()))

    assert bench.run(last=True) == pytest.approx(2, abs=0.1)
    assert knew == [True]
    assert late[0].end == "closed"


def test_who_comes_while_it_waits_is_served_as_well(bench: Bench) -> None:
    """A handshake that was half-way when the stop came ends in the queue later."""
    late: list[FakeConnection] = []

    def arrive() -> None:
        bench.acceptor.queue.append(lambda: late.append(bench.connect(since=bench.now)))

    busy = bench.connect(idle=False)
    bench.at.append((START + 1, arrive))
    bench.at.append((START + 2, busy.close_when_idle))
    bench.run(last=True)
    assert late[0].end == "closed"


def test_at_a_stop_old_idle_ones_go_at_once_and_young_ones_soon(bench: Bench) -> None:
    """Young: a client between two requests shall not find the door shut in its face."""
    old, young, mute = bench.connect(since=START - 9), bench.connect(), bench.connect(since=0)

    drain = bench.drain(last=True)
    drain._look()
    assert (old.end, young.end, mute.end) == ("closed", "", "")
    assert bench.run(last=True) == pytest.approx(LAST_SILENCE, abs=0.1)
    assert {young.end, mute.end} == {"closed"}


def test_a_request_that_waits_in_the_kernel_is_not_closed_upon(bench: Bench) -> None:
    client = bench.connect(since=START - 9)
    client.theirs.send(b"GET")

    assert unread(client)
    bench.drain(last=True)._look()
    assert client.end == ""
    client.ours.recv(3)
    bench.drain(last=True)._look()
    assert client.end == "closed"


def test_out_of_time_tasks_are_cancelled_and_the_rest_dropped(bench: Bench) -> None:
    """All of it within the time granted, with some left for the app's shutdown."""
    heeds, stubborn = bench.connect(idle=False), bench.connect(idle=False)
    stubborn.stubborn = True

    took = bench.run(within=10.0)
    assert (heeds.end, stubborn.end) == ("cancelled", "aborted")
    assert 10.0 - reserve(10.0) <= took < 10.0


def test_what_the_app_does_after_its_client_has_left_is_waited_for(bench: Bench) -> None:
    """Work behind an answer, or behind the end of a WebSocket, is no less the app's work."""
    bench.host.tasks.add("behind an answer")
    bench.at.append((START + 3, bench.host.tasks.clear))

    assert 3.0 <= bench.run(within=1000.0) < 3.2


def test_but_not_for_ever(bench: Bench) -> None:
    bench.host.tasks.add("a task that has no end")
    assert 8.0 <= bench.run(within=10.0) < 10.0


def test_a_short_time_is_kept_for_silence_too(
    bench: Bench, caplog: pytest.LogCaptureFixture
) -> None:
    """With less than 5 s granted, closing what is idle is no cutting off."""
    bench.connect()

    assert bench.run(within=2.0) < 1.0
    assert caplog.records == []


def test_a_second_order_hurries_the_first(bench: Bench, loop: asyncio.AbstractEventLoop) -> None:
    busy = bench.connect(idle=False)
    drain = bench.drain(within=1000.0)
    bench.at.append((START + 3, lambda: drain.hurry(Order("stop", 2.0, last=True))))

    loop.run_until_complete(drain.run())
    assert busy.end == "cancelled"
    assert bench.now - START < 5.2
    assert drain.left == pytest.approx(START + 5 - bench.now, abs=0.1)


def test_a_later_order_never_grants_more(bench: Bench) -> None:
    drain = bench.drain(within=5.0)

    drain.hurry(Order("stop", 60.0))
    assert drain.left == 5.0


class FakeStream:
    """An exchange whose answer has no end of its own."""

    def __init__(self, bench: Bench, connection: FakeConnection) -> None:
        self.bench = bench
        self.connection = connection
        self.ended_at: float | None = None
        self.is_deaf = False
        self.shown: str | None = None  # how its connection had ended when its head was sent

    def show_head(self) -> None:
        self.shown = self.connection.end

    def end_stream(self) -> None:
        if self.ended_at is None and not self.is_deaf:
            self.ended_at = self.bench.now
            self.connection._leave("ended")


def test_streams_are_ended_once_their_grace_is_over(bench: Bench) -> None:
    stream = FakeStream(bench, bench.connect(idle=False))
    bench.host.running[stream] = None
    took = bench.run()
    assert stream.ended_at is not None
    assert START + 5.0 <= stream.ended_at < START + 5.2
    assert took < 5.2, "and then nothing keeps the worker"


def test_what_has_begun_shows_its_head_before_it_is_cut(bench: Bench) -> None:
    """Else its client would get a 503 for a response that the app had begun."""
    stream = FakeStream(bench, bench.connect(idle=False))
    stream.is_deaf = True
    bench.host.running[stream] = None
    bench.run(within=10.0)
    assert stream.shown == ""
    assert stream.connection.end == "cancelled"
