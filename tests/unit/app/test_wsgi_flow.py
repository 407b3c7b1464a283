"""Answers of WSGI apps and slow clients: nothing piles up, nobody waits for who has left."""

import asyncio
import io
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from clusterd.app.threaded import AHEAD
from clusterd.config.serving import WsgiSettings
from tests.unit.app.wsgi_bench import WsgiBench, asked, echo, run
from tests.unit.worker.fakes import get, statuses

Start = Callable[..., Callable[[bytes], None]]
PIECE = b"x" * 16384
WAIT = 10.0  # seconds; a limit, not a wait


class Endless:
    """An app whose answer never ends. It counts what it was asked for."""

    def __init__(self) -> None:
        self.asked = 0
        self.closed = threading.Event()

    def __call__(self, environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [("content-type", environ["QUERY_STRING"] or "text/plain")])
        try:
            while True:
                self.asked += 1
                yield PIECE
        finally:
            self.closed.set()


async def until_stuck(bench: WsgiBench, app: Endless) -> None:
    """Until the client is behind, and the app has gone on as far as it may."""
    while not bench.connection.is_paused:
        await asyncio.sleep(0)
    before = -1
    while app.asked != before:
        before = app.asked
        await bench.loop.run_in_executor(None, threading.Event().wait, 0.05)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_an_app_waits_for_its_client(mode: str) -> None:
    async def test() -> None:
        app = Endless()
        bench = WsgiBench(app, mode)
        bench.transport.stuck = True
        bench.feed(get())
        await until_stuck(bench, app)
        assert bench.transport.unsent + AHEAD < 20 * len(PIECE)
        assert app.asked < 20
        before = app.asked
        bench.transport.drained()
        while app.asked < before + 5:
            await asyncio.sleep(0)
        bench.connection.connection_lost(None)
        await bench.settle()
        assert app.closed.is_set()
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_a_client_that_leaves_ends_a_waiting_app(mode: str) -> None:
    async def test() -> None:
        app = Endless()
        bench = WsgiBench(app, mode)
        bench.transport.stuck = True
        bench.feed(get())
        await until_stuck(bench, app)
        bench.connection.connection_lost(None)
        await bench.settle()
        assert app.closed.is_set()
        assert not bench.server.tasks
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
@pytest.mark.parametrize("header", [("Content-Length", "20000"), ("x", "a\nb")])
def test_an_app_that_broke_its_word_is_not_listened_to_for_ever(
    mode: str, header: tuple[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Endless()

    def lying(environ: Any, start_response: Start) -> Iterator[bytes]:
        return app(environ, lambda status, _headers: start_response(status, [header]))

    _, bench = asked(mode, lying)
    assert app.closed.is_set()
    assert bench.transport.closed
    assert len(caplog.records) == 1


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_a_stream_of_events_ends_cleanly_when_the_worker_leaves(mode: str) -> None:
    async def test() -> None:
        app = Endless()
        bench = WsgiBench(app, mode)
        bench.feed(get("/?text/event-stream"))
        while bench.transport.writes < 3:
            await asyncio.sleep(0)
        for exchange in list(bench.server.running):
            exchange.end_stream()
        await bench.settle()
        assert app.closed.is_set()
        assert bytes(bench.transport.sent).endswith(b"\r\n0\r\n\r\n")
        bench.close()

    run(test)


def test_requests_wait_for_a_thread_and_are_answered() -> None:
    """More connections than threads: one waiting request each, none lost."""

    async def test() -> None:
        go = threading.Event()

        def app(_environ: Any, start_response: Start) -> list[bytes]:
            assert go.wait(WAIT)
            start_response("200 OK", [])
            return [b"done"]

        bench = WsgiBench(app, "threads")
        links = [bench.connect() for _ in range(6)]
        for _, link in links:
            link.data_received(get())
        assert bench.pool is not None
        assert bench.pool.is_full
        assert bench.pool.threads == 2
        assert bench.server.load == bench.server.http.max_connections
        # Whoever asks for more meanwhile is not read.
        links[0][1].data_received(get())
        assert links[0][0].paused
        go.set()
        await bench.settle()
        while len(statuses(bytes(links[0][0].sent))) < 2:  # settle() knows one connection only
            await bench.settle()
        assert [statuses(bytes(transport.sent)) for transport, _ in links] == [
            [200, 200],
            *[[200]] * 5,
        ]
        assert bench.server.load == bench.server.open
        bench.close()

    run(test)


def test_slow_uploads_never_hold_all_threads() -> None:
    """A client that asks for 100 Continue and then sends nothing holds a thread that reads: half
    of them may be held so. Whoever comes then has his body gathered first."""

    async def test() -> None:
        head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
        bench = WsgiBench(echo, "threads", wsgi=WsgiSettings(threads=4))
        links = [bench.connect() for _ in range(6)]
        for transport, link in links:
            link.data_received(head)
            while b"100 Continue" not in transport.sent:
                await asyncio.sleep(0)
        assert bench.pool is not None
        assert bench.pool.busy == 2
        bench.feed(get())
        assert (await bench.sent(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        for _, link in links:
            link.data_received(b"hello")
        await bench.settle()
        assert [transport.sent.endswith(b"\r\n\r\nhello") for transport, _ in links] == [True] * 6
        assert bench.pool.busy == 0
        assert bench.server.app.slow == 0
        bench.close()

    run(test)


def test_who_refuses_an_upload_never_asks_for_it() -> None:
    """100 Continue is sent when the app reads, which it need not (RFC 9110 §10.1.1)."""

    def app(environ: Any, start_response: Start) -> list[bytes]:
        start_response("413 Too much", [])
        return [environ["CONTENT_LENGTH"].encode()]

    head = b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9000000\r\n\r\n"
    answer, bench = asked("threads", app, head)
    assert statuses(answer) == [413]
    assert answer.endswith(b"9000000")
    assert bench.transport.closed or bench.transport.ended
    assert bench.server.app.slow == 0


def test_waiting_for_the_client_is_no_sign_of_death() -> None:
    """Who reads slowly must not have a worker replaced."""

    async def test() -> None:
        app = Endless()
        bench = WsgiBench(app, "threads")
        bench.transport.stuck = True
        bench.feed(get())
        await until_stuck(bench, app)
        assert bench.pool is not None
        assert list(bench.pool.overdue(-1.0)) == []
        bench.connection.connection_lost(None)
        await bench.settle()
        bench.close()

    run(test)


def test_who_left_while_waiting_for_a_thread_costs_no_call() -> None:
    async def test() -> None:
        go = threading.Event()
        calls = []

        def app(environ: Any, start_response: Start) -> list[bytes]:
            calls.append(environ["PATH_INFO"])
            assert go.wait(WAIT)
            start_response("200 OK", [])
            return [b"done"]

        bench = WsgiBench(app, "threads")
        links = [bench.connect()[1] for _ in range(3)]
        for number, link in enumerate(links):
            link.data_received(get(f"/{number}"))
        links[2].connection_lost(None)
        go.set()
        await bench.settle()
        assert sorted(calls) == ["/0", "/1"]
        bench.close()

    run(test)


def test_a_response_that_is_ready_as_its_client_leaves_is_none() -> None:
    """It is not counted as one that was sent."""

    async def test() -> None:
        over = threading.Event()

        class Response:
            """No list, which takes a shorter way."""

            def __iter__(self) -> Iterator[bytes]:
                yield b"done"

            def close(self) -> None:
                over.set()

        def app(environ: Any, start_response: Start) -> Iterable[bytes]:
            start_response("200 OK", [("Content-Length", "4")])
            return Response()

        bench = WsgiBench(app, "threads")
        bench.feed(get())
        assert over.wait(WAIT)  # the loop stands still meanwhile
        bench.connection.connection_lost(None)
        await bench.settle()
        assert not bench.transport.sent
        assert bench.server.answers[2] == 0
        assert not bench.server.tasks
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
@pytest.mark.parametrize(
    ("headers", "skip", "method"),
    [
        ([], 0, "GET"),
        ([("Content-Length", "100000")], 0, "GET"),
        ([("Content-Length", "99990")], 10, "GET"),
        ([], 10, "GET"),
        ([("Content-Length", "100000")], 0, "HEAD"),
    ],
)
def test_a_file_is_sent_and_closed(
    mode: str, headers: Any, skip: int, method: str, tmp_path: Path
) -> None:
    """From where it stands; here over TLS, where it has to be read."""
    data = bytes(range(250)) * 400
    (tmp_path / "file").write_bytes(data)
    files = []

    def app(environ: Any, start_response: Start) -> Any:
        file = (tmp_path / "file").open("rb")
        file.seek(skip)
        files.append(file)
        start_response("200 OK", headers)
        return environ["wsgi.file_wrapper"](file, 4096)

    answer, bench = asked(mode, app, get(method=method) * 2, secure=True)
    length = b"content-length: %d\r\n\r\n" % (len(data) - skip)
    assert answer.count(length) == 2
    assert answer.count(data[skip:]) == (2 if method == "GET" else 0)
    assert [file.closed for file in files] == [True, True]
    assert not bench.transport.closed
    assert not bench.server.tasks


def test_a_file_for_who_has_left_is_closed(tmp_path: Path) -> None:
    async def test() -> None:
        (tmp_path / "file").write_bytes(b"abc")
        began, left = threading.Event(), threading.Event()
        files = []

        def app(environ: Any, start_response: Start) -> Any:
            began.set()
            assert left.wait(WAIT)
            start_response("200 OK", [])
            files.append((tmp_path / "file").open("rb"))
            return environ["wsgi.file_wrapper"](files[0])

        bench = WsgiBench(app, "threads")
        bench.feed(get())
        assert began.wait(WAIT)
        bench.connection.connection_lost(None)
        left.set()
        await bench.settle()
        assert files[0].closed
        assert not bench.transport.sent
        assert not bench.server.tasks
        bench.close()

    run(test)


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_what_only_looks_like_a_file_is_read(mode: str) -> None:
    class Source(io.BytesIO):
        pass

    source = Source(b"abc" * 1000)

    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [("Content-Length", "3000")])
        return environ["wsgi.file_wrapper"](source, 100)

    answer, bench = asked(mode, app)
    assert answer.endswith(b"\r\n\r\n" + b"abc" * 1000)
    assert source.closed
    assert not bench.transport.closed


@pytest.mark.parametrize("mode", ["inline", "threads"])
def test_a_file_that_is_shorter_than_was_told(
    mode: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_bytes(b"abc")

    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [("Content-Length", "10")])
        return environ["wsgi.file_wrapper"]((tmp_path / "file").open("rb"))

    _, bench = asked(mode, app)
    assert bench.transport.closed
    assert "fewer bytes than its Content-Length" in caplog.records[0].getMessage()
    assert not bench.server.tasks
