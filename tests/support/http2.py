"""Frames of HTTP/2 by hand, the wrong ones too, and what a server answered with."""

import struct
from collections.abc import Iterable
from typing import NamedTuple

from hpack import Decoder, Encoder
from hyperframe.frame import Frame

from clusterd.wire.http2_fields import literal

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE = range(6)
PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(6, 10)
END_STREAM, ACK, END_HEADERS, PADDED = 1, 1, 4, 8
ASKED = ((":method", "GET"), (":scheme", "http"), (":authority", "a"), (":path", "/"))


def frame(kind: int, flags: int = 0, stream: int = 0, body: bytes = b"") -> bytes:
    return len(body).to_bytes(3) + struct.pack("!BBI", kind, flags, stream) + body


def block(*fields: tuple[str | bytes, str | bytes]) -> bytes:
    """Fields as literals, whatever they say."""
    pairs = [
        tuple(text.encode("latin-1") if isinstance(text, str) else text for text in field)
        for field in fields
    ]
    return b"".join(literal(name, value) for name, value in pairs)


def asked(method: str = "GET", path: str = "/", *more: tuple[str, str]) -> bytes:
    """The block of an ordinary request."""
    return block(
        (":method", method), (":scheme", "http"), (":authority", "a"), (":path", path), *more
    )


def settings(*pairs: tuple[int, int], flags: int = 0) -> bytes:
    return frame(SETTINGS, flags, 0, b"".join(struct.pack("!HI", *pair) for pair in pairs))


def get(stream: int, path: str = "/", *more: tuple[str, str]) -> bytes:
    return frame(HEADERS, END_HEADERS | END_STREAM, stream, asked("GET", path, *more))


def post(stream: int, *more: tuple[str, str]) -> bytes:
    """The head of a request whose body is to follow."""
    return frame(HEADERS, END_HEADERS, stream, asked("POST", "/", *more))


def data(stream: int, body: bytes = b"", end: bool = False) -> bytes:
    return frame(DATA, END_STREAM if end else 0, stream, body)


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack("!I", code))


def window(stream: int, increment: int) -> bytes:
    return frame(WINDOW_UPDATE, 0, stream, struct.pack("!I", increment))


def ping(text: bytes = b"12345678", flags: int = 0) -> bytes:
    return frame(PING, flags, 0, text)


def goaway(latest: int = 0, code: int = 0) -> bytes:
    return frame(GOAWAY, 0, 0, struct.pack("!II", latest, code))


START = PREFACE + settings()


def encoded(*fields: tuple[str, str]) -> bytes:
    """As ordinary clients do it, with tables and Huffman's code."""
    return Encoder().encode(fields)


class Sent(NamedTuple):
    """A frame that a server sent."""

    kind: int
    flags: int
    stream: int
    body: bytes

    @property
    def code(self) -> int:
        """Of RST_STREAM and GOAWAY."""
        return int.from_bytes(self.body[4:8] if self.kind == GOAWAY else self.body[:4])


class Reading:
    """A client's half: what a server sent, frame by frame."""

    def __init__(self) -> None:
        self.buffer = b""
        self.frames: list[Sent] = []
        self.heads: dict[int, list[list[tuple[bytes, bytes]]]] = {}  # by stream
        self.bodies: dict[int, bytes] = {}
        self.resets: dict[int, int] = {}
        self.ended: set[int] = set()
        self._decoder = Decoder()
        self._block = b""  # of a head that is not whole yet

    def take(self, data: bytes) -> "Reading":
        self.buffer += data
        while len(self.buffer) >= 9:
            parsed, length = Frame.parse_frame_header(memoryview(self.buffer[:9]))
            if len(self.buffer) < 9 + length:
                break
            head, body = self.buffer[:9], self.buffer[9 : 9 + length]
            self.buffer = self.buffer[9 + length :]
            self._add(Sent(head[3], head[4], parsed.stream_id, body))
        return self

    def _add(self, sent: Sent) -> None:
        self.frames.append(sent)
        if sent.kind in (HEADERS, DATA) and sent.flags & END_STREAM:
            self.ended.add(sent.stream)
        if sent.kind in (HEADERS, CONTINUATION):
            self._block += sent.body
            if not sent.flags & END_HEADERS:
                return
            fields = list(map(tuple, self._decoder.decode(self._block, raw=True)))
            self._block = b""
            self.heads.setdefault(sent.stream, []).append(fields)  # type: ignore[arg-type]
        elif sent.kind == DATA:
            self.bodies[sent.stream] = self.bodies.get(sent.stream, b"") + sent.body
        elif sent.kind == RST_STREAM:
            self.resets[sent.stream] = sent.code

    def of(self, kind: int) -> list[Sent]:
        return [sent for sent in self.frames if sent.kind == kind]

    @property
    def goaways(self) -> list[tuple[int, int]]:
        """The latest stream and the code of each."""
        return [(int.from_bytes(sent.body[:4]), sent.code) for sent in self.of(GOAWAY)]

    def status(self, stream: int) -> int:
        """Of the final answer."""
        return int(dict(self.heads[stream][-1])[b":status"])


def pieces(data: bytes, size: int) -> Iterable[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))
