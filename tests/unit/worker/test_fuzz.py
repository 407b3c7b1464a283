"""Whatever bytes come, in whatever pieces: one refusal or proper answers, never an exception."""

import asyncio
import itertools
import logging

import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.unit.worker.fakes import CHUNKED, POST, Bench, echo, get, statuses

WHOLE = [
    get(),
    get("/a?b", "Connection: keep-alive", version="1.0"),
    get("/", "Connection: Upgrade", "Upgrade: h2c"),
    POST,
    CHUNKED,
    b"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\nab",
    b"\r\n\r\n",
]
TORN = [b"\r\n", b"\r", b"\n", b"\0", b" ", b":", b"Host: a\r\n", b"Content-Length: 3\r\n", b"0"]
streams = st.lists(st.sampled_from(WHOLE + TORN), max_size=6).map(b"".join)


@st.composite
def cut(draw: st.DrawFn) -> tuple[bytes, list[bytes]]:
    """A stream, damaged in places, and a way to cut it."""
    stream = bytearray(draw(streams))
    for _ in range(draw(st.integers(0, 2))):
        if stream:
            place = draw(st.integers(0, len(stream) - 1))
            stream[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=2))
    cuts = sorted(draw(st.lists(st.integers(0, len(stream)), max_size=5)))
    data = bytes(stream)
    edges = [0, *cuts, len(data)]
    return data, [data[a:b] for a, b in itertools.pairwise(edges) if a < b]


async def answers(*pieces: bytes) -> tuple[list[int], bool]:
    bench = Bench(echo)
    sent = b""
    for piece in pieces:
        if bench.transport.closed:
            break
        sent += await bench.talk(piece)
        await bench.settle()
    for _ in range(10):
        sent += await bench.talk()
    closing = bench.connection.is_closing
    bench.connection.connection_lost(None)
    await bench.settle()
    assert not bench.server.tasks
    assert not bench.server.running
    sent = sent.replace(b"HTTP/1.1 100 Continue\r\n\r\n", b"")
    return statuses(sent), closing


@settings(max_examples=300, deadline=None)
@given(cut())
def test_cutting_changes_nothing(case: tuple[bytes, list[bytes]]) -> None:
    """The same statuses in the same order, whole or cut."""
    stream, pieces = case
    logging.disable(logging.CRITICAL)

    async def both() -> None:
        whole, closed = await answers(stream) if stream else ([], False)
        torn, torn_closed = await answers(*pieces)
        # A cut may show what is wrong before the end of a head has come, and never the reverse.
        assert torn[: len(whole)] == whole or torn[-1] >= 400
        assert torn_closed >= closed

    try:
        uvloop.run(asyncio.wait_for(both(), 20))
    finally:
        logging.disable(logging.NOTSET)
