"""HTTP/1's side of an exchange: the answer's bytes, framed by its length or in chunks.

A whole answer is one write: the head waits for the first piece of the body, if that follows within
the next turns of the loop (`worker.server.Server.begins`); else it is sent by itself.
Small pieces of a streamed one are gathered until the app lets go of the loop: an app that makes a
hundred in one go costs one write (measured: a third of the time).
"""

import asyncio
from typing import Any

from clusterd.app.exchange import ENDED, STARTED, STREAMING, Exchange
from clusterd.app.peer import ClientGone, ContractError, Http1Peer
from clusterd.wire.response import (
    CHUNKED_END,
    CLOSE,
    CONTINUE,
    KEEP,
    LAST_CHUNK,
    SPECIAL,
    UNKNOWN,
    HeaderError,
    add_lines,
    chunk,
    end_of_head,
    ends,
    judge_all,
)
from clusterd.wire.tables import STATUS_LINES

BARE = frozenset({204, 304})  # statuses of answers that have no body
EVENTS = b"text/event-stream"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\n"
WORTH_KEEPING = 1024  # bytes of a head
MOST_KEPT = 256  # heads; they are made anew each second anyway
COPIED = 16 * 1024  # bytes; larger pieces are handed to the transport beside their framing


class Http1(Exchange):
    """To be mixed with `Asgi` or `Wsgi`, which speak to the app."""

    __slots__ = (
        "_bare",
        "_flush_at",
        "_gathered",
        "_left",
        "_length",
        "_parts",
        "_trailers",
        "_will_flush",
        "chunked",
        "endless",
    )

    peer: Http1Peer
    chunked: bool
    endless: bool  # a stream of events, which no client takes for a cut answer when it ends
    _parts: list[bytes]
    _length: int
    _left: int
    _bare: bool
    _trailers: list[bytes]
    _gathered: list[bytes]  # framed, and not yet written
    _flush_at: int  # bytes sent, beyond which nothing more is gathered
    _will_flush: bool

    def go_on(self) -> None:
        self.expects = False
        self.peer.write(CONTINUE)

    def start(self, status: Any, headers: Any) -> None:
        if self.task is not None:
            self.peer.refresh()  # time has passed since the request came
        if status.__class__ is not int:
            status = as_status(status)  # 200.0 would be found among the heads kept for 200
        if headers.__class__ is not list:
            headers = as_list(headers)
        try:
            made = self.peer.heads.get((status, *headers))
        except TypeError:  # pairs that are lists
            made = None
        head, self._length = made or self._make(status, headers)
        self._bare = status in BARE or self.scope.get("method") == "HEAD"
        self._parts = [head]
        self.status = status
        self.stage = STARTED

    def _make(self, status: Any, headers: Any) -> tuple[bytes, int]:
        """The head's beginning and its Content-Length, kept for the next answer like this one
        (measured: a twentieth of all that a request costs us)."""
        parts = [self._head(status)]
        try:
            length = add_lines(headers, parts)
            if length == SPECIAL:
                length = self._start_specially(status, headers, parts)
                return b"".join(parts), length
        except HeaderError as error:
            raise ContractError(str(error)) from None
        made = (b"".join(parts), length)
        if len(made[0]) <= WORTH_KEEPING:
            if len(self.peer.heads) >= MOST_KEPT:
                self.peer.heads.clear()
            self.peer.heads[(status, *headers)] = made
        return made

    def _head(self, status: int) -> bytes:
        if status not in STATUS_LINES:
            raise ContractError(f"the status {status!r} is not a number from 200 to 999")
        return self.peer.head_of(status, frozenset())

    def _start_specially(self, status: Any, headers: list[Any], parts: list[bytes]) -> int:
        judged = judge_all(headers)
        if judged.names:
            parts[0] = self.peer.head_of(status, judged.names)
        parts[1:] = judged.lines
        if judged.closes:
            self.keeps = False
        return judged.length

    def answer(self, body: bytes) -> None:
        """The most common case: the body came in one piece."""
        if self._bare:
            self._answer_bare(body)
            return
        size = len(body)
        if self._length != size and self._length != UNKNOWN:
            raise ContractError(f"Content-Length is {self._length}, and the body has {size} bytes")
        peer = self.peer
        parts = self._parts
        if not self.keeps or not self.complete or self.old:
            self._add_connection(parts)
        end = ends.get(size) or end_of_head(size)
        self.stage = ENDED
        if size < COPIED:
            parts += (end, body)
            data = b"".join(parts)
            peer.write(data)
            peer.answered(self, len(data))
        elif not peer.has_room(size):
            self.stage = STARTED
            self._abandon(503)
        else:
            parts.append(end)
            data = b"".join(parts)
            peer.write_all([data, body])
            peer.answered(self, len(data) + size)

    def _answer_bare(self, body: bytes) -> None:
        """An answer to HEAD, or one with 204 or 304: what is sent has no body."""
        parts = self._parts
        self._add_connection(parts)
        if self.status == 204:
            parts.append(b"\r\n")
        elif self._length != UNKNOWN:
            parts.append(end_of_head(self._length))
        else:
            # RFC 9110 §8.6: of a body that the app did not make nobody knows the length.
            parts.append(end_of_head(len(body)) if body and self.status != 304 else b"\r\n")
        data = b"".join(parts)
        self.stage = ENDED
        self.peer.write(data)
        self.peer.answered(self, len(data))

    def stream(self, body: bytes, more: bool) -> None:
        """One piece of a body that comes in several."""
        if more and self.stage is STREAMING and self.chunked and 0 < len(body) < COPIED:
            self._collect(b"%x\r\n%b\r\n" % (len(body), body))  # most pieces
            return
        pieces = [self._begin_stream()] if self.stage is STARTED else []
        if not self._bare:
            self._count(len(body), more)
            if self.chunked:
                pieces.append(chunk(body) if more else chunk(body) + LAST_CHUNK)
            else:
                pieces.append(body)
        self._put(pieces)
        if not more:
            self._end()

    def _begin_stream(self) -> bytes:
        """The head of an answer whose body comes in several pieces."""
        self.sent = 0
        self._trailers = []
        self._gathered = []
        self._flush_at = COPIED
        self._will_flush = False
        self.chunked = self._length == UNKNOWN and not self._bare and not self.old
        if self.old and self._length == UNKNOWN and not self._bare:
            self.keeps = False  # the end of the connection is the end of the body
        self.endless = self.chunked and any(EVENTS in line.lower() for line in self._parts)
        self._add_connection(self._parts)
        self.stage = STREAMING
        self._left = self._length
        head = self._streaming_head()
        self.head_size = len(head)
        return head

    def show_head(self) -> None:
        """Send the head now, since the body is not there yet."""
        if self.stage is STARTED and not self.gone:
            self._put([self._begin_stream()])
            self._flush()

    def _count(self, size: int, more: bool) -> None:
        """Hold the body to the length that the head has told."""
        if self._length != UNKNOWN:
            self._left -= size
            if self._left < 0 or (self._left and not more):
                rule = "more" if self._left < 0 else "fewer"
                raise ContractError(f"the body has {rule} bytes than its Content-Length")

    def _end(self) -> None:
        self._flush()
        self.stage = ENDED
        self.peer.answered(self, self.sent)

    def _streaming_head(self) -> bytes:
        parts = self._parts
        if self._length != UNKNOWN and self.status != 204:
            parts.append(end_of_head(self._length))
        elif self._bare or not self.chunked:
            parts.append(b"\r\n")
        else:
            parts.append(CHUNKED_END)
        return b"".join(parts)

    def _put(self, pieces: list[bytes]) -> None:
        size = sum(map(len, pieces))
        if size >= COPIED:
            self._flush()
            self.sent += size
            self.peer.write_all(pieces)
        elif size:
            self._collect(b"".join(pieces))

    def _collect(self, data: bytes) -> None:
        """Write this soon: at the end of the loop's turn, or when there is enough of it."""
        self.sent = sent = self.sent + len(data)
        self._gathered.append(data)
        if sent > self._flush_at or not self.gathers:
            self._flush()
        elif not self._will_flush:
            self._will_flush = True
            asyncio.get_running_loop().call_soon(self._flush_late)

    def _flush_late(self) -> None:
        self._will_flush = False
        self._flush()

    def _flush(self) -> None:
        if self._gathered:
            data = b"".join(self._gathered)
            self._gathered.clear()
            self._flush_at = self.sent + COPIED
            if not self.gone:
                self.peer.write(data)

    def _add_connection(self, parts: list[bytes]) -> None:
        """Decide whether the connection is kept, and say so where it is not understood."""
        if not (self.complete or self.peer.can_drain(self)):
            self.keeps = False
        if not self.keeps:
            parts.append(CLOSE)
        elif self.old:
            parts.append(KEEP)

    def fit(self, size: int) -> int:
        if self._length == UNKNOWN:
            if self.stage is STREAMING:
                return size  # the head is out, without a length
            self._length = size  # which the app may leave to us
        return min(size, self._length)

    async def stream_file(self, file: int, offset: int, count: int, more: bool) -> None:
        pieces = [self._begin_stream()] if self.stage is STARTED else []
        endless, self.endless = self.endless, False  # to be ended between two chunks alone
        if self._bare:
            count = 0
        else:
            self._count(count, more)
        if self.chunked and count:
            pieces.append(b"%x\r\n" % count)
        self._put(pieces)
        self._flush()
        if count:
            try:
                await self.peer.send_file(file, offset, count)
            except ClientGone:
                self.leave(gone=True)  # it may be known here first
                raise
            self.sent += count
        self.endless = endless
        if self.chunked:
            self._put([b"\r\n" if count else b"", b"" if more else LAST_CHUNK])
        if not more:
            self._end()

    def hint(self, links: list[tuple[bytes, bytes]]) -> None:
        """Not to HTTP/1.0, which knows no such answer (RFC 9110 §15.2)."""
        lines = [EARLY_HINTS]
        if _add_lines(links, lines) != UNKNOWN:
            raise ContractError("an early hint has other headers than links")
        if not self.old:
            self.peer.write(b"".join(lines) + b"\r\n")

    def trail(self, headers: Any, more: bool) -> None:
        """After the last chunk (RFC 9112 §7.1.2), to a client that says that it takes trailers."""
        if _add_lines(as_list(headers), self._trailers) != UNKNOWN:
            raise ContractError("what frames a message cannot be a trailer")
        if more:
            return
        if self.chunked and _takes_trailers(self.scope["headers"]):
            self._put([b"0\r\n", *self._trailers, b"\r\n"])
            self._end()
        else:
            self.stream(b"", more=False)

    def _abandon(self, status: int) -> None:
        if getattr(self, "_gathered", None):
            self._flush()  # the app had sent it
        super()._abandon(status)

    def end_stream(self) -> None:
        """End a stream of events between two chunks, since the worker leaves; else do nothing.

        Its client sees a whole answer and connects again, to a sibling. Any other answer without
        a length is left alone: ended early it would pass for complete.
        """
        if self.stage is STREAMING and self.endless:
            self._put([LAST_CHUNK])
            self._flush()
            self.stage = ENDED
            self.leave(gone=True)
            self.peer.answered(self, self.sent)


def _add_lines(headers: list[Any], lines: list[bytes]) -> int:
    try:
        return add_lines(headers, lines)
    except HeaderError as error:
        raise ContractError(str(error)) from None


def _takes_trailers(headers: list[tuple[bytes, bytes]]) -> bool:
    """Whether a request's TE says so (RFC 9110 §6.5.1)."""
    return any(
        part.strip().lower() == b"trailers"
        for name, value in headers
        if name == b"te"
        for part in value.split(b",")
    )


def as_list(headers: Any) -> list[Any]:
    try:
        return list(headers)
    except TypeError:
        raise ContractError(
            f"headers are a {type(headers).__name__}, not a list of pairs"
        ) from None


def as_status(status: Any) -> int:
    if isinstance(status, int):  # http.HTTPStatus, too
        return int(status)
    raise ContractError(f"the status {status!r} is not a number from 200 to 999")
