"""PEP 3333, rule by rule, called in a thread and in the loop's own."""

import asyncio
import logging
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.unit.app.wsgi_bench import WsgiBench, asked, body_of, hello, run
from tests.unit.worker.fakes import get, status_of, statuses

pytestmark = pytest.mark.parametrize("mode", ["inline", "threads"])
Start = Callable[..., Callable[[bytes], None]]


def answering(
    *pieces: Any, headers: Any = (), status: Any = "200 OK", stream: bool = True
) -> Callable[..., Any]:
    """An app that answers with these pieces, from a generator."""

    def app(environ: Any, start_response: Start) -> Any:
        start_response(status, list(headers))
        return iter(pieces) if stream else list(pieces)

    return app


# --- whole answers and streams


def test_a_list_is_one_write(mode: str) -> None:
    answer, bench = asked(mode, hello)
    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
    assert b"content-length: 5\r\n" in answer
    assert b"Content-Type: text/plain\r\n" in answer
    assert answer.endswith(b"\r\n\r\nhello")
    assert bench.transport.writes == 1
    assert not bench.transport.closed
    assert not bench.server.tasks
    assert not bench.server.running


def test_requests_of_a_connection_are_answered_in_order(mode: str) -> None:
    def app(environ: Any, start_response: Start) -> list[bytes]:
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    answer, _ = asked(mode, app, get("/a") + get("/b") + get("/c"))
    assert [part[:2] for part in answer.split(b"\r\n\r\n")[1:]] == [b"/a", b"/b", b"/c"]


@pytest.mark.parametrize(
    ("pieces", "headers", "body"),
    [
        ([b"ab", b"", b"cd"], [], b"abcd"),
        ([b"ab", b"cd"], [("Content-Length", "4")], b"abcd"),
        ([b"abcd"], [("Content-Length", "4")], b"abcd"),
        ([b"abcd", b""], [("Content-Length", "4")], b"abcd"),
        ([], [], b""),
        ([b""], [], b""),
    ],
)
@pytest.mark.parametrize("stream", [True, False])
def test_pieces(mode: str, pieces: Any, headers: Any, body: bytes, stream: bool) -> None:
    answer, bench = asked(mode, answering(*pieces, headers=headers, stream=stream), get() + get())
    assert statuses(answer) == [200, 200]
    half = answer[: len(answer) // 2]
    assert body_of(half) == body
    assert not bench.transport.closed


def test_each_piece_is_sent_before_the_next_is_asked_for(mode: str) -> None:
    """PEP 3333, Buffering and Streaming: no delay."""

    async def test() -> None:
        go = threading.Event()

        async def let_go() -> None:
            await bench.sent(b"first")
            go.set()

        def app(environ: Any, start_response: Start) -> Iterator[bytes]:
            start_response("200 OK", [])
            yield b"first"
            if mode == "threads":
                assert go.wait(10)
            else:
                assert b"first" in bench.transport.sent
            yield b"second"

        bench = WsgiBench(app, mode)
        waiting = asyncio.ensure_future(let_go())
        bench.feed(get())
        await waiting
        await bench.settle()
        assert body_of(bytes(bench.transport.sent)) == b"firstsecond"
        bench.close()

    run(test)


def test_write_comes_before_what_is_returned(mode: str) -> None:
    def app(environ: Any, start_response: Start) -> list[bytes]:
        write = start_response("200 OK", [])
        write(b"one ")
        write(b"")
        write(b"two ")
        return [b"three"]

    answer, bench = asked(mode, app)
    assert body_of(answer) == b"one two three"
    assert not bench.transport.closed


def test_an_old_client_gets_no_chunks(mode: str) -> None:
    answer, bench = asked(mode, answering(b"ab", b"cd"), get(version="1.0"))
    assert answer.endswith(b"\r\n\r\nabcd")
    assert bench.transport.closed


# --- HEAD


@pytest.mark.parametrize(
    ("headers", "stream", "length"),
    [
        ([("Content-Length", "4")], True, b"content-length: 4"),
        ([], False, b"content-length: 4"),
        ([], True, None),
    ],
)
def test_head_has_no_body(mode: str, headers: Any, stream: bool, length: bytes | None) -> None:
    app = answering(b"ab", b"cd", headers=headers, stream=stream)
    answer, bench = asked(mode, app, get(method="HEAD"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert body == b""
    assert status_of(answer) == 200
    assert (length or b"HTTP") in head
    assert length is not None or b"content-length" not in head
    assert not bench.transport.closed


def test_head_of_an_endless_answer_ends(mode: str) -> None:
    closed = []

    def app(environ: Any, start_response: Start) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                yield b"more"
        finally:
            closed.append(True)

    answer, _ = asked(mode, app, get(method="HEAD"))
    assert status_of(answer) == 200
    assert closed == [True]


# --- what an app may do wrong


LENGTH = [("Content-Length", "3")]
BROKEN = [
    # app, status the client gets, closed, what the log names
    (answering("text"), 500, True, "is a str, not bytes"),
    (answering("text", stream=False), 500, True, "is a str, not bytes"),
    (answering(None), 500, True, "is a NoneType, not bytes"),
    (answering(b"x", status="99 No"), 500, True, "the status '99 No'"),
    (answering(b"x", status="101 Switching Protocols"), 500, True, "the status '101"),
    (answering(b"x", status=200), 500, True, "the status 200"),
    (answering(b"x", status="200 OK\r\nX: y"), 500, True, "the status '200 OK"),
    (answering(b"x", headers=[("x", "a\r\nb: c")]), 500, True, "control characters"),
    (answering(b"x", headers=[("x y", "a")]), 500, True, "cannot be a header's name"),
    (answering(b"x", headers=[("x", 1)]), 500, True, "not a pair"),
    (answering(b"x", headers=[("x", "\u20ac")]), 500, True, "latin-1"),
    (answering(b"x", headers=[("x",)]), 500, True, "not a pair"),
    (answering(b"x", headers=[["x", 5]]), 500, True, "not a pair"),
    (answering(b"abcd", headers=LENGTH, stream=False), 500, True, "3, and the body has 4"),
    (answering(b"ab", headers=LENGTH, stream=False), 500, True, "3, and the body has 2"),
    (answering(b"abc", headers=LENGTH * 2, stream=False), 500, True, "more than one"),
    (answering(b"ab", b"cd", headers=LENGTH), 200, True, "Content-Length"),
    (answering(b"a", b"b", headers=LENGTH), 200, True, "Content-Length"),
    (lambda _environ, _start_response: [b"x"], 500, True, "start_response was not called"),
    (lambda _environ, _start_response: iter([b"x"]), 500, True, "start_response was"),
    (lambda _environ, _start_response: None, 500, True, "TypeError"),
]


@pytest.mark.parametrize(("app", "status", "closed", "named"), BROKEN)
def test_broken_contracts(
    mode: str,
    app: Any,
    status: int,
    closed: bool,
    named: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answer, bench = asked(mode, app)
    (record,) = [record for record in caplog.records if record.levelno >= logging.ERROR]
    assert named in record.getMessage()
    # In threads, pieces that were gathered before the first was sent make a whole answer.
    assert status_of(answer) in (status, 500)
    assert bench.transport.closed is closed or bench.transport.ended
    assert b"b: c" not in answer
    assert not bench.server.tasks


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("begun", [False, True])
def test_an_app_that_fails_costs_one_request(
    mode: str, error: BaseException, begun: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def app(environ: Any, start_response: Start) -> Any:
        if begun:
            start_response("200 OK", [])(b"begun")
        raise error

    answer, bench = asked(mode, app)
    assert status_of(answer) == (200 if begun else 500)
    assert b"secret" not in answer
    assert not answer.endswith(b"0\r\n\r\n")  # it does not pass for complete
    assert bench.transport.closed or bench.transport.ended
    (record,) = caplog.records
    assert record.exc_info
    assert record.exc_info[1] is error
    assert bench.server.app_errors == 1


# --- start_response


def test_start_response_twice_needs_exc_info(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [])
        start_response("404 Not Found", [])

    answer, _ = asked(mode, app)
    assert status_of(answer) == 500
    assert "twice" in caplog.records[0].getMessage()


def test_exc_info_replaces_a_head_that_was_not_sent(mode: str) -> None:
    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [("x-first", "1")])
        try:
            raise ValueError
        except ValueError:
            start_response("503 Sorry", [("x-second", "2")], sys.exc_info())
        return [b"sorry"]

    answer, _ = asked(mode, app)
    assert status_of(answer) == 503
    assert b"x-second: 2" in answer
    assert b"x-first" not in answer


def test_exc_info_is_raised_once_the_head_is_sent(mode: str) -> None:
    raised: list[BaseException] = []

    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [])(b"begun")
        try:
            raise ValueError("mine")
        except ValueError:
            try:
                start_response("500 Oh", [], sys.exc_info())
            except ValueError as error:
                raised.append(error)
                raise

    answer, _ = asked(mode, app)
    assert status_of(answer) == 200
    assert [str(error) for error in raised] == ["mine"]


@pytest.mark.parametrize(
    "header",
    [
        ("Connection", "keep-alive"),
        ("Keep-Alive", "timeout=5"),
        ("Transfer-Encoding", "chunked"),
        ("TE", "trailers"),
        ("Trailer", "x"),
        ("Upgrade", "h2c"),
    ],
)
def test_hop_by_hop_headers_are_the_servers(mode: str, header: tuple[str, str]) -> None:
    answer, _ = asked(mode, answering(b"x", headers=[header], stream=False))
    assert status_of(answer) == 200
    assert b"\r\n%b: " % header[0].lower().encode() not in answer.lower()
    assert body_of(answer) == b"x"


def test_connection_close_is_obeyed(mode: str) -> None:
    app = answering(b"x", headers=[("Connection", "close")], stream=False)
    answer, bench = asked(mode, app)
    assert b"connection: close\r\n" in answer
    assert bench.transport.closed


def test_header_pairs_may_be_lists(mode: str) -> None:
    answer, _ = asked(mode, answering(b"x", headers=[["X-A", "b"]], stream=False))
    assert b"X-A: b\r\n" in answer


# --- close()


class Closing:
    """An answer that says when it was closed, and on which thread."""

    def __init__(self, *pieces: bytes, fails: bool = False) -> None:
        self.pieces = pieces
        self.fails = fails
        self.closed: list[int] = []

    def __iter__(self) -> Iterator[bytes]:
        yield from self.pieces
        if self.fails:
            raise ValueError("half-way")

    def close(self) -> None:
        self.closed.append(threading.get_ident())


@pytest.mark.parametrize("fails", [False, True])
def test_close_is_called_once(mode: str, fails: bool) -> None:
    result = Closing(b"ab", b"cd", fails=fails)

    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [])
        return result

    asked(mode, app)
    assert len(result.closed) == 1
    assert (result.closed[0] == threading.get_ident()) is (mode == "inline")


def test_a_close_that_fails_costs_nothing(mode: str, caplog: pytest.LogCaptureFixture) -> None:
    class Bad(Closing):
        def close(self) -> None:
            raise ValueError("too late")

    def app(environ: Any, start_response: Start) -> Any:
        start_response("200 OK", [])
        return Bad(b"fine")

    answer, bench = asked(mode, app, get() + get())
    assert statuses(answer) == [200, 200]
    assert not bench.transport.closed
    assert len(caplog.records) == 2


def test_close_is_called_when_the_client_has_left(
    mode: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The app is stopped at its next piece, which is not worth a line in the log."""

    async def test() -> None:
        result = Closing(*[b"x" * 1000] * 1000)
        began, left = threading.Event(), threading.Event()

        def app(environ: Any, start_response: Start) -> Any:
            start_response("200 OK", [])
            began.set()
            if mode == "threads":
                assert left.wait(10)
            return result

        bench = WsgiBench(app, mode)
        bench.transport.stuck = True
        bench.feed(get())
        assert began.wait(10)
        bench.connection.connection_lost(None)
        left.set()
        await bench.settle()
        assert len(result.closed) == 1
        assert not bench.server.running
        assert not bench.server.tasks
        assert not caplog.records
        bench.close()

    run(test)
