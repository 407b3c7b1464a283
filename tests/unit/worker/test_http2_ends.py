"""How HTTP/2's streams and connections end: cancelled, flooded, or too late."""

import gc
from typing import Any

import pytest
from h2.connection import H2Connection
from h2.errors import ErrorCodes

from clusterd.app.exchange import Exchange
from clusterd.app.peer import ClientGone
from clusterd.config.serving import HttpSettings
from clusterd.wire.http2 import RESETS, Engine
from clusterd.worker.deadlines import NEVER
from clusterd.worker.http2 import Http2Connection
from clusterd.worker.http2_stream import Stream
from tests.support import http2 as frames
from tests.support.http2 import START, get, post
from tests.unit.worker.fakes import FakeTransport, Held, echo, hello, run, streaming
from tests.unit.worker.fakes_http2 import Bench2


def http(**settings: Any) -> HttpSettings:
    return HttpSettings(**settings)


# --- cancelling, and too much of it


def test_a_cancelled_request_s_app_is_told() -> None:
    async def test() -> None:
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            seen.append((await receive())["type"])
            with pytest.raises(ClientGone):
                await hello(scope, receive, send)

        bench = Bench2(app)
        client = await bench.ask(get(1), frames.reset(1))
        assert seen == ["http.disconnect"]
        assert 1 not in client.heads
        assert not bench.link.streams
        assert not bench.server.running
        assert not bench.server.tasks

    run(test)


def test_a_cancelled_request_in_the_same_packet_never_reaches_the_app() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1) + frames.reset(1) + get(3))
        assert len(app.scopes) == 1
        app.go.set()
        await bench.settle()

    run(test)


def test_requests_count_until_their_app_is_through() -> None:
    """Rapid reset: a stream that is reset at once makes no room for the next."""

    async def test() -> None:
        app = Held()
        bench = Bench2(app, http(http2_streams=5))
        for stream in range(1, 21, 2):
            client = await bench.ask(get(stream), frames.reset(stream))
        assert len(app.scopes) == 5
        assert client.resets == dict.fromkeys(range(11, 21, 2), ErrorCodes.REFUSED_STREAM)
        app.go.set()
        await bench.settle()
        assert (await bench.ask(get(21))).status(21) == 200

    run(test)


def test_one_stream_too_many_is_refused_and_may_be_tried_again() -> None:
    """RFC 9113 §5.1.2 and §8.7."""

    async def test() -> None:
        app = Held()
        bench = Bench2(app, http(http2_streams=2))
        client = await bench.ask(get(1), get(3), get(5))
        assert client.resets == {5: ErrorCodes.REFUSED_STREAM}
        app.go.set()
        await bench.settle()
        client = await bench.ask(get(7))
        assert [client.status(stream) for stream in (1, 3, 7)] == [200] * 3

    run(test)


def test_a_flood_ends_its_connection_and_frees_all_it_had() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1))
        flood = b"".join(get(n) + frames.reset(n) for n in range(3, 2 * RESETS + 10, 2))
        client = await bench.ask(flood)
        assert [code for _, code in client.goaways] == [ErrorCodes.ENHANCE_YOUR_CALM]
        assert bench.transport.ended
        assert bench.link.is_closing
        assert not bench.link.streams
        assert not bench.server.running
        app.go.set()
        await bench.settle()
        assert not bench.server.tasks
        bench.pass_time(5)
        assert bench.transport.aborted

    run(test)


def test_answers_to_frames_do_not_pile_up_for_a_client_that_does_not_read() -> None:
    """PING and SETTINGS want an acknowledgement each. The budget would let 2,000 of them by."""

    async def test() -> None:
        bench = Bench2(streaming(*[b"x" * 50_000] * 100))
        bench.transport.stuck = True
        wide = frames.settings((4, 2**31 - 1)) + frames.window(0, 2**31 - 1 - 65535)
        await bench.ask(wide + get(1))
        assert bench.link.is_paused
        count = 0
        while not bench.transport.aborted:
            bench.now += 1
            await bench.ask(frames.ping() * 100)
            count += 100
            assert count < 5000
        assert bench.transport.unsent < 500_000

    run(test)


# --- deadlines


def test_deadlines_of_a_head() -> None:
    """From the first byte to the first SETTINGS, and from a head's first frame to its last."""

    async def test() -> None:
        bench = Bench2(hello)
        transport = FakeTransport()
        link = bench.server.spoken["h2"](bench.server)
        transport.protocol = link
        link.connection_made(transport)
        for byte in START[:9]:
            bench.pass_time(1)
            link.data_received(bytes([byte]))
            await bench.settle()
        assert not transport.ended
        bench.pass_time(3)
        assert transport.ended
        await bench.ask(frames.frame(frames.HEADERS, 1, 1, b""))
        for _ in range(10):
            bench.pass_time(1)
            await bench.ask(frames.frame(frames.CONTINUATION, 0, 1, b""))
        bench.pass_time(2)
        assert bench.link.is_closing
        assert bench.read().goaways

    run(test)


def test_an_idle_connection_is_closed_with_goaway() -> None:
    """After the time from its last request; PING alone keeps nothing open."""

    async def test() -> None:
        bench = Bench2(hello, http(keep_alive=20))
        await bench.ask(get(1))
        bench.pass_time(19)
        await bench.ask(get(3))
        bench.pass_time(19)
        await bench.ask(frames.ping())
        assert not bench.link.is_closing
        bench.pass_time(3)
        assert bench.transport.closed
        assert bench.read().goaways == [(3, 0)]

    run(test)


def test_a_body_without_progress_is_answered_408() -> None:
    async def test() -> None:
        bench = Bench2(echo)
        await bench.ask(post(1), get(3))
        for _ in range(3):
            bench.pass_time(29)
            await bench.ask(frames.data(1, b"x" * 8000))
        bench.pass_time(32)
        client = await bench.ask()
        assert client.status(1) == 408
        assert client.resets == {1: ErrorCodes.NO_ERROR}
        assert not client.goaways
        assert (await bench.ask(get(5))).status(5) == 200

    run(test)


def test_a_body_that_waits_for_the_app_is_not_late() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(post(1), frames.data(1, b"x"))
        bench.pass_time(300)
        assert bench.link.streams
        app.go.set()
        await bench.ask()
        client = await bench.ask(frames.data(1, b"y", end=True))
        assert client.bodies[1] == b"POST / xy"

    run(test)


def test_a_client_whose_windows_stay_closed_loses_its_stream() -> None:
    """Window stall: the answer's piece is freed, and the app is told."""

    async def test() -> None:
        bench = Bench2(streaming(b"x" * 70_000, b"y" * 70_000))
        await bench.ask(frames.window(0, 2**30), get(1), get(3))
        for _ in range(3):
            bench.pass_time(29)
            await bench.ask(frames.window(3, 20_000))
        client = await bench.ask()
        assert client.resets == {1: ErrorCodes.CANCEL}
        assert 3 in bench.link.streams
        bench.pass_time(32)
        bench.pass_time(32)
        await bench.ask()
        assert not bench.link.streams
        assert not bench.server.tasks

    run(test)


def test_a_window_opened_by_a_byte_at_a_time_is_no_progress() -> None:
    async def test() -> None:
        bench = Bench2(streaming(b"x" * 70_000))
        await bench.ask(frames.window(0, 2**30), get(1))
        for _ in range(4):
            bench.pass_time(15)
            client = await bench.ask(frames.window(1, 1))
        assert client.resets == {1: ErrorCodes.CANCEL}

    run(test)


def test_a_client_that_reads_nothing_loses_its_connection() -> None:
    async def test() -> None:
        bench = Bench2(streaming(*[b"x" * 60_000] * 9))
        bench.transport.stuck = True
        await bench.ask(frames.settings((4, 2**31 - 1)) + frames.window(0, 2**30) + get(1))
        assert bench.link.is_paused
        bench.pass_time(35)
        bench.pass_time(35)
        assert bench.transport.aborted
        bench.link.connection_lost(None)
        await bench.settle()
        assert not bench.server.tasks
        assert not bench.server.connections

    run(test)


# --- ends


def test_a_lost_connection_frees_everything() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1), post(3))
        bench.link.connection_lost(None)
        app.go.set()
        await bench.settle()
        assert not bench.server.tasks
        assert not bench.server.running
        assert not bench.server.connections
        assert bench.link.due == NEVER or not bench.server.wheel._buckets

    run(test)


def test_a_client_that_closed_its_side_gets_what_it_asked_for() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1))
        assert bench.link.eof_received()
        app.go.set()
        client = await bench.ask()
        assert client.ended == {1}
        assert bench.transport.closed
        assert not Bench2(hello).link.eof_received()

    run(test)


def test_a_client_s_goodbye_closes_after_what_it_asked_for() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1), frames.goaway())
        assert not bench.transport.closed
        app.go.set()
        client = await bench.ask()
        assert client.ended == {1}
        assert bench.transport.closed

    run(test)


def test_nothing_is_left_for_the_collector() -> None:
    """Neither of a request that was answered, nor of one that was cut off, nor of a connection."""

    async def test() -> None:
        gc.collect()
        gc.disable()
        kinds = (Exchange, Stream, Http2Connection, Engine, H2Connection)
        before = living(*kinds)  # of other tests, whose failures are remembered
        try:
            bench = Bench2(echo)
            await bench.ask(get(1), get(3), post(5), frames.data(5, b"x", end=True))
            await bench.ask(post(7), frames.reset(7), post(9))
            assert not living(Exchange) - before - {bench.link.streams[9].exchange}
            bench.link.connection_lost(None)
            await bench.settle()
            bench.transport.protocol = None
            del bench.connection
            assert not living(*kinds) - before
        finally:
            gc.enable()

    run(test)


def living(*kinds: type) -> set[Any]:
    return {found for found in gc.get_objects() if isinstance(found, kinds)}
