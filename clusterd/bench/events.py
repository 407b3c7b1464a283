"""Server-sent events in an answer's body, and the head of that answer: bytes in, events counted.

The format is HTML's (§9.2.6, "Interpreting an event stream"): lines end with CRLF, LF or CR, an
empty line ends an event, and one without data is none; so comments that keep a connection alive do
not count.
"""

import re
from typing import NamedTuple

from clusterd.bench.interval import PROTOCOL
from clusterd.bench.frames import Broken
from clusterd.bench.troubles import strange

END = b"\r\n\r\n"
LONGEST_HEAD = 65536  # bytes
LONGEST_SIZE = 1024  # bytes of a chunk's size with its extensions
STATUS = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: |\r\n)")
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]+)[ \t]*\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*\bchunked[ \t]*\r\n", re.IGNORECASE)
TYPE = re.compile(rb"\r\ncontent-type:[ \t]*text/event-stream[ \t]*(?:;|\r\n)", re.IGNORECASE)
CLOSES = re.compile(rb"\r\nconnection:[^\r\n]*\bclose\b", re.IGNORECASE)
SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?")
DATA = re.compile(rb"^(?:\xef\xbb\xbf)?data(?::|$)", re.MULTILINE)  # lines end with LF by then


class Head(NamedTuple):
    """What matters of an answer's head."""

    status: int
    length: int | None  # bytes of the body; None where its end is told otherwise
    chunked: bool
    keeps: bool  # the connection can be used again
    is_stream: bool  # of events
    rest: bytes  # what came after it


def head_of(data: bytes) -> Head | None:
    """Of bytes that begin with an answer; None while its head is not whole. Interim answers (1xx)
    are passed over. Raises Broken."""
    while True:
        end = data.find(END)
        if end < 0:
            if len(data) > LONGEST_HEAD or not b"HTTP/1.".startswith(data[:7]):
                raise Broken(PROTOCOL, f"this is no HTTP; {strange(data) or 'what is it?'}")
            return None
        found = STATUS.match(data)
        if found is None:
            raise Broken(PROTOCOL, f"this is no HTTP; {strange(data) or 'what is it?'}")
        lines, rest = data[: end + 2], data[end + len(END) :]
        status = int(found[2])
        if status >= 200:
            break
        data = rest
    length = LENGTH.search(lines)
    chunked = CHUNKED.search(lines) is not None
    none = status in (204, 304)
    return Head(
        status=status,
        length=0 if none else int(length[1]) if length and not chunked else None,
        chunked=chunked and not none,
        keeps=found[1] == b"1" and not CLOSES.search(lines),
        is_stream=TYPE.search(lines) is not None,
        rest=rest,
    )


class Chunks:
    """A chunked body without its frame (RFC 9112 §7.1), as it comes."""

    __slots__ = ("_buffer", "_left", "_trailers", "done")

    def __init__(self) -> None:
        self.done = False
        self._buffer = b""  # a torn line
        self._left = 0  # bytes of the chunk, with the CRLF after it
        self._trailers = False

    def feed(self, data: bytes) -> bytes:
        """The body's bytes among these; raises Broken."""
        parts = []
        data = self._buffer + data if self._buffer else data
        self._buffer = b""
        at, end = 0, len(data)
        while at < end and not self.done:
            if self._left > 2:
                parts.append(data[at : at + self._left - 2])
                size = len(parts[-1])
            elif self._left:  # of the CRLF
                size = min(self._left, end - at)
            else:
                stop = data.find(b"\r\n", at)
                if stop < 0:
                    if end - at > LONGEST_SIZE:
                        raise Broken(PROTOCOL, "a chunk of the answer has no size")
                    self._buffer = data[at:]
                    break
                self._line(data[at:stop])
                at = stop + 2
                continue
            self._left -= size
            at += size
        return b"".join(parts)

    def _line(self, line: bytes) -> None:
        """A chunk's size, or a trailer."""
        if self._trailers:
            self.done = not line
            return
        size = SIZE.fullmatch(line)
        if size is None:
            raise Broken(PROTOCOL, "a chunk of the answer has no size")
        length = int(size[1], 16)
        self._left = length + 2 if length else 0
        self._trailers = not length


class Events:
    """The events of one stream."""

    __slots__ = ("_after_cr", "_rest")

    def __init__(self) -> None:
        self._rest = b""  # of an event that is not whole, its lines ended by LF
        self._after_cr = False

    def feed(self, data: bytes) -> int:
        """How many events became whole."""
        if self._after_cr and data[:1] == b"\n":
            data = data[1:]  # the LF of a CRLF that was torn
            self._after_cr = False
        if not data:
            return 0
        if b"\r" in data:
            self._after_cr = data[-1:] == b"\r"
            data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        else:
            self._after_cr = False
        *blocks, self._rest = (self._rest + data).split(b"\n\n")
        return sum(1 for block in blocks if DATA.search(block))
