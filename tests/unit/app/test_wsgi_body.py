"""What a WSGI app reads and what it is told, called in a thread and in the loop's own."""

import asyncio
import contextvars
import logging
import tempfile
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.validate import validator

import pytest

from clusterd.app.spool import MEMORY
from clusterd.config.serving import WsgiSettings
from clusterd.kernel import disk
from tests.support.spools import count_files_without_name, fill_disk
from tests.unit.app.wsgi_bench import THREADS, WsgiBench, asked, body_of, echo, hello, run
from tests.unit.worker.fakes import CHUNKED, POST, get, status_of, statuses

pytestmark = pytest.mark.parametrize("mode", ["inline", "threads"])
Start = Callable[..., Callable[[bytes], None]]
CHUNKS = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
LARGE_CHUNK = b"80000\r\n" + bytes(0x80000) + b"\r\n"


# --- the request's body


@pytest.mark.parametrize("request_", [POST, CHUNKED])
@pytest.mark.parametrize("cut", [0, 10, -4, -1])
def test_the_body_is_read(mode: str, request_: bytes, cut: int) -> None:
    pieces = [request_[:cut], request_[cut:]] if cut else [request_]
    answer, bench = asked(mode, echo, *pieces)
    assert body_of(answer) == (b"hello" if request_ is POST else b"abc")
    assert not bench.transport.closed


@pytest.mark.parametrize("size", [100_000, 3_000_000])
def test_a_large_body_is_read(mode: str, size: int) -> None:
    """What does not fit memory goes to disk."""
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % size
    data = bytes(range(256)) * (size // 256 + 1)
    pieces = [data[at : min(at + 65536, size)] for at in range(0, size, 65536)]
    answer, bench = asked(mode, echo, head, *pieces)
    assert body_of(answer) == data[:size]
    assert not bench.transport.closed


def test_lines_of_the_body(mode: str) -> None:
    body = b"one\ntwo\nthree"

    def app(environ: Any, start_response: Start) -> list[bytes]:
        file = environ["wsgi.input"]
        start_response("200 OK", [])
        lines = [file.read(1), file.readline(), *file.readlines(), file.read(), file.readline()]
        return [b"|".join(lines)]

    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(body)
    answer, _ = asked(mode, app, head, body[:5], body[5:])
    assert body_of(answer) == b"o|ne\n|two\n|three||"


def test_an_app_that_reads_nothing(mode: str) -> None:
    """The rest is read so that the connection can be kept."""
    answer, bench = asked(mode, hello, POST[:-5], b"hello", get())
    assert statuses(answer) == [200, 200]
    assert not bench.transport.closed


def test_continue_is_sent_when_it_is_needed(mode: str) -> None:
    """At the first read where reading waits; at once where the whole body is gathered first."""

    async def test() -> None:
        bench = WsgiBench(echo, mode)
        request = POST.replace(b"Content", b"Expect: 100-continue\r\nContent")
        bench.feed(request[:-5])
        sent = await bench.sent(b"\r\n\r\n")
        assert sent == b"HTTP/1.1 100 Continue\r\n\r\n"
        bench.transport.sent.clear()
        assert body_of(await bench.talk(b"hello")) == b"hello"
        bench.close()

    run(test)


@pytest.mark.parametrize("room", [1, 2 * MEMORY])
def test_a_full_disk_costs_one_request(
    mode: str,
    room: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Nothing of it is the app's fault, which is not called."""
    fill_disk(monkeypatch, tmp_path, room)
    before = count_files_without_name()
    answer, bench = asked(mode, echo, CHUNKS, *[LARGE_CHUNK] * 6)
    assert_refused(bench, answer, 507)
    (record,) = caplog.records
    assert f"put on disk, in {tmp_path}: [Errno 28] No space left" in record.getMessage()
    assert "TMPDIR" in record.getMessage()
    assert "spool_budget" in record.getMessage()
    assert bench.server.memory.held == 0
    assert count_files_without_name() == before


def test_a_disk_that_is_full_for_the_last_bytes_is_noticed_before_the_app_begins(
    mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    fill_disk(monkeypatch, tmp_path, 2 * MEMORY)
    before = count_files_without_name()
    rest = [b"10\r\n" + bytes(0x10) + b"\r\n", b"0\r\n\r\n"]
    answer, bench = asked(mode, echo, CHUNKS, *[LARGE_CHUNK] * 4, *rest)
    assert_refused(bench, answer, 507)
    assert "No space left" in caplog.text
    assert count_files_without_name() == before


def test_where_no_directory_takes_files_it_is_not_the_clients_fault(
    mode: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    nowhere = str(tmp_path / "none")
    monkeypatch.setattr(tempfile, "tempdir", nowhere)
    answer, bench = asked(mode, echo, CHUNKS, *[LARGE_CHUNK] * 3)
    assert_refused(bench, answer, 503)
    (record,) = caplog.records
    assert f"could not be put on disk, in {nowhere}" in record.getMessage()


@pytest.mark.parametrize(
    ("others", "status"), [(0, 413), (MEMORY, 503)], ids=["too large by itself", "beside others"]
)
def test_beyond_the_budget_for_disk_a_body_is_refused(
    mode: str,
    others: int,
    status: int,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)
    before = count_files_without_name()
    budget = 2 * MEMORY if not others else 4 * MEMORY
    wsgi = WsgiSettings(threads=THREADS[mode], spool_budget=budget)
    result: list[Any] = []

    async def test() -> None:
        bench = WsgiBench(echo, mode, wsgi=wsgi)
        spools = bench.server.spools
        assert spools is not None
        spools.held += budget - 2 * MEMORY if others else 0
        held = spools.held
        result[:] = [await bench.talk(CHUNKS, *[LARGE_CHUNK] * 5), bench]
        assert spools.held == held
        bench.close()

    run(test)
    assert_refused(result[1], result[0], status)
    assert "spool_budget" in caplog.text
    assert count_files_without_name() == before


def assert_refused(bench: WsgiBench, answer: bytes, status: int) -> None:
    """Check that a request was refused, the connection ended, and the application not blamed."""
    assert statuses(answer) == [status]
    assert bench.transport.closed or bench.transport.ended
    assert bench.server.app_errors == 0
    assert not bench.server.tasks


def test_half_a_body_is_no_request(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    """The client closed its side before the body was complete."""

    async def test() -> None:
        bench = WsgiBench(echo, mode)
        bench.feed(POST[:-2])
        await asyncio.sleep(0)
        bench.connection.eof_received()
        await bench.settle()
        assert status_of(bytes(bench.transport.sent)) == 400
        assert not bench.server.tasks
        assert not caplog.records
        bench.close()

    run(test)


def test_a_body_in_chunks_has_a_length_for_the_app(mode: str) -> None:
    """Django takes a body without CONTENT_LENGTH for empty: so the app begins when it is known."""
    told: list[tuple[Any, bool]] = []

    def app(environ: Any, start_response: Start) -> list[bytes]:
        told.append((environ.get("CONTENT_LENGTH"), "HTTP_TRANSFER_ENCODING" in environ))
        return echo(environ, start_response)

    head = CHUNKED[:-13]
    large = b"180000\r\n" + b"x" * 0x180000 + b"\r\n"
    asked(mode, app, CHUNKED)
    asked(mode, app, CHUNKED[:-5], CHUNKED[-5:])
    answer, _ = asked(mode, app, head, large, large, b"0\r\n\r\n")
    assert told == [("3", False), ("3", False), (str(0x300000), False)]
    assert len(body_of(answer)) == 0x300000


# --- the rest


def test_the_validator_has_nothing_to_say(mode: str) -> None:
    @validator
    def app(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read(100)
        environ["wsgi.errors"].write("fine\n")
        start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "5")])
        return [body or b"12345"]

    answer, _ = asked(mode, app, get("/p%20q?x=y"), POST)
    assert statuses(answer) == [200, 200]


def test_errors_go_to_the_log(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Start) -> list[bytes]:
        print("a", "b", file=environ["wsgi.errors"])
        environ["wsgi.errors"].writelines(["c\nd", "e\n", "f"])
        environ["wsgi.errors"].flush()
        start_response("200 OK", [])
        return []

    caplog.set_level(logging.INFO)
    asked(mode, app)
    assert [record.getMessage() for record in caplog.records] == ["a b", "c", "de", "f"]


def test_errors_are_joined_to_their_request(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        print("before", file=environ["wsgi.errors"])
        start_response("200 OK", [])
        yield b"a"
        try:
            raise KeyError("shop")
        except KeyError:
            environ["wsgi.errors"].write(f"ERROR in app\n{traceback.format_exc()}")

    caplog.set_level(logging.INFO)
    asked(mode, app, get("/a?b", "X-Request-ID: abc-1"))
    line, failure = caplog.records
    wanted = {"method": "GET", "path": "/a", "request_id": "abc-1"}
    assert line.__dict__["fields"] == failure.__dict__["fields"] == wanted
    assert failure.getMessage() == "ERROR in app"
    assert failure.__dict__["block"].endswith("KeyError: 'shop'")


def test_what_is_written_outside_of_a_request_is_logged_too(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    kept: list[Any] = []

    def app(environ: Any, start_response: Start) -> list[bytes]:
        kept.append(environ["wsgi.errors"])
        start_response("200 OK", [])
        return []

    caplog.set_level(logging.INFO)
    asked(mode, app)
    kept[0].write("later\n")
    (record,) = caplog.records
    assert (record.getMessage(), record.__dict__["fields"]) == ("later", {})


def test_requests_do_not_share_context(mode: str) -> None:
    seen = []
    mark: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")

    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        seen.append(mark.get())
        mark.set("dirty")
        yield b"a"
        seen.append(mark.get())
        yield b"b"

    asked(mode, app, get() + get())
    assert seen == ["clean", "dirty"] * 2


def test_out_of_time_a_request_is_answered_503(mode: str) -> None:
    """The graceful timeout is over: the client is told, even where a thread is stuck."""

    async def test() -> None:
        go = threading.Event()

        def app(environ: Any, start_response: Start) -> Any:
            if mode == "threads":
                go.wait(10)
            start_response("200 OK", [])
            return [b"late"]

        bench = WsgiBench(app, mode)
        bench.feed(POST[:-1] if mode == "inline" else get())
        assert bench.connection.cancel()
        assert status_of(bytes(bench.transport.sent)) == 503
        go.set()
        await bench.settle()
        assert statuses(bytes(bench.transport.sent)) == [503]
        assert not bench.server.tasks
        bench.close()

    run(test)


def test_threads_are_told_truly(mode: str) -> None:
    told: dict[str, Any] = {}

    def app(environ: Any, start_response: Start) -> list[bytes]:
        told.update(environ)
        start_response("200 OK", [])
        return []

    asked(mode, app)
    assert told["wsgi.multithread"] is (mode == "threads")
    assert told["wsgi.multiprocess"] is True
    assert told["wsgi.run_once"] is False
