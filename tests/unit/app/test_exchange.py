"""Apps that break the contract: each costs one 500 or one connection, and is named in the log."""

import asyncio
import logging
from typing import Any

import pytest

from clusterd.wire.response import HeaderError, add_lines, judge_all
from tests.unit.worker.fakes import Bench, get, hello, run, statuses


def start(status: Any = 200, headers: Any = ()) -> dict[str, Any]:
    return {"type": "http.response.start", "status": status, "headers": headers}


def body(data: Any = b"", more: bool = False) -> dict[str, Any]:
    return {"type": "http.response.body", "body": data, "more_body": more}


LENGTH = [(b"content-length", b"3")]
BROKEN = [
    # messages, status the client gets, closed, what the log names
    ([], 500, True, "returned without an answer"),
    ([start()], 500, True, "returned before the end"),
    ([body(b"x")], 500, True, "before http.response.start"),
    ([start(), start()], 500, True, "sent twice"),
    ([start(), body(b"x"), body(b"y")], 200, False, "after the end"),
    ([start(99)], 500, True, "the status 99"),
    ([start(1000)], 500, True, "the status 1000"),
    ([start(101)], 500, True, "the status 101"),
    ([start("200")], 500, True, "the status '200'"),
    ([start(None)], 500, True, "the status None"),
    ([start([])], 500, True, "the status []"),
    ([start(headers=[("x", "y")])], 500, True, "must be bytes, not str"),
    ([start(headers=[(b"x", 1)])], 500, True, "must be bytes, not bytes and int"),
    ([start(headers=[(b"x",)])], 500, True, "not a pair"),
    ([start(headers=[b"xyz"])], 500, True, "not a pair"),
    ([start(headers=5)], 500, True, "headers are a int"),
    ([start(headers=[(b"x", b"a\r\nSet-Cookie: b")])], 500, True, "control characters"),
    ([start(headers=[(b"x", b"a\nb")])], 500, True, "control characters"),
    ([start(headers=[(b"x", b"a\x00")])], 500, True, "control characters"),
    ([start(headers=[(b"x\r\ny", b"a")])], 500, True, "cannot be a header's name"),
    ([start(headers=[(b"x y", b"a")])], 500, True, "cannot be a header's name"),
    ([start(headers=[(b"", b"a")])], 500, True, "cannot be a header's name"),
    ([start(headers=[(b"x:", b"a")])], 500, True, "cannot be a header's name"),
    ([start(headers=[(b"content-length", b"+3")])], 500, True, "not a number"),
    ([start(headers=LENGTH * 2)], 500, True, "more than one Content-Length"),
    ([start(headers=LENGTH), body(b"abcd")], 500, True, "3, and the body has 4"),
    ([start(headers=LENGTH), body(b"ab")], 500, True, "3, and the body has 2"),
    ([start(headers=LENGTH), body(b"ab", True), body(b"cd", True)], 200, True, "more bytes"),
    ([start(headers=LENGTH), body(b"ab", True), body(b"")], 200, True, "fewer bytes"),
    ([start(), body("text")], 500, True, "the body is a str"),
    ([start(), body(b"a", True)], 200, True, "returned before the end"),
    ([{"type": "websocket.accept"}], 500, True, "'websocket.accept' is not"),
    ([{}], 500, True, "not a dict with a type"),
    ([None], 500, True, "not a dict with a type"),
]


@pytest.mark.parametrize(
    ("messages", "status", "closed", "named"), BROKEN, ids=[str(row[3]) for row in BROKEN]
)
def test_broken_contracts(
    messages: Any, status: int, closed: bool, named: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            for message in messages:
                await send(message)

        bench = Bench(app)
        answer = await bench.talk(get())
        assert statuses(answer)[0] == status
        assert b"Set-Cookie" not in answer
        assert bench.transport.closed is closed or bench.transport.ended
        records = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert len(records) == 1
        assert "broke the ASGI contract" in records[0].getMessage()
        assert named in records[0].getMessage()
        if status == 500:
            assert named.encode() not in answer  # the client learns nothing of it
        other, _ = bench.connect()
        assert not other.closed  # the worker serves on

    run(test)


def test_a_body_longer_than_said_is_not_sent() -> None:
    """What goes out never exceeds Content-Length: it would be read as the next answer."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start(headers=LENGTH))
            await send(body(b"ab", True))
            await send(body(b"cHTTP/1.1 200 OK\r\n"))

        bench = Bench(app)
        answer = await bench.talk(get())
        assert answer.endswith(b"\r\n\r\nab")
        assert bench.transport.aborted

    run(test)


@pytest.mark.parametrize("error", [ValueError("secret"), SystemExit(3), KeyboardInterrupt()])
@pytest.mark.parametrize("waits", [False, True])
def test_an_app_that_fails_costs_one_500(
    error: BaseException, waits: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Logged once, with its traceback; the text stays here."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            if waits:
                await asyncio.sleep(0)
            raise error

        bench = Bench(app)
        answer = await bench.talk(get())
        assert statuses(answer) == [500]
        assert b"secret" not in answer
        assert b"connection: close" in answer
        (record,) = caplog.records
        assert record.exc_info
        assert record.exc_info[1] is error
        assert bench.server.app_errors == 1

    run(test)


def test_cancelling_answers_503() -> None:
    """At the end of a drain: what has not begun to answer says so."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await asyncio.Event().wait()

        bench = Bench(app)
        bench.feed(get())
        await bench.settle()
        assert bench.connection.cancel()
        assert statuses(await bench.talk()) == [503]
        assert not bench.connection.cancel()
        assert not bench.server.tasks

    run(test)


def test_leaving_clients_are_no_errors(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            await receive()
            try:
                await send(start())
            except OSError as error:
                raise RuntimeError("wrapped, as frameworks do") from error

        bench = Bench(app)
        bench.feed(get())
        bench.connection.connection_lost(None)
        await bench.settle()
        assert not caplog.records

    run(test)


def test_two_tasks_may_wait_for_the_client() -> None:
    """One of them cancelled does not take the other along."""

    async def test() -> None:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            first, second = (asyncio.ensure_future(receive()) for _ in range(2))
            await asyncio.sleep(0)
            first.cancel()
            seen.append((await second)["type"])

        bench = Bench(app)
        bench.feed(get())
        await bench.settle()
        bench.connection.connection_lost(None)
        await bench.settle()
        assert seen == ["http.disconnect"]

    run(test)


def test_receive_after_the_answer_is_a_disconnect() -> None:
    async def test() -> None:
        seen: list[str] = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await hello(scope, receive, send)
            seen.append((await receive())["type"])

        await Bench(app).talk(get())
        assert seen == ["http.disconnect"]

    run(test)


def test_an_app_may_be_any_awaitable() -> None:
    """A plain function that returns an awaitable is an app too."""

    async def test() -> None:
        def app(scope: Any, receive: Any, send: Any) -> Any:
            return asyncio.gather(hello(scope, receive, send))

        assert statuses(await Bench(app).talk(get())) == [200]

    run(test)


@pytest.mark.parametrize("pair", [(b"x", b"a\r\nb"), (b"x\n", b"a"), (b"x", b"\x7f")])
def test_nothing_is_injected_by_any_way(pair: Any) -> None:
    """Nor on the second try, when a table might remember."""
    for _ in range(2):
        with pytest.raises(HeaderError):
            add_lines([pair], [])
        with pytest.raises(HeaderError):
            judge_all([list(pair)])


def test_an_app_may_stop_once_its_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    """It was told `http.disconnect`: that its answer has no end is nobody's fault."""

    async def test() -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send(start())
            await send(body(b"data", True))
            while (await receive())["type"] != "http.disconnect":
                pass

        bench = Bench(app)
        await bench.talk(get())
        bench.connection.eof_received()
        await bench.settle()
        assert bench.transport.aborted
        assert bench.server.app_errors == 0

    run(test)
    assert not caplog.records


@pytest.mark.parametrize("streamed", [False, True])
def test_who_listens_meanwhile_hears_the_end(streamed: bool) -> None:
    """`http.disconnect` comes after the answer, also to a `receive` that was begun before it."""

    async def test() -> None:
        heard: list[str] = []

        async def listen(receive: Any) -> None:
            while not heard or heard[-1] != "http.disconnect":
                heard.append((await receive())["type"])

        async def app(scope: Any, receive: Any, send: Any) -> None:
            listening = asyncio.ensure_future(listen(receive))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            await send(start())
            await send(body(b"x", streamed))
            if streamed:
                await send(body())
            await listening

        bench = Bench(app)
        assert statuses(await bench.talk(get())) == [200]
        assert heard == ["http.request", "http.disconnect"]
        assert not bench.server.tasks

    run(test)
