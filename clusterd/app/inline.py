"""Calling a WSGI app in the loop's own thread, one request after another.

Nothing may sleep there: an answer's pieces are fetched one a turn of the loop, and the next one
once the client has taken the last.

The app must not see that a loop runs in its thread: synchronous code asks for that to find out
whether it was called from a coroutine by mistake. Django then refuses each query, and
`asyncio.run`, which Flask's `async def` views need, refuses to begin.
"""

import asyncio
import contextlib
import contextvars
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from clusterd.app.exchange import ENDED
from clusterd.app.filewrapper import is_sendable, send_file
from clusterd.app.peer import ContractError
from clusterd.app.scope import calls_app
from clusterd.app.wsgi import Gateway, Wsgi, check_piece, gather

END = object()


def call_app(context: contextvars.Context, function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of the app as if no event loop ran in this thread."""
    loop = asyncio._get_running_loop()
    asyncio._set_running_loop(None)
    try:
        return context.run(function, *args)
    finally:
        asyncio._set_running_loop(loop)


@calls_app
def begin(exchange: Wsgi) -> None:
    """Call the app now."""
    gateway: Gateway = exchange.peer.app
    context = gateway.context.copy()
    try:
        result = call_app(context, gateway.app, exchange.environ(), exchange.start_response)
        body = gather(result)
        if body is None or exchange.committed:
            exchange.call = call = Inline(exchange, context, result)
            call.go_on()
            return
        exchange.whole(body)
    except BaseException as error:  # also SystemExit: one request must not cost the worker
        exchange.failed(error)
    if exchange.task is not None:
        exchange.finish()


class Inline:
    """A call in the loop's thread whose answer comes in pieces: one of them a turn."""

    __slots__ = ("_context", "_exchange", "_iterator", "_result")

    def __init__(self, exchange: Wsgi, context: contextvars.Context, result: Any) -> None:
        self._exchange = exchange
        self._context = context
        self._result = result
        self._iterator: Any = None

    def write(self, data: bytes) -> None:
        """Send a piece. There is no waiting for the client here, so the transport keeps it."""
        self._exchange.send(data, more=True)

    def show_head(self) -> None:
        """Send the head before the body has begun."""
        self._exchange.begin_answer()
        self._exchange.show_head()

    def news(self) -> AbstractContextManager[object]:
        return contextlib.nullcontext()  # nobody waits: it is seen in the next turn

    def go_on(self, _: object = None) -> None:
        """Send the next piece, and go on once the client has room for more."""
        exchange = self._exchange
        loop = exchange.peer.app.loop
        try:
            if is_sendable(exchange, self._result):
                loop.create_task(send_file(exchange, self._result)).add_done_callback(self._sent)
                return
            if not self._step():
                if exchange.peer.is_paused:
                    loop.create_task(exchange.peer.drain()).add_done_callback(self.go_on)
                else:
                    loop.call_soon(self.go_on)
                return
        except BaseException as error:
            exchange.failed(error)
        self._close()

    @calls_app
    def _step(self) -> bool:
        """Send the next piece; whether it was the last."""
        exchange, context = self._exchange, self._context
        if exchange.gone or exchange.stage is ENDED:
            return True
        if not exchange.is_iterated:
            exchange.is_iterated = True
            exchange.show_events()
            if exchange.committed:
                return False  # the head is written at the end of this turn of the loop
        if self._iterator is None:
            self._iterator = call_app(context, iter, self._result)
        piece: Any = call_app(context, next, self._iterator, END)
        if piece is not END:
            check_piece(piece)
            if not exchange.committed and len(piece) == exchange.told_length():
                return self._end(piece)
        if piece is END or (piece and exchange.scope["method"] == "HEAD"):
            exchange.send(b"", more=False)
            return True
        if piece:
            exchange.send(piece, more=True)
        return False

    def _end(self, piece: bytes) -> bool:
        """One piece is the whole answer, if the app keeps its word."""
        while (extra := call_app(self._context, next, self._iterator, END)) is not END:
            if extra:
                raise ContractError("the body has more bytes than its Content-Length")
        self._exchange.whole(piece)
        return True

    def _sent(self, task: asyncio.Task[None]) -> None:
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is not None:
            self._exchange.failed(error)
        self._close()

    def _close(self) -> None:
        close = getattr(self._result, "close", None)
        if close is not None:
            try:
                call_app(self._context, close)
            except BaseException as error:
                self._exchange.failed(error)
        self._exchange.finish()
