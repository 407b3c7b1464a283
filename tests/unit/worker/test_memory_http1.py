"""The memory budget over HTTP/1: heads, bodies, spools on disk, and answers that nobody takes."""

import asyncio
import tempfile
from collections.abc import Callable
from typing import Any

import pytest

from clusterd.config.serving import HttpSettings, WsgiSettings
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel import disk
from clusterd.worker.connection import Connection
from clusterd.worker.memory_budget import ALLOWANCE, GRACE, LOOK
from tests.unit.app.wsgi_bench import THREADS, WsgiBench
from tests.unit.app.wsgi_bench import hello as wsgi_hello
from tests.unit.worker.fakes import (
    Bench,
    FakeTransport,
    Held,
    echo,
    get,
    hello,
    run,
    status_of,
    streaming,
)

KIB = 1024
HTTP = HttpSettings(memory_budget=1024 * KIB)
PIECE = b"x" * 60 * KIB
LENGTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
HEAD = b"GET / HTTP/1.1\r\nHost: a\r\nX: "


def chunk(size: int) -> bytes:
    return b"%x\r\n" % size + b"x" * size + b"\r\n"


async def stuck(scope: Any, receive: Any, send: Any) -> None:
    """Never takes anything."""
    await asyncio.get_running_loop().create_future()


class Crowd:
    """Many clients of one worker."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.memory = bench.server.memory
        self.clients: list[tuple[FakeTransport, Connection]] = []

    def send(self, *pieces: bytes) -> tuple[FakeTransport, Connection]:
        """A new client sends this, and waits."""
        transport, connection = self.bench.connect()
        for piece in pieces:
            if not transport.paused:
                connection.data_received(piece)
        self.clients.append((transport, connection))
        return transport, connection

    def send_stuck(self, count: int) -> None:
        """New clients send a request each, and take nothing of the response."""
        for _ in range(count):
            transport, connection = self.bench.connect()
            transport.stuck = True
            connection.data_received(get())
            self.clients.append((transport, connection))

    def leave(self) -> None:
        """All of them leave."""
        for _, connection in self.clients:
            connection.connection_lost(None)

    @property
    def answers(self) -> list[int]:
        return [status_of(bytes(transport.sent)) for transport, _ in self.clients]


def test_a_half_head_a_half_body_and_what_waits_behind_a_request_are_counted() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(stuck, HTTP))
        sizes = {}
        for name, pieces in {
            "half a head": [HEAD + b"x" * 30 * KIB, b"x" * 10 * KIB],
            "half a body": [LENGTH, PIECE],
            "chunks": [CHUNKED, chunk(30 * KIB), chunk(30 * KIB)],
            "pipelined": [get(), get() * 1000],
            "a large head": [HEAD + b"x" * 40 * KIB + b"\r\n\r\n"],
            "with its body": [LENGTH + PIECE],
        }.items():
            before = crowd.memory.held
            sent = sum(map(len, pieces))
            crowd.send(*pieces)
            sizes[name] = (crowd.memory.held - before) / sent
        assert all(0.95 < share < 1.05 for share in sizes.values()), sizes

    run(test)


def test_small_requests_are_never_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        bench = Bench(echo)
        monkeypatch.setattr(Connection, "measure", lambda _: pytest.fail("it was asked"))
        post = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10000\r\n\r\n" + b"x" * 10000
        for _ in range(50):
            assert status_of(await bench.talk(post)) == 200
            assert status_of(await bench.talk(get())) == 200
        bench.server.publish()
        assert bench.server.memory.held == 0

    run(test)


def test_what_an_app_took_is_held_no_more() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app, HTTP)
        bench.feed(LENGTH, PIECE)
        assert bench.server.memory.held > len(PIECE)
        app.go.set()
        await bench.settle()
        bench.now += LOOK
        bench.server.publish()
        assert bench.server.memory.held == 0
        bench.feed(PIECE)
        await bench.settle()
        bench.connection.connection_lost(None)
        assert bench.server.memory.held == 0

    run(test)


def test_the_scoreboard_has_what_is_held() -> None:
    async def test() -> None:
        bench = Bench(stuck, HTTP)
        bench.feed(LENGTH, PIECE)
        bench.server.publish()
        assert bench.row[Cell.HELD] == bench.server.memory.held > len(PIECE)

    run(test)


def test_bodies_beyond_the_budget_are_refused_with_413_and_small_requests_served() -> None:
    async def test() -> None:
        bench = Bench(Held(), HTTP)
        crowd = Crowd(bench)
        for _ in range(40):
            crowd.send(LENGTH + PIECE, PIECE)
        await bench.settle()
        assert crowd.memory.held <= 1024 * KIB
        assert 413 in crowd.answers
        assert set(crowd.answers) <= {0, 413}
        bench.server.app = hello
        transport, _ = crowd.send(get())
        await bench.settle()
        assert status_of(bytes(transport.sent)) == 200

    run(test)


def test_heads_beyond_the_budget_are_refused_with_503() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(hello, HTTP))
        for _ in range(40):
            crowd.send(HEAD + b"x" * 60 * KIB)
        assert crowd.memory.held <= 1024 * KIB
        refused = [transport for transport, _ in crowd.clients if transport.sent]
        assert refused
        assert {status_of(bytes(transport.sent)) for transport in refused} == {503}
        assert all(b"retry-after: 1\r\n" in transport.sent for transport in refused)
        assert all(transport.ended and not transport.paused for transport in refused)
        assert {connection.measure() for t, connection in crowd.clients if t.sent} == {0}

    run(test)


def test_stalled_clients_go_and_the_others_are_read_again() -> None:
    async def test() -> None:
        bench = Bench(stuck, HTTP)
        crowd = Crowd(bench)
        for _ in range(15):
            crowd.send(LENGTH + PIECE)
        assert crowd.memory.is_short
        last, _ = crowd.clients[-1]
        assert last.paused, "memory was short"
        await crowd.bench.pass_with_budget(GRACE + 3 * LOOK)
        assert not crowd.memory.is_short
        assert crowd.memory.held < 0.8 * 1024 * KIB
        gone = crowd.answers.count(413)
        assert 0 < gone < 15
        assert not any(t.paused for t, _ in crowd.clients if not t.sent)

    run(test)


def test_a_client_that_takes_nothing_is_reset_where_memory_is_short() -> None:
    async def test() -> None:
        bench = Bench(streaming(b"x" * 200 * KIB), HTTP)
        crowd = Crowd(bench)
        crowd.send_stuck(6)
        await bench.settle()
        assert [transport.aborted for transport, _ in crowd.clients].count(True) == 1
        assert crowd.memory.held <= 1024 * KIB + 1000
        await crowd.bench.pass_with_budget(GRACE + 3 * LOOK)
        assert [transport.aborted for transport, _ in crowd.clients].count(True) == 3

    run(test)


async def huge(scope: Any, receive: Any, send: Any) -> None:
    """Makes a response in one piece that is larger than the budget."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 1100 * KIB})


def test_answers_that_are_complete_and_not_taken_go_as_well() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(huge, HTTP))
        for _ in range(3):
            transport, connection = crowd.send()
            transport.stuck = True
            connection.data_received(get())
            await crowd.bench.settle()
        transport, _ = crowd.send(get())
        await crowd.bench.settle()
        assert status_of(bytes(transport.sent)) == 503, "there is no room for a fourth"
        assert not any(transport.aborted for transport, _ in crowd.clients)
        crowd.send(HEAD + b"x" * 60 * KIB)
        assert crowd.memory.is_short
        await crowd.bench.pass_with_budget(GRACE + 3 * LOOK)
        assert [transport.aborted for transport, _ in crowd.clients].count(True) == 1

    run(test)


async def large(scope: Any, receive: Any, send: Any) -> None:
    """Makes a response of a fifth of the budget in one piece."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"x" * 200 * KIB})


def test_a_response_counts_whole_until_the_client_has_taken_all_of_it() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(large, HTTP))
        held = crowd.memory
        transport, connection = crowd.send()
        transport.stuck = True
        connection.data_received(get())
        await crowd.bench.settle()
        transport.unsent = 70 * KIB  # the client has taken a part
        held.count(connection)
        assert 200 * KIB <= held.held < 201 * KIB
        transport.drained()
        held.count(connection)
        assert held.held == 0

    run(test)


def test_so_does_the_rest_of_one_behind_which_another_waits() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(large, HttpSettings(memory_budget=4096 * KIB)))
        transport, connection = crowd.send()
        transport.stuck = True
        for unsent, whole in ((10, 200), (10, 400), (250, 400), (10, 600), (10, 400)):
            connection.write_all([b"x" * 100 * KIB, b"x" * 100 * KIB])
            transport.unsent = unsent * KIB
            assert connection.measure() == whole * KIB

    run(test)


def test_an_answer_larger_than_the_budget_is_the_apps_and_nobody_is_the_worse_for_it() -> None:
    async def test() -> None:
        crowd = Crowd(Bench(huge, HTTP))
        slow, connection = crowd.send()
        slow.stuck = True
        connection.data_received(get())
        await crowd.bench.settle()
        await crowd.bench.pass_with_budget(GRACE + 3 * LOOK)
        assert not slow.aborted
        assert not crowd.memory.is_short
        assert slow.unsent > 1100 * KIB
        body, _ = crowd.send(LENGTH, PIECE)
        await crowd.bench.settle()
        assert status_of(bytes(body.sent)) == 200

    run(test)


def test_an_app_that_takes_a_body_does_not_have_it_read_while_memory_is_short() -> None:
    async def test() -> None:
        app = Held()
        crowd = Crowd(Bench(app, HTTP))
        for _ in range(15):
            transport, _ = crowd.send(LENGTH + PIECE)
        assert transport.paused
        app.go.set()
        await crowd.bench.settle()
        assert transport.paused, "the body was taken, and not looked at since"
        await crowd.bench.pass_with_budget(2 * LOOK)
        assert not transport.paused
        assert not crowd.memory.is_short
        assert set(crowd.answers) == {0}

    run(test)


def test_what_waits_for_the_app_is_given_up_only_beyond_the_budget() -> None:
    async def test() -> None:
        bench = Bench(stuck, HTTP)
        crowd = Crowd(bench)
        whole = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(PIECE) + PIECE
        for _ in range(15):
            crowd.send(whole)
        await crowd.bench.pass_with_budget(5)
        assert crowd.memory.is_short
        assert set(crowd.answers) == {0}
        for _ in range(15):
            crowd.send(whole)
        assert set(crowd.answers) == {0, 503}
        assert crowd.memory.held <= 1024 * KIB

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_spools_on_a_disk_do_not_count_as_memory(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)

    async def test() -> None:
        bench = WsgiBench(wsgi_hello, mode, HttpSettings(memory_budget=8 * 1024 * KIB))
        crowd = Crowd(bench)
        for count in (50, 200, 400):  # some 3, 12 and 24 MiB
            crowd.send(CHUNKED, *[chunk(60 * KIB)] * count)
        assert crowd.answers == [0, 0, 0]
        assert not crowd.memory.is_short
        assert crowd.memory.held <= 3 * ALLOWANCE
        bench.server.publish()
        spooled = 650 * 60 * KIB
        assert bench.row[Cell.SPOOLED] == spooled
        crowd.leave()
        bench.server.publish()
        assert bench.row[Cell.SPOOLED] == 0
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_bodies_on_disk_that_make_no_progress_make_room_for_others(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)

    async def test() -> None:
        wsgi = WsgiSettings(threads=THREADS[mode], spool_budget=8 * 1024 * KIB)
        bench = WsgiBench(wsgi_hello, mode, wsgi=wsgi)
        crowd = Crowd(bench)
        for _ in range(3):
            crowd.send(CHUNKED, *[chunk(60 * KIB)] * 30)  # some 1.8 MiB
        _, connection = crowd.send(CHUNKED, *[chunk(60 * KIB)] * 20)
        for _ in range(20):
            bench.now += GRACE
            connection.data_received(chunk(60 * KIB))
            await asyncio.sleep(0)  # the turn of the loop ends
        assert crowd.answers == [413, 0, 0, 0]
        assert crowd.clients[0][0].ended
        spools = bench.server.spools
        assert spools is not None
        assert spools.held == 100 * 60 * KIB
        connection.data_received(b"0\r\n\r\n")
        await bench.settle()
        assert crowd.answers == [413, 0, 0, 200]
        assert spools.held == 60 * 60 * KIB
        crowd.leave()
        assert spools.held == 0
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_a_body_awaits_its_client_until_it_is_complete(mode: str) -> None:
    async def test() -> None:
        bench = WsgiBench(wsgi_hello, mode)
        bench.feed(CHUNKED, chunk(60 * KIB))
        exchange: Any = bench.connection.exchange
        assert exchange.awaits_body
        bench.feed(b"0\r\n\r\n")
        assert not exchange.awaits_body
        await bench.settle()
        bench.feed(LENGTH, *[PIECE] * 20)  # more than 1 MiB: a thread reads the rest
        exchange = bench.connection.exchange
        assert exchange.awaits_body == (mode == "inline")
        bench.connection.connection_lost(None)
        await bench.settle()
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_spools_count_as_memory_where_their_files_lie_there(
    mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", "/dev/shm")

    async def test() -> None:
        bench = WsgiBench(wsgi_hello, mode, HttpSettings(memory_budget=8 * 1024 * KIB))
        crowd = Crowd(bench)
        crowd.send(CHUNKED, *[chunk(60 * KIB)] * 50)  # some 3 MiB
        assert 3_000_000 < crowd.memory.held < 3_200_000
        crowd.send(CHUNKED, *[chunk(60 * KIB)] * 200)
        assert crowd.memory.held <= 8 * 1024 * KIB
        assert crowd.clients[1][0].paused
        await crowd.bench.pass_with_budget(GRACE + 3 * LOOK)
        assert crowd.answers == [0, 413]  # the largest
        crowd.leave()
        assert crowd.memory.held == 0
        bench.close()

    run(test)


@pytest.mark.parametrize(
    ("mode", "begin", "piece", "status"),
    [
        ("inline", CHUNKED, chunk, 413),
        ("threads", CHUNKED, chunk, 413),
        ("inline", LENGTH, lambda size: b"x" * size, 413),
        ("threads", LENGTH, lambda size: b"x" * size, 503),
    ],
)
def test_a_spool_has_a_limit_of_its_own(
    mode: str, begin: bytes, piece: Callable[[int], bytes], status: int
) -> None:
    """Where the app might read the body as it comes, another try may find a thread to spare."""

    async def test() -> None:
        threads = WsgiSettings(limit_spool=2048 * KIB, threads=1 if mode == "inline" else 2)
        bench = WsgiBench(wsgi_hello, mode, wsgi=threads)
        bench.server.app.slow = 1  # another body is being read
        bench.feed(begin)
        sent = 0
        while not bench.transport.sent:
            bench.feed(piece(60 * KIB))
            sent += 60 * KIB
        assert status_of(bytes(bench.transport.sent)) == status
        assert 2048 * KIB < sent <= 2108 * KIB
        assert bench.connection.exchange is None or bench.connection.exchange.waiting == 0
        bench.close()

    run(test)


def test_what_comes_after_a_refusal_is_read_and_thrown_away() -> None:
    """Else the client would see a reset instead of our answer."""

    async def test() -> None:
        bench = Bench(stuck, HTTP)
        crowd = Crowd(bench)
        for _ in range(18):
            crowd.send(LENGTH + PIECE)
        transport, connection = next(one for one in crowd.clients if one[0].sent)
        assert not transport.paused
        connection.data_received(PIECE)
        assert connection.measure() == 0
        assert not transport.closed

    run(test)


def test_where_the_budget_is_used_up_the_app_is_not_asked() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app, HTTP)
        bench.server.memory.is_over = True
        assert status_of(await bench.talk(get())) == 503
        assert not app.scopes

    run(test)


@pytest.mark.parametrize(("size", "status"), [(10_000, 200), (20_000, 503)])
def test_where_it_was_used_up_meanwhile_no_large_answer_is_taken(size: int, status: int) -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            bench.server.memory.is_over = True
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * size})

        bench = Bench(app, HTTP)
        assert status_of(await bench.talk(get())) == status

    run(test)


def test_no_request_is_begun_until_there_is_room_again() -> None:
    async def test() -> None:
        bench = Bench(streaming(b"x" * 600 * KIB), HTTP)
        crowd = Crowd(bench)
        crowd.send_stuck(5)
        await bench.settle()
        assert not crowd.memory.is_over
        assert [transport.aborted for transport, _ in crowd.clients].count(True) > 0

    run(test)


def test_a_body_that_no_app_can_receive_is_not_kept() -> None:
    async def test() -> None:
        bench = Bench(stuck, HTTP)
        bench.feed(LENGTH, PIECE)
        await bench.settle()
        exchange = bench.connection.exchange
        assert exchange is not None
        assert exchange.waiting
        bench.connection.shed()
        assert not exchange.waiting

    run(test)


def test_the_allowance_is_more_than_a_usual_request() -> None:
    assert ALLOWANCE > 10_000 + 1000
