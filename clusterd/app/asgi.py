"""The ASGI exchange: one request and its answer, between the app and the connection.

The app's side is `receive` and `send`; everything it may do wrong ends as a `ContractError`, which
names the rule, goes to the app as an exception and to the log once, and costs one 500 or one
closed connection. The connection's side is `app.peer`.

A whole answer is one write: the head waits for the first piece of the body (as ASGI demands).
"""

import asyncio
import enum
import logging
from typing import Any

from clusterd.app.peer import ClientGone, ContractError, Peer, has_client_gone
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

logger = logging.getLogger("clusterd.app")

Message = dict[str, Any]
BARE = frozenset({204, 304})  # statuses of answers that have no body
TURN = 1024 * 1024  # bytes of a stream after which others get a turn of the loop
EVENTS = b"text/event-stream"
COPIED = 16 * 1024  # bytes; larger pieces are handed to the transport beside their framing


class Stage(enum.IntEnum):
    """How far the answer is."""

    WAITING = 0  # for http.response.start
    STARTED = 1  # the head is made, not sent
    STREAMING = 2  # the head is sent
    ENDED = 3


WAITING, STARTED, STREAMING, ENDED = Stage


class Exchange:
    """One request in flight. Made by the connection, which keeps it until it is `ENDED`."""

    __slots__ = (
        "_bare",
        "_end_told",
        "_left",
        "_length",
        "_parts",
        "_turn",
        "_waiters",
        "began",
        "body",
        "chunked",
        "complete",
        "endless",
        "expects",
        "gone",
        "keeps",
        "left",
        "old",
        "peer",
        "scope",
        "sent",
        "stage",
        "status",
        "task",
    )

    status: int  # set with the head
    sent: int  # bytes of a streamed answer, head included
    chunked: bool
    endless: bool  # a stream of events, which no client takes for a cut answer when it ends
    _parts: list[bytes]
    _length: int
    _left: int
    _bare: bool

    def __init__(self, peer: Peer, scope: Message, began: float, keeps: bool) -> None:
        self.peer = peer
        self.scope = scope
        self.began = began  # monotonic seconds
        self.keeps = keeps  # the connection is kept after this answer
        self.complete = True  # the request's body has been read to its end
        self.expects = False  # the client waits for 100 Continue
        self.old = False  # HTTP/1.0: no chunks, no 100 Continue, and keeping must be said
        self.left = False  # the client closed its side: the app is told, and may still answer
        self.gone = False  # the connection is lost, or answered by us
        self.body: bytes | bytearray = b""  # read, and not yet taken by the app
        self.stage = WAITING
        self.task: asyncio.Task[None] | None = None
        self._end_told = False
        self._turn = TURN
        self._waiters: list[asyncio.Future[None]] | None = None

    # --- the app's side

    async def run(self) -> None:
        """The whole exchange, as a task. Never raises what the app raises."""
        try:
            await self.peer.app(self.scope, self.receive, self.send)
        except GeneratorExit:
            raise
        except BaseException as error:  # also SystemExit: one request must not cost the worker
            self._failed(error)
        else:
            if self.stage is not ENDED:
                self._unfinished()
        if self.task is not None:
            self.peer.finished(self)

    async def receive(self) -> Message:
        """The next `http.request`, or `http.disconnect`."""
        while True:
            if self.gone or self.stage is ENDED:
                return {"type": "http.disconnect"}
            if self.body or (self.complete and not self._end_told):
                body, self.body = self.body, b""
                self._end_told = self.complete
                if not self.complete:
                    self.peer.body_taken()
                return {
                    "type": "http.request",
                    "body": bytes(body),
                    "more_body": not self.complete,
                }
            if self.left:
                return {"type": "http.disconnect"}
            if self.expects and self.stage is WAITING:
                self.expects = False
                self.peer.write(CONTINUE)
            waiter = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    async def send(self, message: Message) -> None:
        """Take the app's next message."""
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise ContractError("what was sent is not a dict with a type") from None
        if self.gone:
            raise ClientGone("the client has left")
        if kind == "http.response.start":
            if self.stage is not WAITING:
                raise ContractError("http.response.start was sent twice")
            self._start(message)
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if body.__class__ is not bytes:
                body = _as_bytes(body)
            if self.stage is STARTED and not message.get("more_body"):
                self._answer_whole(body)
            elif self.stage is WAITING:
                raise ContractError("http.response.body was sent before http.response.start")
            elif self.stage is ENDED:
                raise ContractError("http.response.body was sent after the end of the body")
            else:
                self._stream(body, bool(message.get("more_body")))
                if self.peer.is_paused and self.stage is not ENDED:
                    await self.peer.drain()
                elif self.sent > self._turn and self.stage is not ENDED:
                    # An app that never waits would keep the loop from all others, and from
                    # hearing that its client has left.
                    self._turn = self.sent + TURN
                    await asyncio.sleep(0)
        else:
            raise ContractError(f"{kind!r} is not a message that an HTTP answer has")

    # --- the connection's side

    def add_body(self, data: bytes) -> None:
        """More of the request's body was read."""
        self.expects = False  # the client did not wait for us
        if not self.body:
            self.body = data
        elif isinstance(self.body, bytearray):
            self.body += data
        else:
            # Many tiny chunks must cost neither an object each nor a copy of all before.
            self.body = bytearray(self.body)
            self.body += data
        if self._waiters is not None:
            self._wake()

    def end_body(self) -> None:
        self.complete = True
        self.expects = False
        if self._waiters is not None:
            self._wake()

    def leave(self, gone: bool) -> None:
        """The client closed its side, or is gone altogether: the app is told."""
        self.left = True
        self.gone = self.gone or gone
        if self._waiters is not None:
            self._wake()

    def end_stream(self) -> None:
        """End a stream of events between two chunks, since the worker leaves; else do nothing.

        Its client sees a whole answer and connects again, to a sibling. Any other answer without
        a length is left alone: ended early it would pass for complete.
        """
        if self.stage is STREAMING and self.endless:
            self.keeps = False
            self._put([LAST_CHUNK])
            self.stage = ENDED
            self.leave(gone=True)
            self.peer.answered(self, self.sent)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # --- the answer

    def _start(self, message: Message) -> None:
        if self.task is not None:
            self.peer.refresh()  # time has passed since the request came
        headers = message.get("headers", ())
        if headers.__class__ is not list:
            headers = _as_list(headers)
        status = message.get("status")
        try:
            head = self.peer.heads.get(status)  # type: ignore[arg-type]
        except TypeError:
            head = None
        if head is None:
            head = self._head(status)
        parts = [head]
        try:
            length = add_lines(headers, parts)
            if length == SPECIAL:
                length = self._start_specially(status, headers, parts)
        except HeaderError as error:
            raise ContractError(str(error)) from None
        self._length = length
        self._bare = status in BARE or self.scope["method"] == "HEAD"
        self._parts = parts
        self.status = status  # type: ignore[assignment]
        self.stage = STARTED

    def _head(self, status: object) -> bytes:
        if not isinstance(status, int) or status not in STATUS_LINES:
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

    def _answer_whole(self, body: bytes) -> None:
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
            parts.append(b"\r\n" if self.status == 304 else end_of_head(len(body)))
        data = b"".join(parts)
        self.stage = ENDED
        self.peer.write(data)
        self.peer.answered(self, len(data))

    def _stream(self, body: bytes, more: bool) -> None:
        """One piece of a body that comes in several."""
        pieces: list[bytes] = []
        if self.stage is STARTED:
            self.sent = 0
            self.chunked = self._length == UNKNOWN and not self._bare and not self.old
            if self.old and self._length == UNKNOWN and not self._bare:
                self.keeps = False  # the end of the connection is the end of the body
            self.endless = self.chunked and any(EVENTS in line.lower() for line in self._parts)
            self._add_connection(self._parts)
            pieces.append(self._streaming_head())
            self.stage = STREAMING
            self._left = self._length
        if not self._bare:
            if self._length != UNKNOWN:
                self._left -= len(body)
                if self._left < 0 or (self._left and not more):
                    rule = "more" if self._left < 0 else "fewer"
                    raise ContractError(f"the body has {rule} bytes than its Content-Length")
                pieces.append(body)
            elif not self.chunked:
                pieces.append(body)
            else:
                pieces.append(chunk(body) if more else chunk(body) + LAST_CHUNK)
        self._put(pieces)
        if not more:
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
        self.sent += size
        if size < COPIED:
            if size:
                self.peer.write(b"".join(pieces))
        else:
            self.peer.write_all(pieces)

    def _add_connection(self, parts: list[bytes]) -> None:
        """Decide whether the connection is kept, and say so where it is not understood."""
        if not (self.complete or self.peer.can_drain(self)):
            self.keeps = False
        if not self.keeps:
            parts.append(CLOSE)
        elif self.old:
            parts.append(KEEP)

    # --- the app's failures

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            self._abandon(503)
            return
        if not (self.gone and has_client_gone(error)):
            self.peer.blame()
            path = self.scope["path"]
            if isinstance(error, ContractError):
                logger.error(
                    "the app broke the ASGI contract: %s",
                    error.message,
                    exc_info=error,
                    extra={"fields": {"method": self.scope["method"], "path": path}},
                )
            else:
                logger.error(
                    "the app failed: %s",
                    type(error).__name__,
                    exc_info=error,
                    extra={"fields": {"method": self.scope["method"], "path": path}},
                )
        self._abandon(500)

    def _unfinished(self) -> None:
        """The app returned, and the answer has no end."""
        if not self.gone:
            self.peer.blame()
            rule = "without an answer" if self.stage is WAITING else "before the end of its answer"
            logger.error(
                "the app broke the ASGI contract: it returned %s",
                rule,
                extra={"fields": {"method": self.scope["method"], "path": self.scope["path"]}},
            )
        self._abandon(500)

    def _abandon(self, status: int) -> None:
        """End an answer that the app will not end."""
        if self.gone:
            self.stage = ENDED  # nobody is there to be told
        if self.stage is ENDED:
            return
        fresh = self.stage is not STREAMING
        self.stage = ENDED
        self.keeps = False
        self.status = status
        self.peer.abandoned(self, fresh)


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise ContractError(f"the body is a {type(body).__name__}, not bytes")


def _as_list(headers: Any) -> list[Any]:
    try:
        return list(headers)
    except TypeError:
        raise ContractError(
            f"headers are a {type(headers).__name__}, not a list of pairs"
        ) from None
