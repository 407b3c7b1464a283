"""The exchange: one request in flight and its answer, between an app and a connection.

Protocol- and interface-neutral: what is here is the request's body, the client's leaving and the
app's failures. An answer's bytes are made by `Http1` or `Http2`, the app is spoken to by `Asgi` or
`Wsgi`; a class of each together makes a whole exchange. The connection's side is `app.peer`.

Everything that an app may do wrong ends as a `ContractError`, which names the rule, goes to the app
as an exception and to the log once, and costs one 500 or one closed connection.
"""

import asyncio
import enum
import os
import sys
from abc import abstractmethod
from typing import Any, ClassVar

from clusterd.app.extensions import PATH_SEND
from clusterd.app.peer import ClientGone, ContractError, Peer, has_client_gone
from clusterd.app.scope import describe
from clusterd.core.log import get_logger

logger = get_logger("clusterd.app")

Message = dict[str, Any]
TURN = 1024 * 1024  # bytes of a stream after which others get a turn of the loop
# What may be behind a response without a body, where the extension was offered.
LOST_FILE = (
    f". If it sent a file, a middleware has dropped the message {PATH_SEND}: "
    "such middlewares work with file_extensions = false"
)
PIECE = 256 * 1024  # bytes of a file that are read at a time


class Stage(enum.IntEnum):
    """How far the answer is."""

    WAITING = 0  # for its status
    STARTED = 1  # the head is made, not sent
    STREAMING = 2  # the head is sent
    ENDED = 3


WAITING, STARTED, STREAMING, ENDED = Stage


class Trailers(enum.IntEnum):
    """Whether the app has trailers to send after the body."""

    NONE = 0
    ANNOUNCED = 1
    DUE = 2  # the body has ended
    LATER = 3  # a file is on its way: nothing may come in between


NO_TRAILERS = Trailers.NONE


class Exchange:
    """One request in flight. Made by the connection, which keeps it until it is `ENDED`.

    Not an ABC: a metaclass of their own keeps CPython from making objects the fast way.
    """

    __slots__ = (
        "_end_told",
        "_turn",
        "_waiters",
        "began",
        "body",
        "complete",
        "expects",
        "gone",
        "head_size",
        "keeps",
        "left",
        "old",
        "peer",
        "scope",
        "sent",
        "stage",
        "status",
        "task",
        "trailers",
    )

    interface: ClassVar[str]  # for messages: the contract that the app is held to
    gathers: ClassVar[bool] = False  # small pieces may wait until the app lets go of the loop
    status: int  # set with the head
    head_size: int  # bytes of the head of a streamed response
    sent: int  # bytes of a streamed answer, head included

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
        self.trailers = NO_TRAILERS
        self._end_told = False
        self._turn = TURN
        self._waiters: list[asyncio.Future[None]] | None = None

    # --- for whoever speaks to the app

    @abstractmethod
    async def run(self) -> None:
        """The whole exchange, as a task. Never raises what the app raises."""

    @abstractmethod
    def start(self, status: Any, headers: Any) -> None:
        """Take the answer's status and headers; raises ContractError for what cannot be sent."""

    @abstractmethod
    def answer(self, body: bytes) -> None:
        """After `start`: the whole body, and the end."""

    @abstractmethod
    def stream(self, body: bytes, more: bool) -> None:
        """After `start`: one piece of a body that comes in several; `more` follow."""

    def show_head(self) -> None:
        """After `start`: send the head now, since the body is not there yet.

        Do nothing where the head was sent meanwhile, or cannot be sent any more.
        """
        if self.stage is STARTED and not self.gone:
            self.stream(b"", more=True)

    def fit(self, size: int) -> int:
        """After `start`: a whole file is the body. How much of its `size` the answer has room for.

        That is less than all where the file grew since the app told its length.
        """
        return size

    async def stream_file(self, file: int, offset: int, count: int, more: bool) -> None:
        """As `stream`, from a file's descriptor. Raises ContractError where the file ends early."""
        loop = asyncio.get_running_loop()
        while count:
            piece = await loop.run_in_executor(None, os.pread, file, min(count, PIECE), offset)
            if self.gone:
                raise ClientGone("the client has left")
            if not piece:
                raise ContractError("the file ended before the part of it that was to be sent")
            offset += len(piece)
            count -= len(piece)
            self.stream(piece, more=True)
            await self.peer.drain()
        if not more:
            self.stream(b"", more=False)

    def hint(self, links: list[tuple[bytes, bytes]]) -> None:
        """Before the answer's head: tell the client of links that it will have (RFC 8297)."""

    def trail(self, headers: Any, more: bool) -> None:
        """After the body of an answer with trailers: some of them, the last unless `more` follow.

        Sent where protocol and client want them; the answer ends in any case.
        """
        if not more:
            self.stream(b"", more=False)

    @abstractmethod
    def end_stream(self) -> None:
        """End a stream that has no end of its own, since the worker leaves; else do nothing."""

    @abstractmethod
    def go_on(self) -> None:
        """The client waits for 100 Continue, and the app for the body."""

    # --- the connection's side

    @property
    def waiting(self) -> int:
        """Return the bytes of memory that the request's body takes while it waits for the app."""
        return sys.getsizeof(self.body) if self.body else 0

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
        if gone:
            self.body = b""  # the app is not given it any more, and may hold us for long
        if self._waiters is not None:
            self._wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    # --- the app's failures

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError) and self._is_cancelled():
            self._abandon(503)
            return
        if not (self.gone and has_client_gone(error)):
            self.peer.blame()
            if isinstance(error, ContractError):
                logger.error(
                    "the app broke the %s contract: %s",
                    self.interface,
                    error.message,
                    exc_info=error,
                    extra=describe(self.scope),
                )
            else:
                logger.error(
                    "the app failed: %s",
                    type(error).__name__,
                    exc_info=error,
                    extra=describe(self.scope),
                )
        self._abandon(500)

    def _is_cancelled(self) -> bool:
        """Return whether we cancelled the application, as a drain does when time is over.

        Else it raised CancelledError by itself, say by awaiting a task that it had cancelled, which
        is a failure like any other.
        """
        return isinstance(self.task, asyncio.Task) and self.task.cancelling() > 0

    def _unfinished(self) -> None:
        """The app returned, and the answer has no end: its fault, unless the client left first."""
        if not self.left:
            self.peer.blame()
            rule = "without an answer" if self.stage is WAITING else "before the end of its answer"
            logger.error(
                "the app broke the %s contract: it returned %s%s",
                self.interface,
                rule,
                LOST_FILE if PATH_SEND in self.scope.get("extensions", ()) else "",
                extra=describe(self.scope),
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
