"""One connection on a fake transport: answers, order, flow control, and what is never done."""

import asyncio
from typing import Any

import pytest

from clusterd.config.settings import HttpSettings
from clusterd.ipc.scoreboard import Cell
from clusterd.worker import connection as module
from tests.unit.worker.fakes import Bench, echo, get, hello, run, status_of, statuses

POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


def streaming(*pieces: bytes, headers: Any = (), status: int = 200) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


class Held:
    """An app that waits until the test lets it go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.go.wait()
        await echo(scope, receive, send)


def test_a_whole_answer_is_one_write() -> None:
    async def test() -> None:
        bench = Bench(hello)
        answer = await bench.talk(get())
        assert answer == (
            b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 1970 00:00:00 GMT\r\nserver: clusterd\r\n"
            b"content-length: 5\r\n\r\nhello"
        )
        assert bench.transport.writes == 1
        assert not bench.transport.closed
        assert bench.connection.idle

    run(test)


def test_the_scope() -> None:
    """Every key that ASGI names, made for this request alone."""

    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(scope)
            scope["state"]["mine"] = 1
            await hello(scope, receive, send)

        bench = Bench(app, shared="thing")
        await bench.talk(get("/a%20b?c=d", "X-Y: z"), get("/2"))
        first, second = seen
        assert second["state"] == {"shared": "thing", "mine": 1}
        assert first.pop("state") is not second.pop("state")
        assert first == {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/a b",
            "raw_path": b"/a%20b",
            "query_string": b"c=d",
            "root_path": "",
            "headers": [(b"host", b"a"), (b"x-y", b"z")],
            "client": ("192.0.2.1", 50000),
            "server": ("192.0.2.2", 80),
            "extensions": {},
        }

    run(test)


@pytest.mark.parametrize("stream", [POST, CHUNKED, get() + POST + CHUNKED + get("/last")])
def test_any_split_gives_the_same_answers(stream: bytes) -> None:
    async def test() -> None:
        whole = await Bench(echo).talk(stream)
        assert set(statuses(whole)) == {200}
        assert whole == await Bench(echo).talk(*[bytes([byte]) for byte in stream])
        for cut in range(1, len(stream)):
            assert whole == await Bench(echo).talk(stream[:cut], stream[cut:])

    run(test)


def test_pipelined_requests_are_answered_in_order() -> None:
    """One at a time, also when the first takes long; meanwhile reading is paused."""

    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(get("/1") + get("/2") + POST + get("/4"))
        await bench.settle()
        assert [scope["path"] for scope in app.scopes] == ["/1"]
        assert bench.transport.paused
        assert not bench.connection.idle
        app.go.set()
        answers = await bench.talk()
        assert [part.split(b" ")[1] for part in answers.split(b"GET")[1:]] == [b"/1", b"/2", b"/4"]
        assert statuses(answers) == [200] * 4
        assert not bench.transport.paused
        assert bench.connection.idle

    run(test)


def test_what_comes_during_an_answer_is_not_parsed() -> None:
    """However much comes in one chunk, one request is in hand."""

    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(get("/1"))
        bench.feed(get("/2") * 1000)
        await bench.settle()
        assert len(app.scopes) == 1
        assert bench.transport.paused
        app.go.set()
        for _ in range(400):
            await bench.settle()
        assert statuses(bytes(bench.transport.sent)) == [200] * 1000  # the limit a connection

    run(test)


@pytest.mark.parametrize(
    ("request_", "app", "ends", "closed"),
    [
        (get(method="HEAD"), hello, b"content-length: 5\r\n\r\n", False),
        (get(method="HEAD"), streaming(b"a"), b"server: clusterd\r\n\r\n", False),
        (get(), streaming(status=204), b"server: clusterd\r\n\r\n", False),
        (get(), streaming(b"x", status=304), b"server: clusterd\r\n\r\n", False),
        (
            get(),
            streaming(b"ab", b"c"),
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n1\r\nc\r\n0\r\n\r\n",
            False,
        ),
        (
            get(),
            streaming(b"", b"ab"),
            b"transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            False,
        ),
        (
            get(),
            streaming(b"ab", headers=[(b"Content-Length", b"2")]),
            b"content-length: 2\r\n\r\nab",
            False,
        ),
        (get("/", "Connection: close"), hello, b"close\r\ncontent-length: 5\r\n\r\nhello", True),
        (get("/", "Connection: x, Close"), hello, b"content-length: 5\r\n\r\nhello", True),
        (get(version="1.0"), hello, b"close\r\ncontent-length: 5\r\n\r\nhello", True),
        (get(version="1.0"), streaming(b"ab"), b"connection: close\r\n\r\nab", True),
        (
            get("/", "Connection: Keep-Alive", version="1.0"),
            hello,
            b"connection: keep-alive\r\ncontent-length: 5\r\n\r\nhello",
            False,
        ),
        (
            get("/", "Connection: keep-alive", version="1.0"),
            streaming(b"ab"),
            b"connection: close\r\n\r\nab",
            True,
        ),
        (
            get(),
            streaming(headers=[(b"connection", b"close"), (b"transfer-encoding", b"chunked")]),
            b"connection: close\r\ncontent-length: 0\r\n\r\n",
            True,
        ),
    ],
)
def test_framing(request_: bytes, app: Any, ends: bytes, closed: bool) -> None:
    """RFC 9112 §6 and §9.3: how an answer ends, and whether the connection stays."""

    async def test() -> None:
        bench = Bench(app)
        answer = await bench.talk(request_)
        assert answer.endswith(ends), answer
        assert b"transfer-encoding" not in answer.replace(ends, b"")
        assert closed is bench.transport.closed

    run(test)


def test_an_apps_own_date_and_server_replace_ours() -> None:
    async def test() -> None:
        app = streaming(headers=[(b"Date", b"now"), [b"server", b"mine"], (b"x", b"y")])
        answer = await Bench(app).talk(get())
        assert answer.lower().count(b"date:") == answer.count(b"server:") == 1
        assert b"Date: now\r\nserver: mine\r\nx: y\r\n" in answer

    run(test)


def test_expect_100_continue() -> None:
    """Sent when the app asks for the body; never to HTTP/1.0, nor when the body is there."""

    async def test() -> None:
        head = b"POST / HTTP/1.%d\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        bench = Bench(echo)
        assert await bench.talk(head % 1) == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert statuses(await bench.talk(b"x")) == [200]
        assert await Bench(echo).talk(head % 0) == b""
        assert statuses(await Bench(echo).talk(head % 1 + b"x")) == [200]
        unasked = Bench(hello)
        answer = await unasked.talk(head % 1)
        assert b"connection: close" in answer
        assert b"100" not in answer.split(b"\r\n")[0]

    run(test)


def test_an_unread_body_is_read_if_short_and_never_parsed() -> None:
    """A short rest is read away and the connection kept; after a long one it is closed."""

    async def test() -> None:
        smuggled = get("/smuggled")
        head = b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n"
        short = Bench(hello)
        answers = await short.talk(head % len(smuggled), smuggled + get("/2"))
        assert len(statuses(answers)) == 2
        assert not short.transport.closed
        for body in (head % 10**6, CHUNKED.partition(b"3\r\n")[0]):
            long = Bench(hello)
            answer = await long.talk(body)
            assert b"connection: close" in answer
            assert long.transport.ended  # our side is shut, theirs is read for a moment
            assert await long.talk(smuggled * 10) == b""
            long.pass_time(10)
            assert long.transport.aborted

    run(test)


def test_a_body_waits_for_its_app() -> None:
    """A fast sender to a slow app: reading stops at 64 KiB, and goes on as the app takes it."""

    async def test() -> None:
        app = Held()
        bench = Bench(app)
        size = 1024 * 1024
        bench.feed(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size)
        sent = 0
        while not bench.transport.paused:
            bench.feed(b"x" * 16384)
            sent += 16384
        assert sent <= module.BODY_ROOM + 16384
        bench.pass_time(1000)
        assert not bench.transport.closed  # it is the app that is slow
        app.go.set()
        await bench.settle()
        while sent < size:
            assert not bench.transport.paused
            bench.feed(b"x" * 16384)
            sent += 16384
            await bench.settle()
        assert statuses(await bench.talk()) == [200]

    run(test)


def test_one_byte_chunks_cost_no_object_each() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(CHUNKED.partition(b"3\r\n")[0] + b"1\r\nx\r\n" * 1000)
        assert bench.connection.exchange is not None
        assert bench.connection.exchange.body == b"x" * 1000
        app.go.set()
        assert statuses(await bench.talk(b"0\r\n\r\n")) == [200]

    run(test)


def test_a_slow_reader_holds_up_its_app() -> None:
    """A big answer to a client that does not read: the app waits, memory stays bounded."""

    async def test() -> None:
        sent = 0

        async def app(scope: Any, receive: Any, send: Any) -> None:
            nonlocal sent
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for _ in range(100):
                await send({"type": "http.response.body", "body": b"x" * 50000, "more_body": True})
                sent += 50000
            await send({"type": "http.response.body"})

        bench = Bench(app)
        bench.transport.stuck = True
        bench.feed(get())
        await bench.settle()
        assert sent <= 100_000
        bench.transport.drained()
        await bench.settle()
        assert sent == 5_000_000

    run(test)


def test_who_does_not_read_answers_gets_no_more_of_them() -> None:
    async def test() -> None:
        app = streaming(b"x" * 100_000)
        bench = Bench(app)
        bench.transport.stuck = True
        bench.feed(get() * 10)
        await bench.settle()
        assert bench.transport.unsent < 250_000
        bench.transport.drained()
        for _ in range(20):
            await bench.settle()
        assert bench.connection.idle

    run(test)


def test_a_client_that_leaves_is_told_as_disconnect() -> None:
    """`receive` says so, the app runs on, and `send` raises OSError (ASGI HTTP 2.4)."""

    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append((await receive())["type"])
            seen.append((await receive())["type"])
            try:
                await send({"type": "http.response.start", "status": 200})
            except OSError as error:
                seen.append(type(error).__name__)

        bench = Bench(app)
        bench.feed(get())
        await bench.settle()
        assert seen == ["http.request"]
        bench.connection.connection_lost(None)
        await bench.settle()
        assert seen == ["http.request", "http.disconnect", "ClientGone"]
        assert bench.server.open == 0
        assert not bench.server.running

    run(test)


def test_a_client_that_closes_its_side_gets_its_answer() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(POST)
        assert bench.connection.eof_received()
        app.go.set()
        assert (await bench.talk()).endswith(b"POST /p hello")
        assert bench.transport.closed

    run(test)


def test_a_truncated_body_is_not_taken_as_complete() -> None:
    async def test() -> None:
        seen: list[Any] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while True:
                seen.append(await receive())
                if seen[-1]["type"] == "http.disconnect":
                    return

        bench = Bench(app)
        bench.feed(CHUNKED[:-5])
        bench.connection.eof_received()
        await bench.settle()
        assert [message.get("more_body") for message in seen] == [True, None]

    run(test)


def test_requests_a_connection_and_draining() -> None:
    """The last answer says so, and closes."""

    async def test() -> None:
        bench = Bench(hello, HttpSettings(max_requests_per_connection=2))
        assert b"connection: close" not in await bench.talk(get())
        assert b"connection: close" in await bench.talk(get())
        assert bench.transport.closed
        app = Held()
        draining = Bench(app)
        draining.feed(get())
        draining.server.drain_begins()
        app.go.set()
        assert b"connection: close" in await draining.talk()
        assert draining.transport.closed
        later = Bench(hello)
        later.server.drain_begins()
        assert later.connection.idle
        assert b"connection: close" in await later.talk(get())

    run(test)


def test_idle_is_exact() -> None:
    """Half a head, a body, a held request: none of them is idle, and none is released."""

    async def test() -> None:
        for data in (b"G", get()[:-1], POST[:-1], get() + b"G", CHUNKED[:-1]):
            bench = Bench(hello)
            bench.feed(data)
            await bench.settle()
            assert not bench.connection.idle
            assert bench.connection.release() is None
        bench = Bench(hello)
        assert bench.connection.idle
        await bench.talk(get(), POST, CHUNKED)
        assert bench.connection.idle

    run(test)


def test_refusals() -> None:
    """A malformed request is answered after those before it, and closes with our side first."""

    async def test() -> None:
        bench = Bench(hello)
        answers = await bench.talk(get() + b"GET / HTTP/3.0\r\nHost: a\r\n\r\n")
        assert statuses(answers) == [200, 505]
        assert bench.transport.ended
        assert await bench.talk(get()) == b""
        assert bench.connection.eof_received() is False
        half = Bench(echo)
        answer = await half.talk(CHUNKED[:-7] + b"xx\r\n")
        assert statuses(answer) == [400]
        assert status_of(answer) == 400

    run(test)


def test_counters() -> None:
    """Requests, bytes, classes and latency reach the row; in-flight ones are seen."""

    async def test() -> None:
        app = Held()
        bench = Bench(app)
        bench.feed(get())
        bench.server.publish()
        assert bench.row[Cell.IN_FLIGHT] == 1
        assert bench.row[Cell.OLDEST_REQUEST] == int(1000.0 * 1e6)
        bench.now += 0.001
        app.go.set()
        sent = await bench.talk()
        await bench.talk(b"nonsense \r\n\r\n")
        bench.server.publish()
        assert bench.row[Cell.IN_FLIGHT] == 0
        assert bench.row[Cell.REQUESTS] == 2
        assert bench.row[Cell.ANSWERED_2XX] == 1
        assert bench.row[Cell.ANSWERED_5XX] + bench.row[Cell.ANSWERED_4XX] == 1
        assert bench.row[Cell.BYTES_OUT] > len(sent)
        assert bench.row[Cell.BYTES_IN] == len(get()) + len(b"nonsense \r\n\r\n")
        assert sum(bench.row[Cell.LATENCY : Cell.LATENCY + 32]) == 1
        assert bench.row[Cell.LATENCY + 10] == 1  # 512 to 1023 µs, as 1 ms came out as 999
        assert bench.row[Cell.CONNECTIONS] == 1

    run(test)


def test_a_background_task_does_not_hold_up_the_connection() -> None:
    """What an app does after its answer runs on while the next request is served."""

    async def test() -> None:
        go = asyncio.Event()
        done: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await hello(scope, receive, send)
            await go.wait()
            done.append(scope["path"])

        bench = Bench(app)
        assert statuses(await bench.talk(get("/1"), get("/2"))) == [200, 200]
        assert len(bench.server.tasks) == 2
        assert bench.connection.idle
        go.set()
        await bench.settle()
        assert done == ["/1", "/2"]
        assert not bench.server.tasks

    run(test)
