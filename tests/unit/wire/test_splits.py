"""How the bytes are cut changes nothing: the same requests, the same errors, for every request of
the conformance tables at every split of its bytes."""

from collections.abc import Iterator
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusterd.core.errors import PeerError
from clusterd.wire.chunks import Chunks
from clusterd.wire.limits import Limits
from clusterd.wire.request import Reader
from tests.conformance.malformed import TABLES
from tests.conformance.malformed.chunks import CUT
from tests.conformance.malformed.framing import AFTER
from tests.conformance.malformed.legal import GOOD

LONG = 600  # bytes; what is longer is cut in some places only
STEPS = (1, 2, 3, 7, 16, 61, 997)


class Recorder(Reader):
    """Remembers the heads, the whole bodies, and what went wrong."""

    def __init__(self, limits: Limits | None = None) -> None:
        super().__init__(limits or Limits())
        self.heads: list[Any] = []
        self.bodies: list[bytes] = []
        self._body = b""
        self.error = 0

    def on_request(self, asked: Any, headers: Any, length: int) -> None:
        self._body = b""
        self.heads.append((*asked, headers, length, self.keeps, self.expects, self.old))

    def on_body_part(self, data: bytes) -> None:
        assert data
        self._body += data

    def on_request_end(self) -> None:
        self.bodies.append(self._body)

    def take(self, data: bytes) -> bool:
        try:
            while data:
                data = self.feed(data) if self.is_parsing else self.read(data)
        except PeerError as error:
            self.error = error.status
        return not self.error


def outcome(pieces: Iterator[bytes], limits: Limits | None = None) -> Any:
    recorder = Recorder(limits)
    for piece in pieces:
        if not recorder.take(piece):
            break
    # Of a body that never ends so much comes out as was read, which is another thing.
    return recorder.heads, recorder.bodies, recorder.error or recorder.is_parsing


def every(data: bytes, size: int) -> Iterator[bytes]:
    return (data[start : start + size] for start in range(0, len(data), size))


def splits(data: bytes) -> Iterator[Iterator[bytes]]:
    """Cut into pieces of a size, from single bytes on, and once at every place."""
    yield from (every(data, size) for size in STEPS if len(data) < LONG or size > 3)
    places = range(1, len(data)) if len(data) < LONG else range(1, len(data), len(data) // 20)
    yield from (iter((data[:place], data[place:])) for place in places)


CORPUS = {
    "proper": [row.data for row in GOOD],
    "pipelined": [GOOD[0].data + row.data for row in GOOD if len(row.data) < LONG],
    "after": [row.data for row in AFTER],
    "cut": CUT,
    **{name: [row.data for row in table] for name, table in TABLES.items()},
}


@pytest.mark.parametrize("name", CORPUS)
def test_any_split_gives_the_same(name: str) -> None:
    for data in CORPUS[name]:
        whole = outcome(iter([data]))
        for pieces in splits(data):
            assert outcome(pieces) == whole, data[:300]


@pytest.mark.parametrize("size", range(64, 90))
def test_limits_are_the_same_however_they_are_reached(size: int) -> None:
    """One byte more or less, in the request line, in the fields, in a trailer: at every split."""
    limits = Limits(line=75, headers=80, fields=4, body=9)
    head = b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n"
    for data in (
        b"GET /%b HTTP/1.1\r\nHost: a\r\n\r\n" % (b"a" * (size - 14)),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\r\n\r\n" % (b"y" * (size - 14)),
        b"GET / HTTP/1.1\r\nHost: a\r\nX: %b\nY: z\r\n\r\n" % (b"y" * (size - 20)),
        b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * (size % 6) + b"Host: a\r\n\r\n",
        head + b"X: %b\r\n\r\n0\r\n\r\n" % (b"y" * (size - 50)),
        head + b"\r\n%x\r\n%b\r\n0\r\n\r\n" % (size - 70, b"y" * (size - 70))
        if size > 70
        else b"\n",
        head + b"\r\n0\r\n" + b"A: b\r\n" * (size % 6) + b"\r\n",
    ):
        whole = outcome(iter([data]), limits)
        for pieces in splits(data):
            assert outcome(pieces, limits) == whole, data


def test_nothing_of_a_large_head_is_remembered() -> None:
    """Nor of its size or the number of its fields: those after it are judged by themselves."""
    fields = b"".join(b"X-%d: %b\r\n" % (number, b"y" * 200) for number in range(90))
    heads = [
        b"GET /%d HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n"
        % (10**size, fields[: size * 1000].rpartition(b"\r\n")[0])
        for size in (9, 12, 18, 3, 10, 17)
    ]
    for size in (1, 100, 5_000, 1 << 20):
        recorder = Recorder()
        for head in heads:
            for piece in every(head, size):
                assert recorder.take(piece)
        assert len(recorder.heads) == len(heads)
    assert outcome(iter([b"".join(heads)])) == outcome(every(b"".join(heads), 997))


# --- a second judge: a C parser, which must agree wherever it is as strict as we are


class Judge:
    """What the parser makes of a chunked body."""

    def __init__(self) -> None:
        self.body = b""
        self.ended = 0

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.ended += 1


def judged(body: bytes) -> tuple[bytes, bool]:
    judge = Judge()
    parser = httptools.HttpRequestParser(judge)
    parser.feed_data(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
    try:
        parser.feed_data(body)
    except httptools.HttpParserError:
        pass  # also what comes after the body is none of ours here
    return judge.body, judge.ended > 0


def ours(pieces: Iterator[bytes]) -> tuple[bytes, bytes | None, int]:
    chunks, body, rest, error = Chunks(Limits()), b"", None, 0
    try:
        for piece in pieces:
            if rest is not None:
                rest += piece
                continue
            content, rest = chunks.feed(piece)
            body += content
    except PeerError as problem:
        error = problem.status
    return body, rest, error


PARTS = [
    *(b"3\r\nabc\r\n", b"1\r\n\n\r\n", b"0\r\n\r\n", b"0\r\n", b"\r\n", b"A: b\r\n", b"a;b=c\r\n"),
    *(b"\r", b"\n", b";", b'"', b"0", b"F", b"=", b" ", b":", b"abc", b"0123456789\r\n", b"\x00"),
]


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(PARTS), max_size=12).map(b"".join), st.integers(1, 20))
def test_who_takes_a_body_for_whole_is_not_alone(data: bytes, size: int) -> None:
    """Wherever a chunked body ends for us, it does for the C parser, with the same content."""
    body, rest, error = ours(iter([data]))
    torn_body, torn_rest, torn_error = ours(every(data, size))
    assert (rest, error) == (torn_rest, torn_error)
    if rest is not None:
        assert body == torn_body
        assert judged(data[: len(data) - len(rest)]) == (body, True)
        assert not judged(data[: len(data) - len(rest) - 1])[1]
