"""One connection on a fake transport: answers, order, flow control, and what is never done."""

import asyncio
from typing import Any

import pytest

from clusterd.config.serving import HttpSettings
from clusterd.ipc.scoreboard import Cell
from clusterd.worker.connection import Connection
from tests.unit.worker.fakes import (
    CHUNKED,
    POST,
    Bench,
    Held,
    echo,
    get,
    hello,
    run,
    status_of,
    statuses,
    streaming,
)


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
            "asgi": {"version": "3.0", "spec_version": "2.5"},
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
            "extensions": bench.server.extensions,
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


LENGTH = [(b"content-length", b"7")]


def one(body: bytes, headers: Any = (), status: int = 200) -> Any:
    """An app whose body is in one piece."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


@pytest.mark.parametrize(
    ("request_", "app", "ends", "closed"),
    [
        (get(method="HEAD"), hello, b"content-length: 5\r\n\r\n", False),
        (get(method="HEAD"), one(b""), b"server: clusterd\r\n\r\n", False),
        (get(method="HEAD"), one(b"", LENGTH), b"clusterd\r\ncontent-length: 7\r\n\r\n", False),
        (get(), one(b""), b"content-length: 0\r\n\r\n", False),
        (
            get(),
            one(b"x", [(b"upgrade", b"h2c"), (b"connection", b"upgrade")], 426),
            b"connection: upgrade\r\nupgrade: h2c\r\ncontent-length: 1\r\n\r\nx",
            False,
        ),
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
        draining.server.drain_begins(last=False, leave_by=0.0)
        app.go.set()
        assert b"connection: close" in await draining.talk()
        assert draining.transport.closed
        later = Bench(hello)
        later.server.drain_begins(last=False, leave_by=0.0)
        assert later.connection.idle
        assert b"connection: close" in await later.talk(get())
        between = Bench(hello)
        accepted = Connection(between.server)  # and made a turn of the loop later
        between.server.drain_begins(last=False, leave_by=0.0)
        between.transport.protocol = between.connection = accepted
        accepted.connection_made(between.transport)
        assert b"connection: close" in await between.talk(get())

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
        assert bench.row[Cell.LATENCY_SUM] == 999
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


@pytest.mark.parametrize("events", [False, True], ids=["ended by the app", "ended for it"])
def test_a_stream_whose_head_promised_to_keep_the_connection_keeps_it(events: bool) -> None:
    """Also while the worker leaves: its client may have sent the next request already."""

    async def test() -> None:
        go = asyncio.Event()

        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = [(b"content-type", b"text/event-stream")]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": b"a", "more_body": True})
            await go.wait()
            await send({"type": "http.response.body"})

        bench = Bench(app)
        assert b"connection: close" not in await bench.talk(get())
        bench.server.drain_begins(last=False, leave_by=bench.now + 10)
        if events:
            for exchange in list(bench.server.running):
                exchange.end_stream()
        go.set()
        await bench.settle()
        assert bench.transport.sent.endswith(b"0\r\n\r\n")
        assert bench.connection.idle  # to be handed over, or to have one answer more
        bench.transport.sent.clear()
        assert b"connection: close" in await bench.talk(get())
        assert bench.transport.closed

    run(test)
