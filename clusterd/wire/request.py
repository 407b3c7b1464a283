"""The reading half of HTTP/1: bytes in, requests out, by callbacks instead of lists of events.

A head is gathered until it is whole and taken line by line (`heads`), so that its limits are exact
and torn input costs nothing; what can become no head any more is refused before its end. Whoever
serves derives from `Reader` and gets `on_request`, `on_body_part` and `on_request_end`; nothing
here knows where bytes come from. A malformed request is a PeerError with the status to answer;
after one the reader is spent.

There is no C parser: with lines that are known already it cost as much as all the rest (measured:
1 of 2.1 µs for a small head, 2.3 of 4.5 for a browser's), and 1 kB a connection. In the tests one
is the second judge.

`feed` stops at the end of a request and returns what follows unparsed, so that nothing of a
pipeline is parsed before its turn.
"""

import re

from clusterd.core.errors import PeerError
from clusterd.wire.chunks import Chunks
from clusterd.wire.heads import (
    PREFACE,
    Asked,
    Pair,
    Preface,
    RequestLine,
    fields,
    learn_field,
    learn_request_line,
    request_lines,
    usual_lines,
)
from clusterd.wire.limits import Limits
from clusterd.wire.tables import FRAMING, HOST, NOTABLE, TOKEN, TOLD

REPEATED = 2048  # bytes of a head whose headers are kept to be compared with the next one's
BODYLESS, CHUNKED = 0, -1
END = b"\r\n\r\n"
SPECIAL = FRAMING - {b"content-length"}
BLANK_LINES = re.compile(rb"(?:\r\n)*")


class Reader:
    """One connection's parser. `is_parsing` tells whether a request is half read."""

    __slots__ = (
        "_block",
        "_block_headers",
        "_chunks",
        "_cut",
        "_fields",
        "_head",
        "_judged",
        "_limits",
        "_line_end",
        "_most",
        "_short",
        "body_left",
        "expects",
        "is_parsing",
        "keeps",
        "old",
    )

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._short = min(limits.line, limits.headers)  # a head no longer than this breaks neither
        self._most = limits.fields + 3  # lines that a head has at most, with two empty ones
        self._head = bytearray()  # what there is of a torn head
        self._judged = 0  # bytes of it that are whole lines and were judged
        self._line_end = 0  # where its first line ends
        self._fields = 0  # and how many others there were
        self._block = b"\0"  # the last request's headers, from the end of its first line on
        self._block_headers: list[Pair] = []
        self._cut = 0  # where it begins, counted from the end
        self._chunks: Chunks | None = None  # of the body being read
        self.body_left = BODYLESS  # bytes of the body still to come, or CHUNKED
        self.is_parsing = False
        self.keeps = True  # the client lets the connection be kept after this request
        self.old = False  # it speaks HTTP/1.0
        self.expects = False  # it waits for 100 Continue

    # --- what the deriving class is told

    def on_request(self, asked: Asked, headers: list[Pair], length: int) -> None:
        """A head was read. `length` of the body: BODYLESS, CHUNKED or so many bytes."""

    def on_upgrade(self, asked: Asked, headers: list[Pair]) -> None:
        """A head was read that asks for a WebSocket. What follows it is returned unread, as ever.

        A server may ignore that (RFC 9110 §7.8): then it is a request like any other.
        """
        self.on_request(asked, headers, BODYLESS)

    def on_told(self) -> None:
        """The request last begun has headers that a proxy tells of its client with."""

    def on_body_part(self, data: bytes) -> None:
        """A piece of the body of the request last begun."""

    def on_request_end(self) -> None:
        """The request last begun, which had a body, is complete."""

    # --- feeding

    @property
    def begun(self) -> bytes:
        """What there is of a torn head, also after it was refused."""
        return bytes(self._head)

    def feed(self, data: bytes) -> bytes:
        """Read up to the end of one request; return what comes after it, unread."""
        while data:
            data = self._feed_body(data) if self.body_left else self._feed_head(data)
            if not self.is_parsing:
                break
        return data

    def read(self, data: bytes) -> bytes:
        """`feed` for a chunk that begins between two requests; made for one whole head.

        A client mostly repeats the headers of its request before: then they are compared as one
        piece instead of being taken apart (a browser's dozen: 1 µs for 6, measured).
        """
        if data.endswith(self._block):
            asked = usual_lines.get(data[: self._cut])
            if asked is not None:
                # `_repeat` by hand: the call would cost a tenth of all this.
                self.keeps = True
                self.old = False
                self.on_request(asked, self._block_headers.copy(), BODYLESS)
                return b""
        end = data.find(END) + 4
        if end < 4 or data[0] <= 32 or data.startswith(PREFACE):
            return self.feed(data)
        if end == len(data):
            self._read_head(data)
            return b""
        self._read_head(data[:end])
        if not self.body_left:
            return data[end:]
        return self._feed_body(data[end:])

    def _repeat(self, asked: Asked) -> None:
        """A request with the headers of the one before."""
        self.keeps = True
        self.old = False
        self.on_request(asked, self._block_headers.copy(), BODYLESS)

    def _read_head(self, head: bytes) -> None:
        """Take a whole head, its blank line included."""
        lines = head.split(b"\r\n")
        if len(head) > self._short or len(lines) > self._most:
            self._judged = self._fields = 0
            self._judge(head, 0)
            self._judged = self._fields = 0
        line = request_lines.get(lines[0]) or learn_request_line(lines[0])
        # C loops: a Python loop over a dozen headers costs as much as all the rest of this.
        headers: list[Pair] = list(map(fields.get, lines[1:-2]))  # type: ignore[arg-type]
        if not all(headers):  # a line not seen before came out as None
            for index, pair in enumerate(headers):
                if pair is None:
                    headers[index] = learn_field(lines[index + 1])
        table = dict(headers)
        if (
            len(table) == len(headers)
            and HOST in table
            and NOTABLE.isdisjoint(table)
            and table.get(b"connection", b"keep-alive") == b"keep-alive"
            and not line.old
            and line.host is None
        ):
            self.keeps = True
            if len(head) <= REPEATED:
                self._block = head[len(lines[0]) :]
                self._cut = -len(self._block)
                self._block_headers = headers.copy()
            self.old = False
            self.on_request(line.asked, headers, BODYLESS)
        elif TOLD.isdisjoint(table):
            length = self._plain_length(line, headers, table)
            if length:
                self.keeps = True
                self.old = self.expects = False
                self.body_left = length
                self.is_parsing = True
                self.on_request(line.asked, headers, length)
            else:
                self._read_notable(line, headers, table)
        else:
            self._read_told(line, headers, table)
            self.on_told()

    def _plain_length(
        self, line: RequestLine, headers: list[Pair], table: dict[bytes, bytes]
    ) -> int:
        """The length of a body that a head tells like most do, else 0."""
        value = table.get(b"content-length", b"")
        if (
            value.isdigit()
            and len(value) <= 18
            and len(table) == len(headers)
            and HOST in table
            and SPECIAL.isdisjoint(table)
            and table.get(b"connection", b"keep-alive") == b"keep-alive"
            and not line.old
            and line.host is None
        ):
            length = int(value)
            if not self._limits.body or length <= self._limits.body:
                return length
        return 0

    # --- the long way

    def _feed_head(self, data: bytes) -> bytes:
        head = self._head
        if not head and data[0] > 32:  # as in a pipeline
            end = data.find(END) + len(END)
            if end >= len(END):
                return self._take(data[:end], data[end:])
        if len(head) < 2:  # RFC 9112 §2.2: blank lines before a request, which may be torn
            data = bytes(head) + data
            head.clear()
            data = data[BLANK_LINES.match(data).end() :]  # type: ignore[union-attr]
            if data in (b"", b"\r"):
                head += data
                self.is_parsing = bool(data)
                return b""
        seen = max(0, len(head) - len(END) + 1)
        head += data
        end = head.find(END, seen) + len(END)
        if end < len(END):
            self.is_parsing = True
            self._judge(head, seen)
            return b""
        rest = data[len(data) - len(head) + end :]
        self._take(bytes(head[:end]), rest)
        self._head = bytearray()
        self._judged = self._fields = 0
        return rest

    def _take(self, head: bytes, rest: bytes) -> bytes:
        """Take a whole head out of what came; `rest` came after it."""
        self.is_parsing = False
        asked = usual_lines.get(head[: self._cut]) if head.endswith(self._block) else None
        if asked is not None:
            self._repeat(asked)
            return rest
        try:
            self._read_head(head)
        except Preface as preface:
            if len(head) > len(PREFACE + END):
                raise PeerError(505, "this is neither HTTP/1.1 nor HTTP/2") from None
            preface.rest = rest
            raise
        return rest

    def _judge(self, head: bytes | bytearray, seen: int) -> None:
        """Refuse what cannot become a request any more, or a too large one, without waiting for
        its end: line by line, so that how it was cut makes no difference. `seen`: bytes of it in
        which no line ended, apart from those that were judged."""
        limits = self._limits
        if not TOKEN.match(head):
            raise PeerError(400, "this is not HTTP")
        while True:
            start = self._judged
            fresh = max(start, seen)
            end = head.find(b"\r\n", fresh)
            most = limits.headers + self._line_end if start else limits.line
            stop = end if end >= 0 else len(head) - head.endswith(b"\r")
            if head.find(b"\n", fresh, min(stop, most)) >= 0:
                raise PeerError(400, "a line ends with LF alone")
            if stop > max(start, most):
                if not start:
                    if TOKEN.fullmatch(head[:most]):  # RFC 9112 §3: the method alone is longer
                        raise PeerError(501, "the method is not implemented")
                    raise PeerError(414, "the request line is too long")
                raise PeerError(431, "the request headers are too long")
            if end <= start:
                break
            self._judge_line(bytes(head[start:end]))
            self._judged = end + 2

    def _judge_line(self, line: bytes) -> None:
        if not self._judged:
            self._line_end = len(line)
            if line not in request_lines and line != PREFACE:
                learn_request_line(line)
            return
        self._fields += 1
        if self._fields > self._limits.fields:
            raise PeerError(431, "there are too many request headers")
        if line not in fields:
            learn_field(line)

    def _feed_body(self, data: bytes) -> bytes:
        """Read the body; return what comes after it."""
        rest: bytes | None = None
        if self._chunks is not None:
            data, rest = self._chunks.feed(data)
        elif len(data) < self.body_left:
            self.body_left -= len(data)
        else:
            data, rest = data[: self.body_left], data[self.body_left :]
        if data:
            self.on_body_part(data)
        if rest is None:
            return b""
        self.body_left = BODYLESS
        self._chunks = None
        self.is_parsing = False
        self.on_request_end()
        return rest

    def _read_told(self, line: RequestLine, headers: list[Pair], table: dict[bytes, bytes]) -> None:
        """A head with fields that a proxy tells of its client with: behind one, every head."""
        if (
            len(table) == len(headers)
            and HOST in table
            and FRAMING.isdisjoint(table)
            and table.get(b"connection", b"keep-alive") == b"keep-alive"
            and not line.old
            and line.host is None
        ):
            self.keeps = True
            self.old = False
            self.on_request(line.asked, headers, BODYLESS)
        else:
            self._read_notable(line, headers, table)

    def _read_notable(
        self, line: RequestLine, headers: list[Pair], table: dict[bytes, bytes]
    ) -> None:
        """A head with fields that change how the request is framed or kept, or of HTTP/1.0."""
        if sum([name == HOST for name, _ in headers]) != 1 and not (line.old and HOST not in table):
            raise PeerError(400, "there must be exactly one Host")
        if line.host is not None:
            headers = [(HOST, line.host), *(pair for pair in headers if pair[0] != HOST)]
        options = _list_of(headers, b"connection")
        self.keeps = b"close" not in options and (not line.old or b"keep-alive" in options)
        length = _length(headers, line.old)
        expectations = _list_of(headers, b"expect")
        # RFC 9110 §10.1.1: ignored from HTTP/1.0, and where no body can follow.
        self.expects = b"100-continue" in expectations and not line.old and length != BODYLESS
        if expectations - {b"100-continue"} and not line.old:
            raise PeerError(417, "only 100-continue can be expected")
        if self._limits.body and length > self._limits.body:
            raise PeerError(413, "the request body is too large")
        self.body_left = length
        self._chunks = Chunks(self._limits) if length == CHUNKED else None
        self.is_parsing = length != BODYLESS
        self.old = line.old
        if (
            b"upgrade" in options
            and b"websocket" in _list_of(headers, b"upgrade")
            and length == BODYLESS
            and not line.old
        ):
            self.on_upgrade(line.asked, headers)
        else:
            self.on_request(line.asked, headers, length)


def _length(headers: list[Pair], old: bool) -> int:
    """The body's length, BODYLESS or CHUNKED."""
    lengths = [value for name, value in headers if name == b"content-length"]
    codings = [value for name, value in headers if name == b"transfer-encoding"]
    if codings:
        # RFC 9112 §6.1: both together, or a coding from HTTP/1.0, is how smuggling begins.
        if lengths or old:
            raise PeerError(400, "Transfer-Encoding has no place here")
        if len(codings) > 1 or codings[0].lower() != b"chunked":
            final = codings[-1].lower().rpartition(b",")[2].strip(b" \t")
            raise PeerError(501 if final == b"chunked" else 400, "only chunked is understood")
        return CHUNKED
    if not lengths:
        return BODYLESS
    if len(lengths) > 1 or not lengths[0].isdigit() or len(lengths[0]) > 18:
        raise PeerError(400, "Content-Length is malformed")
    return int(lengths[0])


def _list_of(headers: list[Pair], wanted: bytes) -> set[bytes]:
    """The members of a comma-separated field, lower-cased."""
    return {
        member.strip(b" \t")
        for name, value in headers
        if name == wanted
        for member in value.lower().split(b",")
    } - {b""}
