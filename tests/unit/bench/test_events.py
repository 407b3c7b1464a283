"""Streams of events: counted as HTML tells, however they are cut."""

import random
from collections.abc import Callable

import pytest

from clusterd.bench.events import Chunks, Events, Head, head_of
from clusterd.bench.frames import Broken

STREAMS = {
    b"data: a\n\ndata: b\n\n": 2,
    b"data: a\r\n\r\ndata: b\r\n\r\n": 2,
    b"data: a\r\rdata: b\r\r": 2,
    b"\xef\xbb\xbfdata: a\n\n": 1,
    b": keep alive\n\n\n\nevent: x\nid: 1\n\n": 0,
    b"event: x\ndata: a\ndata: b\n\n: c\n\ndata\n\ndatabase: x\n\n": 2,
    b"data: a\n\ndata: not whole\n": 1,
    b"event: x\r\ndata: a\r\nid: 3\r\n\r\n\r\n\r\n": 1,
}


def pieces(data: bytes, largest: int, seed: int = 1) -> list[bytes]:
    """Cut at random."""
    roll, cuts = random.Random(seed), []
    while data:
        size = roll.randint(1, largest)
        cuts.append(data[:size])
        data = data[size:]
    return cuts


@pytest.mark.parametrize("stream", STREAMS)
@pytest.mark.parametrize("largest", [1, 2, 5, 1000])
def test_events_count_however_they_are_cut(stream: bytes, largest: int) -> None:
    events = Events()
    assert sum(map(events.feed, pieces(stream, largest))) == STREAMS[stream]


def test_an_event_counts_as_soon_as_it_is_whole() -> None:
    events = Events()
    assert [events.feed(one) for one in (b"data: a\r\n", b"\r", b"\ndata: b\r", b"\r")] == [
        0,
        1,
        0,
        1,
    ]


@pytest.mark.parametrize("largest", [1, 2, 5, 1000])
def test_chunks_lose_their_frame(largest: int) -> None:
    sent = b"5\r\nhello\r\n1;x=y\r\n \r\n005 \r\nworld\r\n0\r\nTrailer: x\r\n\r\nHTTP/1.1"
    chunks = Chunks()
    assert b"".join(map(chunks.feed, pieces(sent, largest))) == b"hello world"
    assert chunks.done


@pytest.mark.parametrize("sent", [b"x\r\n", b"\r\n", b"-1\r\n", b"0x1\r\n", b"1" * 2000])
def test_what_is_no_chunk_breaks_the_connection(sent: bytes) -> None:
    with pytest.raises(Broken, match="no size"):
        Chunks().feed(sent)


def head(*lines: str, status: int = 200, version: str = "1.1") -> bytes:
    return "\r\n".join([f"HTTP/{version} {status} OK", *lines, "", ""]).encode()


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            head("Content-Type: text/event-stream; charset=utf-8", "Transfer-Encoding: chunked"),
            Head(200, None, True, True, True, b"rest"),
        ),
        (head("content-type:text/event-stream"), Head(200, None, False, True, True, b"rest")),
        (head("Content-Length: 3", status=503), Head(503, 3, False, True, False, b"rest")),
        (head("Connection: close", status=204), Head(204, 0, False, False, False, b"rest")),
        (head(version="1.0"), Head(200, None, False, False, False, b"rest")),
        (
            head(status=103) + head("content-type: text/event-streams"),
            Head(200, None, False, True, False, b"rest"),
        ),
    ],
)
def test_what_matters_of_a_head(data: bytes, expected: Head) -> None:
    for cut in range(len(data)):
        assert head_of(data[:cut]) is None
    assert head_of(data + b"rest") == expected


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "SSH"),
        (b"\x15\x03\x03\x00\x02\x02\x46", "https"),
        (b"HTTP/1.1 2000 OK\r\n\r\n", "no HTTP"),
        (b"HTTP/1.1 " + b"x" * 70000, "no HTTP"),
    ],
)
def test_what_is_no_answer(data: bytes, text: str) -> None:
    with pytest.raises(Broken, match=text):
        head_of(data)
