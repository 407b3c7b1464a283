"""Whatever a client sends over HTTP/2, the connection ends as it should and leaves nothing."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.config.serving import HttpSettings
from tests.support import http2 as frames
from tests.unit.worker.fakes import echo, run
from tests.unit.worker.fakes_http2 import Bench2

STREAMS = st.sampled_from((0, 1, 1, 3, 3, 5, 7, 8))
BODIES = st.one_of(
    st.binary(max_size=24),
    st.sampled_from(
        (
            frames.asked(),
            frames.asked("POST", "/large"),
            frames.asked("POST", "/fails", ("content-length", "3")),
            frames.asked("GET", "/fails"),
            frames.asked("HEAD", "/large"),
            frames.block(("x-sum", "1")),
            b"\0\0\0\1",
            b"\0\0\xff\xff",
            b"\x7f\xff\xff\xff",
            b"\0\4\0\0\0\5",
            b"x" * 9000,
        )
    ),
)
FRAMES = st.builds(
    frames.frame, st.integers(0, 10), st.sampled_from((0, 1, 4, 5, 5, 8, 36)), STREAMS, BODIES
)
ACTS = st.one_of(
    FRAMES, FRAMES, FRAMES, st.sampled_from(("time", "drain", "stuck", "drained", "cancel", "eof"))
)


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["path"] == "/fails":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x", "more_body": True})
        raise ValueError
    if scope["path"] == "/large":
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 100_000, "more_body": True})
        await send({"type": "http.response.body", "body": b"x" * 100_000})
        return
    await echo(scope, receive, send)


@settings(max_examples=150, deadline=None)
@given(st.lists(ACTS, max_size=30), st.integers(1, 5000))
def test_whatever_comes_and_whenever(acts: list[Any], size: int) -> None:
    async def test() -> None:
        bench = Bench2(app, HttpSettings(http2_streams=4, limit_body=5000))
        for act in acts:
            do(bench, act, size)
            await bench.settle()
        bench.link.connection_lost(None)
        for _ in range(3):
            await bench.settle()
        server = bench.server
        link = bench.link
        assert not any((link.streams, link.blocked, link._cancelled))
        assert not any((server.running, server.tasks, server.connections, server.wheel._buckets))

    run(test)


def do(bench: Bench2, act: Any, size: int) -> None:
    if isinstance(act, bytes):
        bench.feed(*frames.pieces(act, size))
    elif act == "time":
        bench.pass_time(20)
    elif act == "drain":
        bench.server.drain_begins(last=False, leave_by=bench.now + 20)
    elif act == "stuck":
        bench.transport.stuck = True
    elif act == "drained" and bench.transport.stuck:
        bench.transport.drained()
    elif act == "cancel":
        bench.link.cancel()
    elif act == "eof":
        bench.link.eof_received()
