"""An app's nonsense costs one answer or one connection, tells its client nothing, and breaks
nothing else; and clients get what they can understand, whatever the app does."""

import asyncio
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.worker.fakes import Bench, get, hello, run, status_of
from tests.unit.worker.nonsense import (
    CANCELLED,
    CLOSED,
    CUT,
    END,
    PIECE,
    SECRET,
    START,
    TABLE,
    WHOLE,
    body,
    sending,
    start,
)


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Hundreds of tracebacks are of no use here."""
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


def is_whole(answer: bytes) -> bool:
    """Whether an answer to GET ends where its head says."""
    head, _, rest = answer.partition(b"\r\n\r\n")
    lower = head.lower()
    if b"transfer-encoding: chunked" in lower:
        return rest.endswith(b"0\r\n\r\n") and rest.count(b"0\r\n\r\n") == 1
    if b"content-length: " in lower:
        return len(rest) == int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
    return not rest and status_of(answer) in (204, 304)


def judge(answer: bytes, bench: Bench, wanted: str) -> None:
    assert SECRET.encode() not in answer
    assert b"Traceback" not in answer
    assert answer.startswith(b"HTTP/1.1 ")
    assert answer.count(b"HTTP/1.1 ") == 1
    if wanted in (WHOLE, CLOSED):
        assert status_of(answer) in (200, 204, 304)
        assert is_whole(answer)
        assert bench.transport.closed == (wanted == CLOSED)
    elif wanted == CUT:
        assert status_of(answer) == 200
        assert not is_whole(answer)
        assert bench.transport.aborted
    else:
        assert status_of(answer) == int(wanted)
        assert is_whole(answer)
        assert b"connection: close\r\n" in answer
        assert bench.transport.closed


@pytest.mark.parametrize("name", TABLE)
def test_nonsense_costs_one_answer_or_one_connection(name: str) -> None:
    app, wanted = TABLE[name]

    async def test() -> None:
        bench = Bench(app)
        answer = await bench.talk(get())
        judge(answer, bench, wanted)
        assert not bench.server.running
        if wanted == WHOLE:
            assert bench.connection.idle
        else:
            assert bench.server.app_errors == (wanted != CANCELLED)
        bench.connection.connection_lost(None)
        await bench.settle()
        assert not bench.server.tasks

    run(test)


@pytest.mark.parametrize("name", TABLE)
def test_it_is_the_same_for_an_app_that_has_waited(name: str) -> None:
    """In a task of its own, after the turn in which the request came."""
    app, wanted = TABLE[name]

    async def later(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0)
        await app(scope, receive, send)

    async def test() -> None:
        bench = Bench(later)
        bench.feed(get())
        for _ in range(3):
            await bench.settle()
        judge(bytes(bench.transport.sent), bench, wanted)
        assert not bench.server.running
        assert not bench.server.tasks

    run(test)


def test_the_next_request_of_a_pipeline_is_not_answered_after_a_failure() -> None:
    """What follows a 500 or a cut answer has no place to go: the connection is over."""

    async def test() -> None:
        for messages in ([], [START, PIECE]):
            bench = Bench(sending(*messages))
            answer = await bench.talk(get() * 3)
            assert answer.count(b"HTTP/1.1 ") == 1
            assert bench.transport.closed or bench.transport.ended

    run(test)


FORMS = {
    "whole": sending(START, body(b"hello")),
    "streamed": sending(START, body(b"hel", True), body(b"lo")),
    "streamed with a length": sending(
        start(200, [(b"content-length", b"5")]), body(b"hel", True), body(b"lo")
    ),
    "empty": sending(START, END),
    "asking for its body": None,
}


async def reading(scope: Any, receive: Any, send: Any) -> None:
    while (await receive()).get("more_body"):
        pass
    await hello(scope, receive, send)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("keep", [True, False])
def test_http_1_0_gets_neither_chunks_nor_100_continue(form: str, keep: bool) -> None:
    """RFC 9112 §6.1, RFC 9110 §15.2: it would not understand them."""

    async def test() -> None:
        bench = Bench(FORMS[form] or reading)
        options = ["Connection: keep-alive"] if keep else []
        head = get("/", "Expect: 100-continue", "Content-Length: 3", *options, version="1.0")
        answer = await bench.talk(head.replace(b"GET", b"POST"), b"abc")
        lower = answer.lower()
        assert status_of(answer) == 200
        assert b"chunked" not in lower
        assert b"100 continue" not in lower
        assert lower.endswith(b"hello") or form == "empty"
        if not (bench.transport.closed or bench.transport.ended):
            assert keep
            assert b"connection: keep-alive\r\n" in lower
            assert b"content-length: " in lower

    run(test)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
def test_what_has_no_body_is_sent_without_one(form: str, method: str, status: int) -> None:
    """RFC 9110 §9.3.2, §15.3.5, §15.4.5, whatever the app sends."""
    inner = FORMS[form] or reading

    async def app(scope: Any, receive: Any, send: Any) -> None:
        async def instead(message: Any) -> None:
            if "status" in message:
                message = {**message, "status": status}
            await send(message)

        await inner(scope, receive, instead)

    async def test() -> None:
        bench = Bench(app)
        request = get(method=method)
        answers = await bench.talk(request + request)
        first, second, rest = answers.split(b"\r\n\r\n")
        assert rest == b""
        assert status_of(first) == status_of(second) == status
        if status == 204:
            assert b"content-length" not in first
        assert b"transfer-encoding" not in first
        assert not bench.transport.closed

    run(test)


def test_what_was_answered_before_excuses_nothing() -> None:
    """Heads are kept for the next answer like this one: one that only looks alike is not."""

    async def test() -> None:
        pair = (b"a", b"b")
        for odd in (start(200.0, [pair]), start(200, [(b"a", "b")]), start(200, [(b"a", b"b\n")])):
            turns = iter((start(200, [pair]), odd))

            async def app(scope: Any, receive: Any, send: Any, turns: Any = turns) -> None:
                await sending(next(turns), body(b"x"))(scope, receive, send)

            bench = Bench(app)
            assert [status_of(await bench.talk(get())) for _ in range(2)] == [200, 500]

    run(test)


def test_headers_may_come_from_a_generator() -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            headers = ((name, b"x") for name in (b"first", b"second"))
            await sending(start(200, headers), body(b"x"))(scope, receive, send)

        bench = Bench(app)
        for _ in range(2):
            answer = await bench.talk(get())
            assert b"\r\nfirst: x\r\nsecond: x\r\n" in answer

    run(test)


def test_an_answer_nobody_waits_for_costs_nothing_more() -> None:
    """The client leaves an app that never answers: the app is told, and its task may end."""

    async def test() -> None:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            while True:
                seen.append((await receive())["type"])
                if seen[-1] == "http.disconnect":
                    return

        bench = Bench(app)
        await bench.talk(get())
        bench.connection.connection_lost(None)
        await bench.settle()
        assert seen == ["http.request", "http.disconnect"]
        assert not bench.server.tasks
        assert not bench.server.running

    run(test)
