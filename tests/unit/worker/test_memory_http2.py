"""The memory budget over HTTP/2: heads, bodies, answers, and requests in flight."""

from typing import Any

from h2.errors import ErrorCodes
from hpack import Encoder

from clusterd.config.serving import HttpSettings
from clusterd.worker.http2_stream import STREAM
from clusterd.worker.memory_budget import GRACE, LOOK, PAIR
from clusterd.worker.turns import PIECE
from tests.support import http2 as frames
from tests.support.http2 import Reading, get, post
from tests.unit.worker.fakes import Held, hello, run
from tests.unit.worker.fakes_http2 import Bench2

KIB = 1024
HTTP = HttpSettings(memory_budget=1024 * KIB)
CALM = ErrorCodes.ENHANCE_YOUR_CALM
WIDE = frames.settings((4, 2**31 - 1)) + frames.window(0, 2**30)


def long(stream: int, size: int) -> bytes:
    """A request with headers of so many bytes."""
    fields = [(f"x-{n}", "y" * 4000) for n in range(size // 4000)]
    return b"".join(pieces(stream, frames.asked("GET", "/", *fields), ended=True))


def pieces(stream: int, block: bytes, ended: bool, last: int = frames.END_HEADERS) -> list[bytes]:
    """A head in as many frames as it takes; without `last` it has no end."""
    parts = [block[at : at + 16384] for at in range(0, len(block), 16384)]
    flags = frames.END_STREAM if ended else 0
    if len(parts) == 1:
        flags |= last
    found = [frames.frame(frames.HEADERS, flags, stream, parts[0])]
    for part in parts[1:]:
        is_last = part is parts[-1]
        found.append(frames.frame(frames.CONTINUATION, last if is_last else 0, stream, part))
    return found


class Crowd(Bench2):
    """Many clients of one worker."""

    def __init__(self, app: Any, http: HttpSettings = HTTP) -> None:
        self.clients: list[tuple[Any, Any]] = []
        super().__init__(app, http)

    async def join(self, *sent: bytes, stuck: bool = False) -> Any:
        """A new client sends this, and waits."""
        transport, link = self.connect()
        transport.stuck = stuck
        self.clients.append((transport, link))
        for piece in sent:
            if not transport.paused:
                link.data_received(piece)
                await self.settle()
        return transport

    def read_of(self, transport: Any) -> Reading:
        return Reading().take(bytes(transport.sent))

    @property
    def goaways(self) -> list[list[int]]:
        return [[code for _, code in self.read_of(t).goaways] for t, _ in self.clients]


def test_heads_bodies_and_what_is_torn_are_counted() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        held = crowd.server.memory
        await crowd.join(long(1, 40_000))
        assert 40_000 <= held.held < 40_000 + 2 * STREAM
        await crowd.join(post(1) + frames.data(1, b"x" * 16_000) * 4)
        assert 104_000 <= held.held < 104_000 + 4 * STREAM
        half = pieces(1, frames.asked("GET", "/", ("a", "b" * 50_000)), ended=True, last=0)
        await crowd.join(*half)
        assert 154_000 <= held.held < 154_000 + 4 * STREAM
        for _, link in crowd.clients:
            link.connection_lost(None)
        assert held.held == 0

    run(test)


def test_each_piece_of_what_came_at_once_counts() -> None:
    """A thousand connections may each be a piece further than was counted."""

    async def test() -> None:
        crowd = Crowd(Held())
        half = b"".join(pieces(1, frames.asked("GET", "/", ("a", "b" * 60_000)), True, last=0))
        await crowd.join(half[:PIECE])
        ((_, link),) = crowd.clients
        for number in (2, 3):
            link.data_received(half[(number - 1) * PIECE : number * PIECE])
            assert crowd.server.memory.held >= number * PIECE

    run(test)


def test_heads_count_as_long_as_they_are_and_not_as_they_came() -> None:
    """One long field, remembered, then named again in each request."""

    async def test() -> None:
        crowd = Crowd(Held())
        learn = b"\x40\1a\x7f\xa1\x1e" + b"x" * 4000
        first = frames.frame(frames.HEADERS, 5, 1, frames.asked() + learn)
        again = b"".join(
            frames.frame(frames.HEADERS, 5, n, frames.asked() + b"\xbe" * 10)
            for n in range(3, 23, 2)
        )
        await crowd.join(first + again)
        assert crowd.server.memory.held > 400_000

    run(test)


def test_heads_that_are_remembered_count() -> None:
    async def test() -> None:
        bench, encoder = Bench2(hello, HTTP), Encoder()
        blocks = [encoder.encode(frames.ASKED) for _ in range(3)]
        for stream, block in zip((1, 3, 5), blocks, strict=True):
            await bench.ask(frames.frame(frames.HEADERS, 5, stream, block))
        assert bench.link.engine.held > 30

    run(test)


def test_half_a_long_head_costs_its_connection_unless_others_are_served_on_it() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        half = pieces(3, frames.asked("GET", "/", ("a", "b" * 20_000)), ended=True, last=0)
        served, alone = await crowd.join(get(1), *half), await crowd.join(*half)
        for transport, link in crowd.clients:
            assert link.awaits_client
            link.hold_off()
            assert not transport.paused
        assert not served.ended
        assert alone.ended
        assert crowd.goaways == [[], [CALM]]
        assert crowd.clients[-1][1].engine.held == 0, "what is half read goes at once"

    run(test)


def test_a_held_off_connection_begins_no_request_and_ends_those_it_has() -> None:
    """It is read from: its client has to open windows, and to send what is left of bodies."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100_000})

    async def test() -> None:
        bench = Bench2(app, HTTP)
        memory = bench.server.memory
        await bench.ask(post(1))
        memory.is_short = True
        memory.stopped.add(bench.link)
        bench.link.hold_off()
        client = await bench.ask(frames.data(1, b"x" * 5_000, end=True), get(3))
        assert client.status(1) == 200
        assert client.resets == {3: ErrorCodes.REFUSED_STREAM}
        assert len(client.bodies[1]) == 65_535
        client = await bench.ask(frames.window(0, 50_000) + frames.window(1, 50_000))
        assert len(client.bodies[1]) == 100_000
        memory.is_short = False
        memory.stopped.discard(bench.link)
        assert (await bench.ask(get(5))).status(5) == 200

    run(test)


def test_a_long_head_is_refused_while_memory_is_short_on_any_connection() -> None:
    async def test() -> None:
        bench = Bench2(hello, HTTP)
        bench.server.memory.is_short = True
        long_one = pieces(1, frames.asked("GET", "/", ("a", "b" * 20_000)), ended=True)
        client = await bench.ask(*long_one, get(3))
        assert client.resets == {1: ErrorCodes.REFUSED_STREAM}
        assert client.status(3) == 200
        bench.server.memory.is_short = False
        client = await bench.ask(*[piece[:8] + b"\5" + piece[9:] for piece in long_one])
        assert client.status(5) == 200

    run(test)


def test_a_body_whose_window_others_of_its_connection_fill_is_not_timed_out() -> None:
    async def test() -> None:
        bench = Bench2(Held(), HTTP)
        bench.server.memory.is_short = True  # so that no window gets wider
        await bench.ask(post(1), *[frames.data(1, b"x" * 13_107)] * 4, post(3))
        bench.feed(frames.data(1, b"x" * 13_106))  # one byte is left
        await bench.ask(frames.data(1, b"x"))
        bench.pass_time(HTTP.body_timeout + 2)
        await bench.settle()
        assert set(bench.link.streams) == {1, 3}
        other = Bench2(Held(), HTTP)
        await other.ask(post(1), frames.data(1, b"x" * 13_107), post(3))
        other.pass_time(HTTP.body_timeout + 2)
        assert (await other.ask()).status(3) == 408

    run(test)


def test_who_may_not_send_is_not_dropped_for_not_sending() -> None:
    """Its window is full, and the app takes nothing. Another has window left and sends nothing."""

    async def test() -> None:
        crowd = Crowd(Held())
        memory = crowd.server.memory
        memory.is_short = True  # so that no window gets wider
        full = await crowd.join(post(1), *[frames.data(1, b"x" * 13_107)] * 5)
        idle = await crowd.join(post(1), *[frames.data(1, b"x" * 13_107)] * 4)
        assert [link.awaits_client for _, link in crowd.clients] == [False, True]
        memory.high = memory.calm = 100 * KIB
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        assert [crowd.read_of(t).heads.keys() for t in (full, idle)] == [set(), {1}]

    run(test)


def test_small_requests_are_not_asked_for() -> None:
    async def test() -> None:
        bench = Bench2(hello, HTTP)
        for stream in range(1, 101, 2):
            await bench.ask(get(stream))
        bench.server.publish()
        assert bench.server.memory.held == 0

    run(test)


def test_bodies_beyond_the_budget_cost_their_stream_and_no_other() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        for _ in range(20):
            await crowd.join(post(1), *[frames.data(1, b"x" * 16_000)] * 4)
            assert crowd.server.memory.held <= 1024 * KIB
        read = [crowd.read_of(transport) for transport, _ in crowd.clients]
        refused = [one for one in read if 1 in one.heads]
        assert refused
        assert {one.status(1) for one in refused} == {413}
        assert not any(one.goaways for one in read)
        crowd.server.app = hello
        transport = await crowd.join(get(1))
        assert crowd.read_of(transport).status(1) == 200

    run(test)


def test_long_heads_are_refused_where_memory_is_short_and_short_ones_are_not() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        for _ in range(10):
            await crowd.join(*[long(n, 60_000) for n in (1, 3)])
            assert crowd.server.memory.held <= 1024 * KIB
        assert crowd.server.memory.is_short
        resets = [crowd.read_of(transport).resets for transport, _ in crowd.clients]
        assert len([1 for one in resets if one]) > 2
        assert {code for one in resets for code in one.values()} == {ErrorCodes.REFUSED_STREAM}
        crowd.server.app = hello
        transport = await crowd.join(get(1))
        assert crowd.read_of(transport).status(1) == 200

    run(test)


def test_as_many_streams_are_given_up_as_it_takes_and_no_more() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        transport = await crowd.join(*[long(n, 60_000) for n in range(1, 21, 2)])
        ((_, link),) = crowd.clients
        memory = crowd.server.memory
        memory.limit = 400 * KIB  # as if others held the rest
        memory.high, memory.calm = 300 * KIB, 200 * KIB
        memory.count(link)
        await crowd.settle()
        assert 340_000 < memory.held <= 400 * KIB
        read = crowd.read_of(transport)
        assert {read.status(n) for n in read.heads} == {503}
        assert len(link.streams) == 10 - len(read.heads) == 6, "of 66 kB each"
        assert not read.goaways

    run(test)


def test_the_objects_of_headers_count_beside_their_text() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        fields = [(f"x-{n}", "y" * 500) for n in range(90)]
        await crowd.join(b"".join(pieces(1, frames.asked("GET", "/", *fields), ended=True)))
        text = 90 * 500
        assert text + 90 * PAIR < crowd.server.memory.held < text + 100 * PAIR + 2 * STREAM

    run(test)


def test_what_no_stream_holds_costs_the_connection_with_enhance_your_calm() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        half = pieces(1, frames.asked("GET", "/", ("a", "b" * 100_000)), ended=True, last=0)
        for _ in range(12):
            await crowd.join(*half)
            assert crowd.server.memory.held <= 1024 * KIB
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        assert [CALM] in crowd.goaways
        ended = [t for t, link in crowd.clients if link.is_closing]
        assert ended
        assert not any(transport.paused for transport in ended)

    run(test)


def test_stalled_bodies_go_and_the_others_stay() -> None:
    async def test() -> None:
        crowd = Crowd(Held())
        for _ in range(14):
            await crowd.join(post(1), frames.data(1, b"x" * 16_000) * 4)
        assert crowd.server.memory.is_short
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        assert not crowd.server.memory.is_short
        read = [crowd.read_of(t) for t, _ in crowd.clients]
        assert 0 < sum(1 in one.heads for one in read) < 14

    run(test)


def test_an_answer_that_waits_for_windows_counts_and_windows_are_read() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 280_000})

    async def test() -> None:
        crowd = Crowd(app)
        await crowd.join(get(1))
        assert 210_000 < crowd.server.memory.held < 230_000
        for _ in range(3):
            await crowd.join(get(1))
        transport, link = crowd.clients[-1]
        link.hold_off()
        assert not transport.paused
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        read = [crowd.read_of(t).resets for t, _ in crowd.clients]
        assert sorted(len(resets) for resets in read) == [0, 0, 0, 1]
        assert {code for resets in read for code in resets.values()} == {CALM}

    run(test)


def test_an_answer_larger_than_the_budget_is_the_apps_and_gets_through() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 3000 * KIB})

    async def test() -> None:
        crowd = Crowd(app)
        transport = await crowd.join(get(1))
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        assert not crowd.server.memory.is_short
        _, link = crowd.clients[0]
        link.data_received(WIDE)
        for _ in range(100):
            await crowd.settle()
        read = crowd.read_of(transport)
        assert not read.resets
        assert len(read.bodies[1]) == 3000 * KIB

    run(test)


def test_a_client_that_takes_nothing_is_reset_where_memory_is_short() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(20):
            await send({"type": "http.response.body", "body": b"x" * 60_000, "more_body": True})

    async def test() -> None:
        crowd = Crowd(app)
        for _ in range(9):
            await crowd.join(WIDE + get(1), stuck=True)
        await crowd.pass_with_budget(GRACE + 3 * LOOK)
        assert any(transport.aborted for transport, _ in crowd.clients)
        assert crowd.server.memory.held <= 0.8 * 1024 * KIB

    run(test)


def test_where_the_budget_is_used_up_the_app_is_not_asked() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app, HTTP)
        bench.server.memory.is_over = True
        assert (await bench.ask(get(1))).status(1) == 503
        assert not app.scopes

    run(test)


def test_where_it_was_used_up_meanwhile_no_large_answer_is_taken() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            bench.server.memory.is_over = True
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"x" * 20_000})

        bench = Bench2(app, HTTP)
        assert (await bench.ask(get(1))).resets == {1: CALM}

    run(test)


# --- requests in flight


def test_all_requests_in_flight_are_as_many_as_connections_may_be() -> None:
    async def test() -> None:
        app = Held()
        crowd = Crowd(app, HttpSettings(max_connections=10))
        for _ in range(4):
            await crowd.join(b"".join(get(n) for n in range(1, 15, 2)))
        refused = [len(crowd.read_of(t).resets) for t, _ in crowd.clients]
        assert refused == [0, 4, 6, 6], "each connection has one at least"
        codes = {code for t, _ in crowd.clients for code in crowd.read_of(t).resets.values()}
        assert codes == {ErrorCodes.REFUSED_STREAM}
        assert len(app.scopes) == 12
        app.go.set()
        await crowd.settle()
        link = crowd.clients[-1][1]
        link.data_received(b"".join(get(n) for n in range(21, 35, 2)))
        await crowd.settle()
        assert len(crowd.read_of(crowd.clients[-1][0]).resets) == 6

    run(test)


def test_cancelled_requests_count_until_their_app_has_seen_it() -> None:
    async def test() -> None:
        app = Held()
        crowd = Crowd(app, HttpSettings(max_connections=4))
        await crowd.join(b"".join(get(n) for n in (1, 3, 5, 7)))
        crowd.clients[0][1].data_received(b"".join(frames.reset(n) for n in (1, 3, 5, 7)))
        assert crowd.server.cancelled == 4
        await crowd.join(get(1) + get(3))
        assert list(crowd.read_of(crowd.clients[1][0]).resets) == [3]
        app.go.set()
        await crowd.settle()
        assert crowd.server.cancelled == 0

    run(test)


# --- ends


def test_a_client_that_does_not_read_the_end_loses_its_connection() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        await bench.ask(get(1))
        bench.transport.stuck = True
        bench.link.close()
        assert bench.transport.closed
        assert bench.transport.get_write_buffer_size() > 0
        bench.pass_time(bench.server.http.write_timeout + 2)
        assert bench.transport.aborted

    run(test)


def test_the_same_after_a_flood() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        bench.transport.stuck = True
        bench.feed(frames.frame(frames.PING, 0, 1, b"12345678"))
        assert bench.link.is_closing
        assert bench.transport.get_write_buffer_size() > 0
        for _ in range(3):
            bench.pass_time(bench.server.http.write_timeout + 2)
        assert bench.transport.aborted

    run(test)
