"""Calling a WSGI app in a thread.

An answer that is whole goes back to the loop as one message. One that comes in pieces goes as many
pieces at a time as have gathered; the thread runs ahead of its client by `AHEAD` bytes at most,
then it sleeps.
"""

import asyncio
import collections
import contextlib
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any

from clusterd.app.exchange import ENDED, WAITING
from clusterd.app.filewrapper import is_sendable, send_file
from clusterd.app.peer import ClientGone, ContractError
from clusterd.app.scope import calls_app
from clusterd.app.wsgi import Gateway, Pool, Wsgi, check_piece, gather

NEVER = math.inf
AHEAD = 64 * 1024  # bytes that an app may be ahead of its client


def begin(exchange: Wsgi) -> None:
    """Have the app called as soon as a thread is free."""
    gateway: Gateway = exchange.peer.app
    pool = gateway.pool
    assert pool is not None
    exchange.call = call = Threaded(exchange, gateway, pool)
    pool.submit(call)


class Threaded:
    """A call in a thread. `work` and what it calls run there, the rest in the loop's thread."""

    __slots__ = (
        "_bell",
        "_ended",
        "_error",
        "_file",
        "_gateway",
        "_is_held",
        "_is_over",
        "_is_slow",
        "_is_told",
        "_pieces",
        "_pool",
        "_shows_head",
        "_unsent",
        "_wants",
        "exchange",
        "since",
    )

    def __init__(self, exchange: Wsgi, gateway: Gateway, pool: Pool) -> None:
        self.exchange = exchange
        self._gateway = gateway
        self._pool = pool
        self._pieces: collections.deque[bytes] = collections.deque()  # on their way to the loop
        self._file: Any = None  # a FileWrapper on its way
        self._unsent = 0  # bytes
        self._is_told = False  # `_deliver` was called for, and did not run yet
        self._is_held = False  # nothing more is wanted until the client has taken what it has
        self._ended = False  # the body has no more pieces
        self._is_over = False  # the app is done with the request
        self._error: BaseException | None = None
        self._shows_head = False  # the head is to be sent before the body has begun
        self._wants = False  # the thread waits for more of the request's body
        # Held to change what the other side may wait for.
        self._bell: threading.Condition | None = None
        self._is_slow = not exchange.complete
        if self._is_slow:
            self._bell = threading.Condition(threading.Lock())
            gateway.slow += 1
        self.since = NEVER  # see `Job`

    # --- in the thread

    @calls_app
    def work(self) -> None:
        """Call the app, and send what it returns."""
        exchange, gateway = self.exchange, self._gateway
        try:
            if not exchange.gone:  # else it left while it waited for us
                # As it was when the call was made: the rest may have come meanwhile.
                environ = exchange.environ(self._more if self._is_slow else None)
                result: Any = gateway.app(environ, exchange.start_response)
                body = gather(result)
                if body is not None and not exchange.committed:
                    gateway.loop.call_soon_threadsafe(self._answer, body)
                    return
                self._send(result)
        except BaseException as error:  # also SystemExit: one request must not cost the worker
            self._error = error
        self._is_over = True
        self._tell()

    def _send(self, result: Any) -> None:
        exchange = self.exchange
        try:
            if is_sendable(exchange, result):
                self._file, result = result, None
                return
            only_head = exchange.scope["method"] == "HEAD"
            exchange.is_iterated = True
            exchange.show_events()
            for piece in result:
                check_piece(piece)
                if piece:
                    self.write(piece)
                    if only_head:
                        break
            self._ended = True
            self._tell()  # before the app cleans up, which may take long
        finally:
            close = getattr(result, "close", None)
            if close is not None:
                close()

    def write(self, data: bytes) -> None:
        """Send a piece; blocks while the client is too far behind. Raises ClientGone."""
        exchange = self.exchange
        if not exchange.code:
            raise ContractError("the body began before start_response was called")
        exchange.committed = True
        if self._bell is None:
            self._bell = threading.Condition(threading.Lock())
        with self._bell:
            if exchange.gone or exchange.stage is ENDED:
                raise ClientGone("the client has left, or was sent away")
            self._unsent += len(data)
            self._pieces.append(data)
            self._tell()
            self.since = NEVER
            while self._unsent > AHEAD and not exchange.gone and exchange.stage is not ENDED:
                self._bell.wait()
            self.since = time.monotonic()

    def show_head(self) -> None:
        """Send the head before the body has begun."""
        self._shows_head = True
        self._tell()

    def _more(self) -> bytes | bytearray:
        """What has come of the request's body; blocks until something has."""
        exchange, bell = self.exchange, self._bell
        assert bell is not None
        with bell:
            if not exchange.body and not exchange.complete:
                self._wants = True
                self._tell()
            self.since = NEVER
            while not (exchange.body or exchange.complete or exchange.left):
                bell.wait()
            self.since = time.monotonic()
            body, exchange.body = exchange.body, b""
        if not exchange.complete:
            if not body:
                raise ClientGone("the client left before the end of its body")
            self._gateway.loop.call_soon_threadsafe(exchange.peer.body_taken)
        return body

    def _tell(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._gateway.loop.call_soon_threadsafe(self._deliver)

    # --- in the loop

    def news(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext() if self._bell is None else self._ring(self._bell)

    @contextlib.contextmanager
    def _ring(self, bell: threading.Condition) -> Iterator[None]:
        with bell:
            yield
            bell.notify()

    def _answer(self, body: bytes) -> None:
        """The usual end: the app returned a list."""
        exchange = self.exchange
        if exchange.stage is WAITING and not exchange.gone:
            try:
                exchange.whole(body)
            except Exception as error:
                exchange.failed(error)
        self._finish()

    def _deliver(self) -> None:
        """Take over what the thread has for us."""
        # In the reverse of the order in which the thread sets them, so that what is seen to have
        # ended lacks no piece.
        self._is_told = False
        is_over, ended = self._is_over, self._ended
        pieces = [self._pieces.popleft() for _ in range(len(self._pieces))]
        exchange = self.exchange
        if exchange.stage is not ENDED and not exchange.gone:
            try:
                self._pass_on(pieces, ended)
            except Exception as error:
                exchange.failed(error)
        if not is_over:
            self._let_go_on()
            return
        if self._error is not None:
            exchange.failed(self._error)
            self._error = None  # its traceback holds `work`, and so us
        if self._file is None:
            self._finish()
        else:
            # The kernel sends it, and no thread waits for the client meanwhile.
            task = self._gateway.loop.create_task(send_file(exchange, self._file))
            task.add_done_callback(self._sent)

    def _pass_on(self, pieces: list[bytes], ended: bool) -> None:
        exchange = self.exchange
        if self._wants:
            self._wants = False
            if exchange.expects and exchange.stage is WAITING:
                exchange.go_on()
        if self._shows_head and exchange.stage is WAITING:
            exchange.begin_answer()
            exchange.show_head()
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        # Of an answer to HEAD only the first piece is here.
        is_whole = ended and exchange.stage is WAITING and exchange.scope["method"] != "HEAD"
        if is_whole and (len(pieces) < 2 or exchange.told_length() is not None):
            exchange.whole(data)
        elif ended or pieces:
            exchange.send(data, more=not ended)  # also a stream that came in one go, by chance

    def _let_go_on(self) -> None:
        """The thread may send more, once the client has room for it."""
        exchange = self.exchange
        if not exchange.peer.is_paused or exchange.gone or exchange.stage is ENDED:
            with self.news():
                self._unsent = 0
        elif not self._is_held:
            self._is_held = True
            self._gateway.loop.create_task(exchange.peer.drain()).add_done_callback(self._drained)

    def _drained(self, _: object) -> None:
        self._is_held = False
        self._let_go_on()

    def _sent(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self.exchange.failed(error)
        # What closes it is the app's, and may block: it is for a thread.
        close = getattr(self._file, "close", None)
        if close is not None:
            self._pool.submit(Closing(self.exchange, self._gateway.loop, self._pool, close))
        self._finish()

    def _finish(self) -> None:
        self._pool.done()
        self._gateway.slow -= self._is_slow
        self.exchange.finish()


class Closing:
    """What is left of a call once its file was sent."""

    __slots__ = ("_close", "_loop", "_pool", "exchange", "since")

    def __init__(
        self,
        exchange: Wsgi,
        loop: asyncio.AbstractEventLoop,
        pool: Pool,
        close: Callable[[], object],
    ) -> None:
        self.exchange = exchange
        self.since = NEVER
        self._loop = loop
        self._pool = pool
        self._close = close

    def work(self) -> None:
        """In a thread."""
        error: BaseException | None = None
        try:
            self._close()
        except BaseException as failure:
            error = failure
        self._loop.call_soon_threadsafe(self._finish, error)

    def _finish(self, error: BaseException | None) -> None:
        self._pool.done()
        if error is not None:
            self.exchange.failed(error)
