"""What apps can do over HTTP/2 beside answering: hints, trailers, files; and WSGI's apps."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from clusterd.config.serving import WsgiSettings
from clusterd.config.settings import Config
from clusterd.kernel import disk
from clusterd.worker import wsgi
from tests.support import http2 as frames
from tests.support.http2 import Reading, asked, frame, get, post
from tests.unit.app.wsgi_bench import hello as wsgi_hello
from tests.unit.worker.fakes import FakeTransport, hello, run
from tests.unit.worker.fakes_http2 import Bench2

START = {"type": "http.response.start", "status": 200, "headers": []}


async def answered(bench: Bench2, stream: int) -> Reading:
    """All that was sent, once a stream has ended; threads may have a part in it."""
    while stream not in bench.client.ended and stream not in bench.client.resets:
        await asyncio.sleep(0)
        bench.read()
    return bench.client


def test_early_hints_come_before_the_answer() -> None:
    """RFC 8297: status 103."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert "http.response.early_hint" in scope["extensions"]
        await send({"type": "http.response.early_hint", "links": [b"</a>; rel=preload"]})
        await send(START)
        await send({"type": "http.response.body", "body": b"x"})

    async def test() -> None:
        client = await Bench2(app).ask(get(1), get(3))
        for stream in (1, 3):
            hint, head = client.heads[stream]
            assert hint == [(b":status", b"103"), (b"link", b"</a>; rel=preload")]
            assert (b":status", b"200") in head
            assert client.bodies[stream] == b"x"

    run(test)


@pytest.mark.parametrize(("body", "told"), [(b"", []), (b"abc", [b"3"])])
def test_of_a_body_that_nobody_made_no_length_is_told(body: bytes, told: list[bytes]) -> None:
    """RFC 9110 §8.6: to HEAD either the length of the response to GET, or none."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.body", "body": body})

    async def test() -> None:
        (head,) = (await Bench2(app).ask(frame(1, 5, 1, asked("HEAD")))).heads[1]
        assert [value for name, value in head if name == b"content-length"] == told

    run(test)


@pytest.mark.parametrize("body", [b"", b"x", b"x" * 100_000])
def test_trailers_end_the_answer(body: bytes) -> None:
    """RFC 9113 §8.1: a head with END_STREAM, after the last of the body."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({**START, "trailers": True})
        await send({"type": "http.response.body", "body": body})
        trailers = [(b"X-Sum", b"1")]
        await send({"type": "http.response.trailers", "headers": trailers})

    async def test() -> None:
        bench = Bench2(app)
        await bench.ask(get(1), get(3))
        client = await bench.ask(
            frames.window(0, 2**20), *[frames.window(n, 2**20) for n in (1, 3)]
        )
        for stream in (1, 3):
            assert client.heads[stream][1:] == [[(b"x-sum", b"1")]]
            assert client.bodies.get(stream, b"") == body
        assert client.ended == {1, 3}
        assert not bench.link.streams

    run(test)


@pytest.mark.parametrize("size", [10, 100_000])
def test_files_are_sent(tmp_path: Path, size: int) -> None:
    (tmp_path / "file").write_bytes(b"x" * size)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send({"type": "http.response.pathsend", "path": str(tmp_path / "file")})

    async def test() -> None:
        bench = Bench2(app)
        wide = frames.settings((4, 2**20)) + frames.window(0, 2**20)
        bench.feed(wide, get(1), get(3))
        for stream in (1, 3):
            client = await answered(bench, stream)
            assert client.bodies[stream] == b"x" * size
            assert dict(client.heads[stream][0])[b"content-length"] == b"%d" % size

    run(test)


def test_bare_answers_have_no_body() -> None:
    """HEAD, 204 and 304, whole or in pieces (RFC 9110 §6.4.1)."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        status = int(scope["path"][1:4])
        await send({"type": "http.response.start", "status": status, "headers": []})
        if scope["path"].endswith("pieces"):
            await send({"type": "http.response.body", "body": b"ab", "more_body": True})
        await send({"type": "http.response.body", "body": b"abc"})

    async def test() -> None:
        bench = Bench2(app)
        asked = [("HEAD", "/200"), ("GET", "/204"), ("GET", "/304")]
        asked += [(method, f"{path}pieces") for method, path in asked]
        for number, (method, path) in enumerate(asked):
            head = frames.asked(method, path)
            bench.feed(frames.frame(frames.HEADERS, 5, 2 * number + 1, head))
        client = await bench.ask()
        assert client.ended == set(range(1, 13, 2))
        assert not client.bodies
        lengths = [dict(client.heads[n][0]).get(b"content-length") for n in range(1, 13, 2)]
        assert lengths == [b"3", None, None, None, None, None]

    run(test)


@pytest.mark.parametrize("threads", [1, 4])
def test_wsgi_apps(threads: int) -> None:
    """In the loop's thread and in others: bodies in, answers out, and what they are told."""

    def call(environ: Any, start_response: Any) -> Any:
        body = environ["wsgi.input"].read()
        told = environ["SERVER_PROTOCOL"].encode()
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [told, b" ", body]

    class Bench(Bench2):
        interface = "wsgi"

        def connect(self) -> Any:
            wsgi.equip(self.server, call)
            return super().connect()

    async def test() -> None:
        bench = Bench(hello, config=Config(wsgi=WsgiSettings(threads=threads)))
        bench.feed(get(1), post(3), frames.data(3, b"x" * 9000), frames.data(3, b"y", end=True))
        client = await answered(bench, 1)
        assert client.bodies[1] == b"HTTP/2 "
        client = await answered(bench, 3)
        assert client.bodies[3] == b"HTTP/2 " + b"x" * 9000 + b"y"
        assert dict(client.heads[3][0])[b"content-type"] == b"text/plain"
        await bench.settle()
        assert not bench.link.streams
        assert not bench.server.running

    run(test)


class WsgiBench2(Bench2):
    """One thread, and 3 MiB on disk for bodies."""

    interface = "wsgi"

    def connect(self) -> tuple[FakeTransport, Any]:
        wsgi.equip(self.server, wsgi_hello)
        return super().connect()


def test_over_one_connection_a_body_that_is_stuck_makes_room_for_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is given up while the other one is being received."""
    monkeypatch.setattr(disk, "is_in_memory", lambda _: False)

    async def test() -> None:
        settings = WsgiSettings(threads=1, spool_budget=3 * 2**20)
        bench = WsgiBench2(hello, config=Config(wsgi=settings))
        spools = bench.server.spools
        assert spools is not None
        piece = b"x" * 16_000
        client = await bench.ask(post(1), *[frames.data(1, piece)] * 100, post(3))
        for _ in range(100):
            bench.now += 0.1
            client = await bench.ask(frames.data(3, piece))
        assert dict(client.heads[1][0])[b":status"] == b"413"
        assert spools.held == 100 * len(piece)
        client = await bench.ask(frames.frame(frames.DATA, frames.END_STREAM, 3))
        assert dict(client.heads[3][0])[b":status"] == b"200"
        assert spools.held == 0

    run(test)
