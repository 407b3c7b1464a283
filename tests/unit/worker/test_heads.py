"""Responses that have begun and have no body yet: the head goes out, and only then."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from clusterd.app.exchange import STARTED, Exchange
from clusterd.worker.server import Server
from tests.support.http2 import get as get2
from tests.support.http2 import window
from tests.unit.app.wsgi_bench import WsgiBench
from tests.unit.app.wsgi_bench import run as run_wsgi
from tests.unit.worker.fakes import Bench, get, run
from tests.unit.worker.fakes_http2 import Bench2

EVENTS = [(b"content-type", b"text/event-stream")]
SHAKE = get(
    "/",
    "Connection: upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


class Silent:
    """An app that begins its response, and sends its body only when the test says so."""

    def __init__(self, headers: Any = EVENTS, wait: bool = False, body: Any = None) -> None:
        self.headers = headers
        self.wait = wait  # for another turn of the loop, before anything else
        self.body = body or {"type": "http.response.body", "body": b"data: 1\n\n"}
        self.go = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if self.wait:
            await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": self.headers})
        await self.go.wait()
        await send(self.body)


@pytest.mark.parametrize("wait", [False, True], ids=["first-step", "later"])
def test_the_head_does_not_wait_for_the_body(wait: bool) -> None:
    async def test() -> None:
        app = Silent(wait=wait)
        bench = Bench(app)
        head = await bench.talk(get())
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        assert head.endswith(b"transfer-encoding: chunked\r\n\r\n")
        app.go.set()
        assert await bench.talk() == b"9\r\ndata: 1\n\n\r\n0\r\n\r\n"
        assert bench.connection.idle

    run(test)


@pytest.mark.parametrize("wait", [False, True], ids=["first-step", "later"])
def test_over_http2_as_well(wait: bool) -> None:
    async def test() -> None:
        app = Silent(wait=wait)
        bench = Bench2(app)
        client = await bench.ask(get2(1))
        assert (b":status", b"200") in client.heads[1][0]
        assert 1 not in client.ended
        app.go.set()
        client = await bench.ask()
        assert client.bodies[1] == b"data: 1\n\n"
        assert 1 in client.ended

    run(test)


@pytest.mark.parametrize("turns", range(4))
def test_a_body_that_follows_soon_shares_the_write(turns: int) -> None:
    """Three of Starlette's BaseHTTPMiddleware pass it on within three turns of the loop."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        length = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": length})
        for _ in range(turns):
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"ok"})

    async def test() -> None:
        bench = Bench(app)
        for _ in range(3):
            bench.transport.writes = 0
            assert (await bench.talk(get())).endswith(b"\r\n\r\nok")
            assert bench.transport.writes == 1

    run(test)


@pytest.mark.parametrize("wait", [False, True], ids=["first-step", "later"])
def test_a_response_that_has_not_begun_costs_no_callback(
    wait: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most apps wait for something before they begin, and many requests wait at a time."""
    stages = []
    begins = Server.begins

    def spy(server: Server, exchange: Exchange) -> None:
        stages.append(exchange.stage)
        begins(server, exchange)

    monkeypatch.setattr(Server, "begins", spy)

    async def test() -> None:
        app = Silent(wait=wait)
        bench = Bench(app)
        assert (await bench.talk(get())).endswith(b"\r\n\r\n")
        assert stages == [STARTED]
        app.go.set()
        await bench.settle()
        assert bench.connection.idle

    run(test)


def test_a_length_that_the_app_told_stays() -> None:
    async def test() -> None:
        app = Silent([(b"content-length", b"9")])
        bench = Bench(app)
        assert (await bench.talk(get())).endswith(b"content-length: 9\r\n\r\n")
        app.go.set()
        assert await bench.talk() == b"data: 1\n\n"
        assert bench.connection.idle

    run(test)


def test_to_an_old_client_the_end_of_the_connection_is_the_end() -> None:
    async def test() -> None:
        app = Silent()
        bench = Bench(app)
        assert (await bench.talk(get(version="1.0"))).endswith(b"connection: close\r\n\r\n")
        app.go.set()
        assert await bench.talk() == b"data: 1\n\n"
        assert bench.transport.closed

    run(test)


def test_of_a_response_to_head_nothing_follows() -> None:
    async def test() -> None:
        app = Silent()
        bench = Bench(app)
        assert (await bench.talk(get(method="HEAD"))).startswith(b"HTTP/1.1 200 ")
        app.go.set()
        assert await bench.talk() == b""
        assert bench.connection.idle

    run(test)


def test_a_silent_stream_of_events_ends_like_any_other() -> None:
    """So that its browser connects again; a 503 would be the end for it."""

    async def test() -> None:
        bench = Bench(Silent())
        await bench.talk(get())
        (exchange,) = bench.server.running
        exchange.end_stream()
        assert await bench.talk() == b"0\r\n\r\n"

    run(test)


def test_a_silent_stream_of_events_ends_over_http2() -> None:
    async def test() -> None:
        bench = Bench2(Silent())
        await bench.ask(get2(1))
        (exchange,) = bench.server.running
        exchange.end_stream()
        client = await bench.ask()
        assert 1 in client.ended
        assert not client.resets

    run(test)


def test_what_has_begun_is_cut_and_not_called_unavailable() -> None:
    async def test() -> None:
        bench = Bench(Silent([]))
        await bench.talk(get())
        bench.connection.cancel()
        assert await bench.talk() == b""
        assert bench.transport.aborted

    run(test)


@pytest.mark.parametrize("size", [5, 100_000])
@pytest.mark.parametrize("told", [False, True])
def test_a_file_may_come_late(tmp_path: Path, size: int, told: bool) -> None:
    """A head that was sent alone is no body: http.response.pathsend is still right."""
    path = tmp_path / "file"
    path.write_bytes(b"x" * size)

    async def test() -> None:
        headers = [(b"content-length", b"%d" % size)] if told else []
        app = Silent(headers, body={"type": "http.response.pathsend", "path": str(path)})
        bench = Bench2(app)
        await bench.ask(get2(1), window(1, size), window(0, size))
        app.go.set()
        while 1 not in (client := await bench.ask()).ended:
            assert 1 not in client.resets
        assert client.bodies[1] == b"x" * size

    run(test)


def test_a_small_file_may_come_late_over_http1(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"small")

    async def test() -> None:
        app = Silent([], body={"type": "http.response.pathsend", "path": str(path)})
        bench = Bench(app)
        await bench.talk(get())
        app.go.set()
        assert await bench.talk() == b"5\r\nsmall\r\n0\r\n\r\n"

    run(test)


def test_a_refused_websocket_has_its_head_at_once() -> None:
    """The denial response of the ASGI extension is a response like any other."""
    go = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.http.response.start", "status": 401, "headers": []})
        await go.wait()
        await send({"type": "websocket.http.response.body", "body": b"no"})

    async def test() -> None:
        bench = Bench(app)
        assert (await bench.talk(SHAKE)).startswith(b"HTTP/1.1 401 ")
        go.set()
        assert await bench.talk() == b"2\r\nno\r\n0\r\n\r\n"

    run(test)


# --- WSGI


class Stream:
    """A WSGI app whose stream waits for the test before its first piece."""

    def __init__(self, kind: str, late: bool = False) -> None:
        self.kind = kind
        self.late = late  # `start_response` is called when the result is iterated over
        self.go = threading.Event()
        self.refuses = True  # in the loop's own thread there is no waiting

    def __call__(self, environ: Any, start_response: Any) -> Any:
        if self.late:
            return self.pieces(start_response)
        start_response("200 OK", [("Content-Type", self.kind)])
        return self.pieces(None)

    def pieces(self, start_response: Any) -> Any:
        if start_response is not None:
            start_response("200 OK", [("Content-Type", self.kind)])
        if self.refuses:
            assert self.go.wait(10)
        yield b"data: 1\n\n"


@pytest.mark.parametrize("late", [False, True])
def test_a_wsgi_stream_of_events_shows_its_head(late: bool) -> None:
    async def test() -> None:
        app = Stream("text/event-stream", late)
        bench = WsgiBench(app, "threads")
        bench.feed(get())
        head = await bench.sent(b"\r\n\r\n")
        assert head.endswith(b"transfer-encoding: chunked\r\n\r\n")
        app.go.set()
        assert (await bench.sent(b"0\r\n\r\n")).endswith(b"\r\n\r\n9\r\ndata: 1\n\n\r\n0\r\n\r\n")
        await bench.settle()
        bench.close()

    run_wsgi(test)


def test_a_silent_wsgi_stream_of_events_ends_like_any_other() -> None:
    async def test() -> None:
        app = Stream("text/event-stream")
        bench = WsgiBench(app, "threads")
        bench.feed(get())
        await bench.sent(b"\r\n\r\n")
        (exchange,) = bench.server.running
        exchange.end_stream()
        assert bytes(bench.transport.sent).endswith(b"\r\n\r\n0\r\n\r\n")
        app.go.set()
        await bench.settle()
        bench.close()

    run_wsgi(test)


def test_any_other_wsgi_response_waits_for_its_body() -> None:
    """PEP 3333: until then `start_response` may be called again."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/plain")])
        yield b""
        try:
            raise ValueError
        except ValueError as error:
            start_response("500 Oh", [], (ValueError, error, error.__traceback__))
        yield b"no"

    async def test() -> None:
        bench = WsgiBench(app, "threads")
        bench.feed(get())
        assert (await bench.sent(b"no")).startswith(b"HTTP/1.1 500 ")
        await bench.settle()
        bench.close()

    run_wsgi(test)


def test_without_threads_the_head_is_out_before_the_app_is_asked_for_a_piece() -> None:
    """Since that may block the loop."""
    before: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "text/event-stream")])

        def pieces() -> Any:
            before.append(bytes(made["bench"].transport.sent))
            yield b"data: 1\n\n"

        return pieces()

    async def test() -> None:
        bench = made["bench"] = WsgiBench(app, "inline")
        bench.feed(get())
        assert not before  # the transport writes at the end of the turn
        await bench.settle()
        (head,) = before
        assert head.startswith(b"HTTP/1.1 200 ")
        bench.close()

    made: dict[str, WsgiBench] = {}
    run_wsgi(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_the_first_call_of_write_sends_the_head(mode: str) -> None:
    """PEP 3333: "upon the application's first invocation of the write() callable"."""
    seen: list[bytes] = []

    def app(environ: Any, start_response: Any) -> Any:
        write = start_response("200 OK", [("Content-Type", "text/plain")])
        write(b"")
        if mode == "inline":
            seen.append(bytes(made["bench"].transport.sent))
        else:
            assert go.wait(10)
        return [b"late"]

    async def test() -> None:
        bench = made["bench"] = WsgiBench(app, mode)
        bench.feed(get())
        if mode == "threads":
            seen.append(await bench.sent(b"\r\n\r\n"))
            go.set()
        await bench.sent(b"late")
        assert seen[0].endswith(b"transfer-encoding: chunked\r\n\r\n")
        await bench.settle()
        bench.close()

    go = threading.Event()
    made: dict[str, WsgiBench] = {}
    run_wsgi(test)
