"""Streams of events: counted as HTML tells, however they are cut."""

import random

import pytest

from clusterd.bench.events import Events

STREAMS = {
    b"data: a\n\ndata: b\n\n": 2,
    b"data: a\r\n\r\ndata: b\r\n\r\n": 2,
    b"data: a\r\rdata: b\r\r": 2,
    b"\xef\xbb\xbfdata: a\n\n": 1,
    b": keep alive\n\n\n\nevent: x\nid: 1\n\n": 0,
    b"event: x\ndata: a\ndata: b\n\n: c\n\ndata\n\ndatabase: x\n\n": 2,
    b"data: a\n\ndata: not whole\n": 1,
    b"data: a\r\ndata: b\r\n\r\n": 1,
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
