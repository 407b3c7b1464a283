"""What HTTP/2's clients hear from a worker that leaves, and that they lose nothing by it."""

from typing import Any

from h2.errors import ErrorCodes

from clusterd.config.serving import HttpSettings
from tests.support import http2 as frames
from tests.support.http2 import get
from tests.unit.worker.fakes import Held, hello, run
from tests.unit.worker.fakes_http2 import Bench2


def http(**settings: Any) -> HttpSettings:
    return HttpSettings(**settings)


def drain(bench: Bench2) -> None:
    bench.server.drain_begins(last=False, leave_by=bench.now + 20)


PONG = frames.ping(b"clusterd", frames.ACK)


def test_an_idle_connection_is_told_in_a_moment_and_closed_when_it_knows() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        await bench.ask(get(1))
        drain(bench)
        assert not (await bench.ask()).goaways
        bench.pass_time(2)
        client = await bench.ask()
        assert client.goaways == [(2**31 - 1, 0)]
        client = await bench.ask(get(3))  # it was on its way
        assert client.ended == {1, 3}
        client = await bench.ask(PONG)
        assert client.goaways == [(2**31 - 1, 0), (3, 0)]
        assert bench.transport.closed

    run(test)


def test_a_connection_is_told_with_the_last_of_its_answers() -> None:
    """So that a client built on h2 has nothing to lose."""

    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1), get(3))
        drain(bench)
        assert not (await bench.ask()).goaways
        app.go.set()
        client = await bench.ask()
        assert client.ended == {1, 3}
        assert client.frames[-2].kind == frames.PING  # a client built on h2 takes none later
        assert client.frames[-1].kind == frames.GOAWAY

    run(test)


def test_one_that_is_always_busy_is_told_in_the_middle() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1))
        drain(bench)
        bench.pass_time(2.5)
        client = await bench.ask(get(3))
        assert client.goaways == [(2**31 - 1, 0)]
        client = await bench.ask(PONG, get(5))
        assert client.goaways[1:] == [(3, 0)]
        assert client.resets == {5: ErrorCodes.REFUSED_STREAM}
        assert not bench.transport.closed
        app.go.set()
        client = await bench.ask()
        assert client.ended == {1, 3}
        assert bench.transport.closed

    run(test)


def test_who_does_not_say_that_it_knows_is_not_waited_for() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        await bench.ask(get(1))
        drain(bench)
        bench.pass_time(2)
        assert not bench.transport.closed
        bench.pass_time(7)
        assert bench.transport.closed

    run(test)


def test_a_connection_that_comes_while_the_worker_leaves_gets_its_first_answer() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        drain(bench)
        bench.transport, bench.connection = bench.connect()
        client = await bench.ask(get(1))
        assert client.ended == {1}
        assert client.goaways == [(2**31 - 1, 0)]

    run(test)


def test_so_many_requests_and_the_connection_is_renewed() -> None:
    async def test() -> None:
        bench = Bench2(hello, http(max_requests_per_connection=1, http2_streams=3))
        client = await bench.ask(get(1), get(3))
        assert not client.goaways
        client = await bench.ask(get(5))
        assert client.goaways == [(2**31 - 1, 0)]
        assert (await bench.ask(get(7))).status(7) == 200

    run(test)


def test_a_stream_of_events_ends_cleanly_when_the_worker_leaves() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
        await receive()
        await receive()

    async def test() -> None:
        bench = Bench2(app)
        await bench.ask(get(1))
        drain(bench)
        for exchange in list(bench.server.running):
            exchange.end_stream()
        client = await bench.ask()
        assert client.bodies[1] == b"data: 1\n\n"
        assert client.ended == {1}
        assert client.goaways

    run(test)


def test_out_of_time_apps_are_cancelled_and_answered_503() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app)
        await bench.ask(get(1), get(3))
        assert bench.link.cancel()
        client = await bench.ask()
        assert [client.status(stream) for stream in (1, 3)] == [503, 503]
        assert not bench.link.cancel()

    run(test)


def test_nobody_can_take_an_http2_connection_over() -> None:
    """The tables of its compression are here."""

    async def test() -> None:
        assert Bench2(hello).link.release() is None

    run(test)
