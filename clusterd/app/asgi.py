"""ASGI's side of an exchange: `receive` and `send`, as the app sees them."""

import asyncio

from clusterd.app.exchange import ENDED, STARTED, TURN, WAITING, Exchange, Message
from clusterd.app.http1 import Http1
from clusterd.app.peer import ClientGone, ContractError


class Asgi(Exchange):
    """To be mixed with `Http1` or `Http2`, which make the answer's bytes."""

    __slots__ = ()
    interface = "ASGI"

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
                self.go_on()
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
            self.start(message.get("status"), message.get("headers", ()))
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if body.__class__ is not bytes:
                body = _as_bytes(body)
            if self.stage is STARTED and not message.get("more_body"):
                self.answer(body)
            elif self.stage is WAITING:
                raise ContractError("http.response.body was sent before http.response.start")
            elif self.stage is ENDED:
                raise ContractError("http.response.body was sent after the end of the body")
            else:
                self.stream(body, bool(message.get("more_body")))
                if self.peer.is_paused and self.stage is not ENDED:
                    await self.peer.drain()
                elif self.sent > self._turn and self.stage is not ENDED:
                    # An app that never waits would keep the loop from all others, and from
                    # hearing that its client has left.
                    self._turn = self.sent + TURN
                    await asyncio.sleep(0)
        else:
            raise ContractError(f"{kind!r} is not a message that an HTTP answer has")


class AsgiHttp1(Asgi, Http1):
    """An ASGI app's exchange over HTTP/1."""

    __slots__ = ()


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise ContractError(f"the body is a {type(body).__name__}, not bytes")
