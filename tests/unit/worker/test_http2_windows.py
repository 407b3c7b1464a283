"""HTTP/2's windows: who reads too little, on either side, makes the other wait and nobody else."""

import asyncio
from typing import Any

from h2.errors import ErrorCodes

from clusterd.wire.http2_states import STREAM_WINDOW
from clusterd.worker.connection import DRAINED
from clusterd.worker.http2_windows import WIDEST
from tests.support import http2 as frames
from tests.support.http2 import get, post
from tests.unit.worker.fakes import Held, echo, hello, run, streaming
from tests.unit.worker.fakes_http2 import Bench2


def test_an_answer_waits_for_the_client_s_windows() -> None:
    async def test() -> None:
        bench = Bench2(streaming(b"x" * 100_000, b"y" * 100_000))
        client = await bench.ask(get(1))
        assert len(client.bodies[1]) == 65535
        assert list(bench.link.blocked) == list(bench.link.streams.values())
        client = await bench.ask(frames.window(1, 200_000))
        assert len(client.bodies[1]) == 65535  # the connection's own is closed, too
        client = await bench.ask(frames.window(0, 200_000))
        assert client.bodies[1] == b"x" * 100_000 + b"y" * 100_000
        assert client.ended == {1}
        assert not bench.link.blocked

    run(test)


def test_a_whole_answer_that_has_to_wait_ends_after_all() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 70_000})

    async def test() -> None:
        bench = Bench2(app)
        client = await bench.ask(get(1), get(3))
        assert not client.ended
        client = await bench.ask(frames.window(0, 200_000), frames.window(1, 9000))
        assert client.ended == {1}
        client = await bench.ask(frames.settings((4, 80_000)))
        assert client.ended == {1, 3}
        assert len(client.bodies[3]) == 70_000

    run(test)


def test_streams_take_turns() -> None:
    """Two large answers to a fast client: neither waits for the other's end."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 2_000_000})

    async def test() -> None:
        bench = Bench2(app)
        wide = frames.settings((4, 2**31 - 1)) + frames.window(0, 2**31 - 1 - 65535)
        client = await bench.ask(wide + get(1) + get(3))
        order = [sent.stream for sent in client.of(frames.DATA)]
        assert order.index(3) < len(order) / 4
        assert client.ended == {1, 3}

    run(test)


def test_an_answer_goes_on_after_its_turn() -> None:
    """Begun at any time, with nothing coming from the client meanwhile."""

    async def test() -> None:
        go = asyncio.Event()

        async def large(scope: Any, receive: Any, send: Any) -> None:
            await go.wait()
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 2_000_000})

        bench = Bench2(large)
        wide = frames.settings((4, 2**31 - 1)) + frames.window(0, 2**31 - 1 - 65535)
        await bench.ask(wide + get(1) + get(3))
        go.set()
        for _ in range(5):
            client = await bench.ask()
        assert client.ended == {1, 3}
        assert len(client.bodies[1]) == 2_000_000

    run(test)


def test_a_slow_transport_holds_answers_back() -> None:
    """What the socket does not take stays with the app, not in our memory."""

    async def test() -> None:
        app = streaming(*[b"x" * 50_000] * 100)
        bench = Bench2(app)
        bench.transport.stuck = True
        wide = frames.settings((4, 2**31 - 1)) + frames.window(0, 2**31 - 1 - 65535)
        await bench.ask(wide + get(1))
        assert bench.link.is_paused
        assert bench.transport.unsent < 400_000
        bench.transport.drained()
        for _ in range(30):
            await bench.settle()
        assert len(bench.read().bodies[1]) > 4_000_000

    run(test)


def test_a_slow_transport_holds_all_streams_back() -> None:
    """Windows that open for many of them at once are no reason to fill our memory."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 200_000})

    async def test() -> None:
        bench = Bench2(app)
        closed = frames.settings((4, 0))
        await bench.ask(closed + b"".join(get(stream) for stream in range(1, 101, 2)))
        bench.transport.stuck = True
        await bench.ask(frames.window(0, 2**30) + frames.settings((4, 2**30)))
        assert bench.transport.unsent < 300_000
        bench.transport.drained()
        assert bench.read().ended == set(range(1, 101, 2))

    run(test)


def test_an_answer_opens_the_window_of_a_body_that_nobody_read() -> None:
    """Else its client would wait for the deadline, with what is left in its hands."""

    async def test() -> None:
        app = Ignoring()
        bench = Bench2(app)
        await bench.ask(post(1), *[frames.data(1, b"x" * 16_000)] * 16)
        app.go.set()
        client = await bench.ask()
        given = [sent.stream for sent in client.of(frames.WINDOW_UPDATE)]
        assert given == [0, 0, 0, 1], "the connection's gets wider as it is filled"

    run(test)


class Ignoring(Held):
    """Waits, and answers without a look at the body."""

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await self.go.wait()
        await hello(scope, receive, send)


def test_a_body_gets_window_as_the_app_takes_it() -> None:
    async def test() -> None:
        taken = 0
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal taken
            await go.wait()
            while (message := await receive())["more_body"]:
                taken += len(message["body"])
            taken += len(message["body"])
            await hello(scope, receive, send)

        bench = Bench2(app)
        client = await bench.ask(post(1))
        await bench.ask(*[frames.data(1, b"x" * 16_000)] * 16)
        assert {sent.stream for sent in client.of(frames.WINDOW_UPDATE)} == {0}, "it got wider"
        go.set()
        client = await bench.ask()
        given = [sent for sent in client.of(frames.WINDOW_UPDATE) if sent.stream]
        assert sum(int.from_bytes(sent.body) for sent in given) == 256_000
        client = await bench.ask(frames.data(1, b"x", end=True))
        assert taken == 256_001
        assert client.ended == {1}

    run(test)


def test_bodies_that_are_done_with_cost_the_connection_no_window() -> None:
    """Of each kind: read, never read, cancelled. Many times what the connection's window has."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/read":
            await echo(scope, receive, send)
        else:
            await hello(scope, receive, send)

    async def test() -> None:
        bench = Bench2(app)
        await bench.ask(frames.window(0, 2**30))
        rounds = 3 * WIDEST // 30_000
        for number in range(rounds):
            bench.now += 1
            stream = 6 * number + 1
            for n, path in enumerate(["/read", "/unread", "/read"]):
                head = frames.asked("POST", path)
                bench.feed(frames.frame(frames.HEADERS, 4, stream + 2 * n, head))
                bench.feed(frames.data(stream + 2 * n, b"x" * 15_000))
            bench.feed(frames.data(stream, b"", end=True), frames.data(stream + 2, b"", end=True))
            bench.feed(frames.reset(stream + 4))
            client = await bench.ask()
        assert not client.goaways
        assert not bench.link.streams

    run(test)


def test_a_body_that_nobody_wants_is_read_a_little_then_cut() -> None:
    """RFC 9113 §8.1: RST_STREAM with NO_ERROR after a complete answer."""

    async def test() -> None:
        bench = Bench2(hello)
        await bench.ask(post(1))
        client = await bench.ask(frames.data(1, b"x" * 10_000))
        assert client.ended == {1}
        assert not client.resets
        for _ in range(DRAINED // 10_000):
            client = await bench.ask(frames.data(1, b"x" * 10_000))
        assert client.resets == {1: ErrorCodes.NO_ERROR}
        assert (await bench.ask(get(3))).status(3) == 200
        client = await bench.ask(post(5), frames.data(5, b"x" * 10_000, end=True))
        assert 5 not in client.resets
        assert not bench.link.streams

    run(test)


def test_stream_windows_and_the_connection_s_are_what_we_said() -> None:
    async def test() -> None:
        client = Bench2(hello).read()
        (first, *_) = client.of(frames.SETTINGS)
        said = {
            first.body[i + 1]: int.from_bytes(first.body[i + 2 : i + 6])
            for i in range(0, len(first.body), 6)
        }
        assert said[3] == 100
        assert said[4] == STREAM_WINDOW
        assert said[6] == 65536
        assert said[8] == 0  # no extended CONNECT

    run(test)
