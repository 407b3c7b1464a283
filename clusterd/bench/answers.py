"""What a server sends on one connection, cut into answers (RFC 9112). Pure: bytes in, status out.

Says when an answer is whole, which status it has, and whether the connection ends with it. Bodies
are counted and thrown away unless somebody wants them. What could be read in two ways is refused:
a client that guesses where an answer ends would count something that was never sent.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

CHUNKED, TO_THE_END = -1, -2  # instead of a length
SIZE, END, TRAILER = "a chunk's size", "a chunk's end", "a trailer"  # lines of a chunked body
LONGEST_HEAD, LONGEST_LINE = 65536, 8192  # bytes
MEMORY = 512  # heads that are remembered: those of a run differ in their date and little else

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9][0-9]{2})(?: [^\r\n]*)?")
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r\n")
_BODILESS = frozenset((204, 304))

Sink = Callable[[bytes], object]  # gets a body piece by piece


class BadAnswer(ValueError):
    """That is no answer, or none whose end is certain."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer. `length` is its body's, or CHUNKED, or TO_THE_END."""

    status: int
    length: int
    closes: bool
    fields: tuple[tuple[bytes, bytes], ...]  # names in lower case

    def field(self, name: bytes) -> bytes:
        """The first of that name; b"" where there is none."""
        return next((value for one, value in self.fields if one == name), b"")


def read_head(text: bytes) -> Head:
    """A head up to its empty line; raises BadAnswer."""
    first, *lines = text.removesuffix(b"\r\n\r\n").split(b"\r\n")
    if (found := _STATUS.fullmatch(first)) is None:
        raise BadAnswer(f"no status line: {first[:60]!r}")
    fields = tuple(_field(line) for line in lines)
    tokens = {
        token.strip().lower()
        for name, value in fields
        if name == b"connection"
        for token in value.split(b",")
    }
    closes = b"close" in tokens or (found[1] == b"0" and b"keep-alive" not in tokens)
    return Head(int(found[2]), _length(fields), closes, fields)


def _field(line: bytes) -> tuple[bytes, bytes]:
    name, colon, value = line.partition(b":")
    if not colon or not name or name != name.strip():
        raise BadAnswer(f"no field: {line[:60]!r}")
    return name.lower(), value.strip()


def _length(fields: tuple[tuple[bytes, bytes], ...]) -> int:
    codings = [value.lower() for name, value in fields if name == b"transfer-encoding"]
    if codings:
        last = codings[-1].rpartition(b",")[2].strip()
        return CHUNKED if last == b"chunked" else TO_THE_END
    lengths = {
        one.strip()
        for name, value in fields
        if name == b"content-length"
        for one in value.split(b",")
    }
    if not lengths:
        return TO_THE_END
    if len(lengths) > 1 or not (only := lengths.pop()).isdigit() or len(only) > 15:
        raise BadAnswer("a content-length that is none, or several")
    return int(only)


class Heads:
    """Heads that were read before: a server says the same all second long."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Head] = {}

    def read(self, text: bytes) -> Head:
        """A head up to its empty line; raises BadAnswer."""
        head = self._known.get(text)
        if head is None:
            if len(self._known) >= MEMORY:
                self._known.clear()
            head = self._known[text] = read_head(text)
        return head


class Body(Protocol):
    """One that is still coming."""

    def take(self, data: bytes, at: int, sink: Sink | None) -> int:
        """Where in `data`, from `at` on, it ends; -1 if more is to come. Raises BadAnswer."""


class Counted:
    """A body whose length was told, or that goes on to the end (then it never ends here)."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = length

    @property
    def to_the_end(self) -> bool:
        """Whether only the connection's end ends it."""
        return self._left == TO_THE_END

    def take(self, data: bytes, at: int, sink: Sink | None) -> int:
        """As of `Body`."""
        there = len(data) - at
        if self._left == TO_THE_END:
            piece, end = there, -1
        elif there < self._left:
            self._left -= there
            piece, end = there, -1
        else:
            piece, end = self._left, at + self._left
        if sink is not None and piece:
            sink(data[at : at + piece])
        return end


class Chunked:
    """A body in chunks. Takes a line (a size, a chunk's end, a trailer) or a chunk's bytes."""

    __slots__ = ("_left", "_line", "_next")

    def __init__(self) -> None:
        self._left = 0  # bytes of this chunk that are to come
        self._line = b""  # the beginning of one
        self._next = SIZE  # what the next line is

    def take(self, data: bytes, at: int, sink: Sink | None) -> int:
        """As of `Body`."""
        while at < len(data):
            if self._left:
                end = min(at + self._left, len(data))
                self._left -= end - at
                if sink is not None:
                    sink(data[at:end])
                at = end
                continue
            newline = data.find(b"\n", at)
            line = self._line + (data[at:] if newline < 0 else data[at : newline + 1])
            if len(line) > LONGEST_LINE:
                raise BadAnswer("a chunk whose line does not end")
            if newline < 0:
                self._line = line
                return -1
            self._line, at = b"", newline + 1
            if self._next is TRAILER and line == b"\r\n":
                return at
            self._read(line)
        return -1

    def _read(self, line: bytes) -> None:
        if self._next is SIZE:
            if (found := _SIZE.fullmatch(line)) is None:
                raise BadAnswer(f"no chunk size: {line[:60]!r}")
            self._left = int(found[1], 16)
            self._next = END if self._left else TRAILER
        elif self._next is END:
            if line != b"\r\n":
                raise BadAnswer("a chunk is longer than it said")
            self._next = SIZE


class Reader:
    """The answers of one connection, in turn."""

    __slots__ = ("_body", "_heads", "_held", "_sink", "begun", "closes", "head", "left", "size")

    def __init__(self, heads: Heads, sink: Sink | None = None) -> None:
        self._heads, self._sink = heads, sink
        self.reset()

    def reset(self) -> None:
        """A new connection."""
        self.left = b""  # what came after the answer that is whole
        self.closes = False  # whether the connection ends with it
        self.begun = False  # a part of an answer is there, and another is missing
        self._begin()

    def _begin(self) -> None:
        self.head: Head | None = None  # of the answer that is coming, or was just whole
        self.size = 0  # bytes of it, heads and all
        self._held = b""  # the beginning of a head
        self._body: Body | None = None

    def take(self, data: bytes, bodiless: bool = False) -> int:
        """More bytes: the status of an answer that is whole with them, or 0. Raises BadAnswer.

        `bodiless` says that a HEAD is answered. Give `left` to the next call, if there is some.
        """
        self.left = b""
        if not self.begun:
            self.begun = True
            self._begin()
        if self._body is None:
            data = self._held + data if self._held else data
            at = self._take_head(data, bodiless)
            if at < 0:
                return 0
            self.size += at
        else:
            at = 0
        return self._take_body(data, at)

    def _take_head(self, data: bytes, bodiless: bool) -> int:
        """Where the body begins, or -1 if the head is not whole."""
        at = 0
        while True:
            end = data.find(b"\r\n\r\n", at) + 4
            if end < 4 or end - at > LONGEST_HEAD:
                if len(data) - at > LONGEST_HEAD:
                    raise BadAnswer("a head that does not end")
                self._hold(data, at)
                return -1
            head = self._heads.read(data[at:end])
            at = end
            if head.status == 101:
                raise BadAnswer("it switches to a protocol that nobody asked for")
            if head.status >= 200:
                break  # and not an interim answer (RFC 9110, 15.2), which is followed by its final
        self.head = head
        self._held = b""
        length = head.length
        if bodiless or head.status in _BODILESS:
            length = 0
        self.closes = head.closes or length == TO_THE_END
        self._body = Chunked() if length == CHUNKED else Counted(length)
        return at

    def _hold(self, data: bytes, at: int) -> None:
        # Interim answers are dropped, and counted in; what is held is counted when it is read.
        self.size += at
        self._held = data[at:]
        newline = self._held.find(b"\n")
        if newline >= 0 and self._held[newline - 1 : newline] != b"\r":
            raise BadAnswer("a head whose lines do not end with CRLF")  # its end would not be found
        if not b"HTTP/1.".startswith(self._held[:7]):
            raise BadAnswer(f"no status line: {self._held[:60]!r}")

    def _take_body(self, data: bytes, at: int) -> int:
        assert self._body is not None
        assert self.head is not None
        end = self._body.take(data, at, self._sink)
        self.size += (end if end >= 0 else len(data)) - at
        if end < 0:
            return 0
        self._body, self.begun = None, False
        self.left = data[end:] if end < len(data) else b""
        return self.head.status

    def finish(self) -> int:
        """The connection's end: the status of an answer that is whole by that, or 0."""
        if self.head is None or not isinstance(self._body, Counted) or not self._body.to_the_end:
            return 0
        self._body, self.begun = None, False
        return self.head.status
