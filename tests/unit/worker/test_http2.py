"""HTTP/2 connections: answers, bodies, windows, deadlines, floods, and that one stream's trouble
is no other's."""

from typing import Any

import pytest
from h2.errors import ErrorCodes
from hpack import Encoder

from clusterd.config.serving import HttpSettings, ProxySettings
from clusterd.config.settings import Config
from tests.support import http2 as frames
from tests.support.http2 import get, post
from tests.unit.worker.fakes import Held, echo, hello, run
from tests.unit.worker.fakes_http2 import Bench2


def http(**settings: Any) -> HttpSettings:
    return HttpSettings(**settings)


# --- requests and answers


def test_requests_of_one_turn_are_answered_with_one_write() -> None:
    async def test() -> None:
        bench = Bench2(hello)
        before = bench.transport.writes
        client = await bench.ask(get(1) + get(3) + get(5))
        assert [client.status(stream) for stream in (1, 3, 5)] == [200] * 3
        assert client.bodies == dict.fromkeys((1, 3, 5), b"hello")
        assert client.ended == {1, 3, 5}
        assert bench.transport.writes - before == 1
        head = dict(client.heads[1][0])
        assert head[b"content-length"] == b"5"
        assert head[b"server"] == b"clusterd"
        assert b"GMT" in head[b"date"]
        assert not bench.link.streams
        assert bench.link.idle

    run(test)


def test_the_scope() -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app, root="x")
        await bench.ask(get(1, "/a%20b?c", ("te", "trailers")))
        (scope,) = app.scopes
        assert scope["http_version"] == "2"
        assert scope["method"] == "GET"
        assert (scope["path"], scope["raw_path"], scope["query_string"]) == (
            "/a b",
            b"/a%20b",
            b"c",
        )
        assert scope["scheme"] == "http"
        assert scope["headers"] == [(b"host", b"a"), (b"te", b"trailers")]
        assert scope["client"] == ("192.0.2.1", 50000)
        assert scope["state"] == {"root": "x"}
        assert "http.response.zerocopysend" not in scope["extensions"]
        app.go.set()
        await bench.settle()

    run(test)


def test_what_proxies_tell_is_taken_from_proxies_alone() -> None:
    """The whole policy holds on HTTP/2, too; `:scheme` is never believed."""
    told = (("x-forwarded-for", "203.0.113.9"), ("x-forwarded-proto", "https"))
    secure = frames.block(
        (":method", "GET"), (":scheme", "https"), (":authority", "a"), (":path", "/"), *told
    )

    async def test() -> None:
        app = Held()
        app.go.set()
        bench = Bench2(app)
        await bench.ask(frames.frame(frames.HEADERS, 5, 1, secure))
        assert app.scopes[0]["client"][0] == "192.0.2.1"
        assert app.scopes[0]["scheme"] == "http"
        assert app.scopes[0]["headers"] == [(b"host", b"a")]
        proxy = ProxySettings(trusted_proxies=("192.0.2.0/24",))
        bench = Bench2(app, config=Config(proxy=proxy))
        await bench.ask(frames.frame(frames.HEADERS, 5, 1, secure))
        assert app.scopes[1]["client"][0] == "203.0.113.9"
        assert app.scopes[1]["scheme"] == "https"

    run(test)


def test_a_body_reaches_the_app() -> None:
    async def test() -> None:
        bench = Bench2(echo)
        client = await bench.ask(post(1), frames.data(1, b"ab"), frames.data(1, b"c", end=True))
        assert client.bodies[1] == b"POST / abc"
        assert not bench.link.streams

    run(test)


def test_100_continue_is_sent_when_the_app_asks_for_the_body() -> None:
    async def test() -> None:
        bench = Bench2(echo)
        client = await bench.ask(post(1, ("expect", "100-continue"), ("content-length", "2")))
        assert client.heads[1] == [[(b":status", b"100")]]
        client = await bench.ask(frames.data(1, b"ab", end=True))
        assert client.bodies[1] == b"POST / ab"
        bench = Bench2(hello)
        client = await bench.ask(post(1, ("expect", "100-continue"), ("content-length", "2")))
        assert client.status(1) == 200
        assert len(client.heads[1]) == 1

    run(test)


REFUSALS = [
    (get(1, "/a b"), 400),
    (get(1, "/" + "x" * 9000), 414),
    (get(1, "/", *[(f"x-{i}", "y") for i in range(101)]), 431),
    (
        get(1, "/", ("x", "y" * 70_000))[:0]
        + get(1, "/", *[(f"x-{i}", "y" * 700) for i in range(98)]),
        431,
    ),
    (frames.frame(frames.HEADERS, 5, 1, frames.asked("BREW")), 501),
    (
        frames.frame(
            frames.HEADERS, 5, 1, frames.block((":method", "CONNECT"), (":authority", "a"))
        ),
        501,
    ),
    (post(1, ("expect", "wonders")), 417),
    (post(1, ("content-length", "2000")), 413),
    (post(1) + frames.data(1, b"x" * 2000), 413),
]


@pytest.mark.parametrize(("asked", "status"), REFUSALS)
def test_what_http_refuses_is_answered_and_costs_nothing_else(asked: bytes, status: int) -> None:
    async def test() -> None:
        app = Held()
        bench = Bench2(app, http(limit_body=1000))
        if len(asked) > 16_000:
            body = asked[9:]
            bench.feed(frames.frame(frames.HEADERS, 1, 1, body[:16_000]))
            for at in range(16_000, len(body), 16_000):
                last = 4 if at + 16_000 >= len(body) else 0
                bench.feed(frames.frame(frames.CONTINUATION, last, 1, body[at : at + 16_000]))
            client = await bench.ask()
        else:
            client = await bench.ask(asked)
        assert client.status(1) == status
        assert client.bodies[1].startswith(str(status).encode())
        assert client.ended == {1}
        assert client.resets in ({}, {1: ErrorCodes.NO_ERROR})
        assert bench.server.answers[status // 100] == 1
        app.go.set()
        assert (await bench.ask(get(3))).status(3) == 200
        assert not bench.link.streams

    run(test)


# --- the app's nonsense


def test_an_app_s_failures_cost_its_stream() -> None:
    """500 where nothing was sent, RST_STREAM where something was; the others never notice."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/raises":
            raise ValueError
        headers = [(b"content-length", b"5")]
        status = 99 if path == "/status" else 200
        if path == "/header":
            headers = [(b"x", b"a\r\nb")]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        if path == "/late":
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
            raise SystemExit
        if path == "/more":
            await send({"type": "http.response.body", "body": b"hello w", "more_body": True})
        if path == "/fewer":
            await send({"type": "http.response.body", "body": b"he", "more_body": True})
        await send({"type": "http.response.body", "body": b"" if path == "/fewer" else b"hello"})

    async def test() -> None:
        bench = Bench2(app)
        paths = ["/raises", "/status", "/header", "/late", "/more", "/fewer", "/fine"]
        streams = range(1, 15, 2)
        asked = b"".join(get(stream, path) for stream, path in zip(streams, paths, strict=True))
        client = await bench.ask(asked)
        assert [client.status(stream) for stream in (1, 3, 5)] == [500] * 3
        assert set(client.resets) == {7, 9, 11}
        assert set(client.resets.values()) == {ErrorCodes.INTERNAL_ERROR}
        assert client.bodies[13] == b"hello"
        assert bench.server.app_errors == 6
        assert not client.goaways
        assert not bench.link.streams

    run(test)


def test_apps_own_the_headers_that_they_get() -> None:
    """Though a client that repeats itself is not read anew each time."""
    encoder = Encoder()
    fields = [(":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/x")]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["headers"].copy())
        scope["headers"].append((b"x", b"y"))
        await hello(scope, receive, send)

    seen: list[Any] = []

    async def test() -> None:
        bench = Bench2(app)
        for stream in range(1, 13, 2):
            await bench.ask(frames.frame(frames.HEADERS, 5, stream, encoder.encode(fields)))
        assert seen == [[(b"host", b"a")]] * 6

    run(test)
