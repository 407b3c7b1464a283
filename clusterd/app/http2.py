"""HTTP/2's side of an exchange: the answer as a head, pieces of a body, and trailers.

Frames, windows and the order of streams are the connection's business; here is what an answer is.
"""

from typing import Any, Protocol

from clusterd.app.asgi import Asgi
from clusterd.app.exchange import ENDED, STARTED, STREAMING, Exchange
from clusterd.app.http1 import BARE, EVENTS, MOST_KEPT, WORTH_KEEPING, as_list, as_status
from clusterd.app.peer import ContractError, Peer
from clusterd.app.wsgi import SLOTS as WSGI_SLOTS
from clusterd.app.wsgi import Wsgi
from clusterd.wire.http2_fields import (
    add_fields,
    judge_fields,
    length_field,
    status_field,
)
from clusterd.wire.response import SPECIAL, UNKNOWN, HeaderError
from clusterd.wire.tables import STATUS_LINES

CONTINUE, EARLY_HINTS = status_field(100), status_field(103)


class Http2Peer(Peer, Protocol):
    """What an answer needs of its stream. All that is sent goes out in the order of the calls."""

    heads: dict[tuple[Any, ...], tuple[bytes, int]]  # (status, *headers) → head, Content-Length

    def send_interim(self, head: bytes) -> None:
        """A head of status 1xx."""

    def send_head(self, head: bytes, end: bool) -> None: ...
    def send_body(self, body: bytes, end: bool) -> None: ...
    def send_trailers(self, fields: bytes) -> None:
        """The end."""


class Http2(Exchange):
    """To be mixed with `Asgi` or `Wsgi`, which speak to the app."""

    __slots__ = ("_bare", "_head", "_left", "_length", "_trailers", "endless")

    peer: Http2Peer
    endless: bool  # a stream of events, which no client takes for a cut answer when it ends
    _head: bytes
    _length: int
    _left: int
    _bare: bool
    _trailers: list[bytes]

    def go_on(self) -> None:
        self.expects = False
        self.peer.send_interim(CONTINUE)

    def start(self, status: Any, headers: Any) -> None:
        if self.task is not None:
            self.peer.refresh()  # time has passed since the request came
        if status.__class__ is not int:
            status = as_status(status)
        if headers.__class__ is not list:
            headers = as_list(headers)
        try:
            made = self.peer.heads.get((status, *headers))
        except TypeError:  # pairs that are lists
            made = None
        self._head, self._length = made or self._make(status, headers)
        self._bare = status in BARE or self.scope["method"] == "HEAD"
        self.status = status
        self.stage = STARTED

    def _make(self, status: Any, headers: Any) -> tuple[bytes, int]:
        """The head less its Content-Length, and that; kept for the next answer like this one."""
        if status not in STATUS_LINES:
            raise ContractError(f"the status {status!r} is not a number from 200 to 999")
        parts = [self.peer.head_of(status, frozenset())]
        try:
            length = add_fields(headers, parts)
            if length == SPECIAL:
                judged = judge_fields(headers)
                parts = [self.peer.head_of(status, judged.names), *judged.lines]
                return b"".join(parts), judged.length
        except HeaderError as error:
            raise ContractError(str(error)) from None
        made = (b"".join(parts), length)
        if len(made[0]) <= WORTH_KEEPING:
            if len(self.peer.heads) >= MOST_KEPT:
                self.peer.heads.clear()
            self.peer.heads[(status, *headers)] = made
        return made

    def answer(self, body: bytes) -> None:
        head, length, size = self._head, self._length, len(body)
        if self._bare:
            if self.status != 204 and length != UNKNOWN:
                head += length_field(length)
            elif self.status not in BARE and size:  # else nobody knows it (RFC 9110 §8.6)
                head += length_field(size)
            size = 0
        elif length not in (size, UNKNOWN):
            raise ContractError(f"Content-Length is {length}, and the body has {size} bytes")
        else:
            head += length_field(size)
        self.stage = ENDED
        peer = self.peer
        if size:
            peer.send_head(head, end=False)
            peer.send_body(body, end=True)
        else:
            peer.send_head(head, end=True)
        peer.answered(self, len(head) + size)

    def stream(self, body: bytes, more: bool) -> None:
        """One piece of a body that comes in several."""
        if self.stage is STARTED:
            self._begin_stream()
        if not self._bare:
            if self._length != UNKNOWN:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    rule = "more" if self._left < 0 else "fewer"
                    raise ContractError(f"the body has {rule} bytes than its Content-Length")
            self.sent += len(body)
            if body or not more:
                self.peer.send_body(body, end=not more)
        if not more:
            self._end()

    def _begin_stream(self) -> None:
        self._trailers = []
        self._left = self._length
        self.endless = self._length == UNKNOWN and not self._bare and EVENTS in self._head.lower()
        head = self._head
        if self._length != UNKNOWN and self.status != 204:
            head += length_field(self._length)
        self.sent = self.head_size = len(head)
        self.stage = STREAMING
        self.peer.send_head(head, end=self._bare)

    def _end(self) -> None:
        self.stage = ENDED
        self.peer.answered(self, self.sent)

    def fit(self, size: int) -> int:
        if self._length == UNKNOWN:
            if self.stage is STREAMING:
                return size  # the head is out, without a length
            self._length = size  # which the app may leave to us
        return min(size, self._length)

    def hint(self, links: list[tuple[bytes, bytes]]) -> None:
        fields = [EARLY_HINTS]
        _add(links, fields)
        self.peer.send_interim(b"".join(fields))

    def trail(self, headers: Any, more: bool) -> None:
        """RFC 9113 §8.1: any client can read trailers, whether or not it looks at them."""
        _add(as_list(headers), self._trailers)
        if more:
            return
        if self._trailers and not self._bare:
            fields = b"".join(self._trailers)
            self.sent += len(fields)
            self.peer.send_trailers(fields)
            self._end()
        else:
            self.stream(b"", more=False)

    def end_stream(self) -> None:
        """As in HTTP/1: a stream of events ends here, and its client comes back to a sibling."""
        if self.stage is STREAMING and self.endless:
            self.peer.send_body(b"", end=True)
            self.stage = ENDED
            self.leave(gone=True)
            self.peer.answered(self, self.sent)


class AsgiHttp2(Asgi, Http2):
    """An ASGI app's exchange over HTTP/2."""

    __slots__ = ()


class WsgiHttp2(Wsgi, Http2):
    """A WSGI app's exchange over HTTP/2."""

    __slots__ = WSGI_SLOTS


def _add(headers: list[Any], fields: list[bytes]) -> None:
    try:
        length = add_fields(headers, fields)
    except HeaderError as error:
        raise ContractError(str(error)) from None
    if length != UNKNOWN:
        raise ContractError("what frames a message has no place here")
