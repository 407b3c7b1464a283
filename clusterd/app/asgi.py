"""ASGI's side of an exchange: `receive` and `send`, as the app sees them."""

import asyncio
import os
import stat
from typing import Any

from clusterd.app.exchange import (
    ENDED,
    STARTED,
    STREAMING,
    TURN,
    WAITING,
    Exchange,
    Message,
    Trailers,
)
from clusterd.app.http1 import Http1
from clusterd.app.peer import ClientGone, ContractError

SMALL = 64 * 1024  # bytes of a file that go out with the head; to read them costs microseconds


class Asgi(Exchange):
    """To be mixed with `Http1` or `Http2`, which make the answer's bytes."""

    __slots__ = ()
    interface = "ASGI"
    gathers = True

    async def run(self) -> None:
        """The whole exchange, as a task. Never raises what the app raises."""
        try:
            await self.peer.app(self.scope, self.receive, self.send)
        except BaseException as error:  # also SystemExit: one request must not cost the worker
            if is_thrown_away(error):
                raise
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
            try:
                headers = message["headers"]  # seldom left out, and `get` is a call
            except KeyError:
                headers = ()
            self.start(message.get("status"), headers)
            if len(message) > 3 and message.get("trailers"):
                # The head goes at once: what follows is a stream, whatever its pieces look like.
                self.stream(b"", more=True)
                self.trailers = Trailers.ANNOUNCED
            elif self.task is not None:
                self.peer.begins(self)
        elif kind == "http.response.body":
            body = message.get("body", b"")
            if body.__class__ is not bytes:
                body = _as_bytes(body)
            more = message.get("more_body")
            if self.stage is STARTED and not more:
                self.answer(body)
                if self._waiters is not None:
                    self._wake()  # an app that listens meanwhile hears that this is over
            elif self.stage is WAITING or self.stage is ENDED or self.trailers:
                await self._stream_before_trailers(body, bool(more))
            else:
                self.stream(body, bool(more))
                if self.stage is ENDED:
                    if self._waiters is not None:
                        self._wake()
                elif self.peer.is_paused:
                    await self.peer.drain()
                elif self.sent > self._turn:
                    # An app that never waits would keep the loop from all others, and from
                    # hearing that its client has left.
                    self._turn = self.sent + TURN
                    await asyncio.sleep(0)
        else:
            await self._extend(kind, message)
            if self._waiters is not None and self.stage is ENDED:
                self._wake()

    def _check_piece(self, kind: str) -> None:
        """Raises ContractError where no piece of a body belongs."""
        if self.stage is WAITING:
            raise ContractError(f"{kind} was sent before http.response.start")
        if self.stage is ENDED or self.trailers is Trailers.DUE:
            raise ContractError(f"{kind} was sent after the end of the body")
        if self.trailers is Trailers.LATER:
            raise ContractError(f"{kind} was sent while a file was being sent")

    async def _stream_before_trailers(self, body: bytes, more: bool) -> None:
        self._check_piece("http.response.body")
        self.stream(body, more=True)
        if not more:
            self.trailers = Trailers.DUE
        await self.peer.drain()

    # --- what the scope's extensions offer

    async def _extend(self, kind: Any, message: Message) -> None:
        if kind == "http.response.early_hint":
            links = _as_links(message.get("links", ()))
            if self.stage is WAITING or self.stage is STARTED:
                self.hint(links)  # else it is too late: the head is on its way
        elif kind == "http.response.pathsend":
            await self._send_path(message)
        elif kind == "http.response.zerocopysend":
            self._check_piece(kind)
            await self._send_part(message)
        elif kind == "http.response.trailers":
            if self.stage is ENDED or self.trailers is not Trailers.DUE:
                raise ContractError(f"{kind} was sent unannounced, or before the end of the body")
            self.trail(message.get("headers", ()), bool(message.get("more_trailers")))
        else:
            raise ContractError(f"{kind!r} is not a message that an HTTP answer has")

    async def _send_path(self, message: Message) -> None:
        """A whole file, and the end."""
        if self.stage is STREAMING and self.sent != self.head_size:
            raise ContractError("http.response.pathsend was mixed with http.response.body")
        self._check_piece("http.response.pathsend")
        # Not to wait for whoever writes into a pipe of that name.
        file = os.open(message["path"], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            about = os.fstat(file)
            if not stat.S_ISREG(about.st_mode):
                raise ContractError("http.response.pathsend names what is not a file")
            size = self.fit(about.st_size)
            if size <= SMALL:
                data = os.pread(file, size, 0)
                if self.stage is STARTED:
                    self.answer(data)
                else:
                    self.stream(data, more=False)
            else:
                await self._send_file(file, 0, size, more=False)
        finally:
            os.close(file)

    async def _send_part(self, message: Message) -> None:
        """A part of an open file, from where it stands unless told; it then stands at its end."""
        source = message["file"]
        file = source if isinstance(source, int) else source.fileno()
        offset, count = message.get("offset"), message.get("count")
        start = os.lseek(file, 0, os.SEEK_CUR) if offset is None else offset
        left = max(0, os.fstat(file).st_size - start)
        count = left if count is None else min(count, left)
        more = bool(message.get("more_body"))
        await self._send_file(file, start, count, more or self.trailers is not Trailers.NONE)
        if self.trailers and not more:
            self.trailers = Trailers.DUE
        if offset is None:
            os.lseek(file, start + count, os.SEEK_SET)

    async def _send_file(self, file: int, offset: int, count: int, more: bool) -> None:
        """With the way barred to an app that sends from two tasks at once."""
        before, self.trailers = self.trailers, Trailers.LATER
        try:
            await self.stream_file(file, offset, count, more)
        finally:
            self.trailers = before


def is_thrown_away(error: BaseException) -> bool:
    """Whether a coroutine is closed because its loop is, and not by what the app raised."""
    if not isinstance(error, GeneratorExit):
        return False
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class AsgiHttp1(Asgi, Http1):
    """An ASGI app's exchange over HTTP/1."""

    __slots__ = ()


def _as_bytes(body: object) -> bytes:
    if isinstance(body, bytes | bytearray | memoryview):
        return bytes(body)
    raise ContractError(f"the body is a {type(body).__name__}, not bytes")


def _as_links(links: Any) -> list[tuple[bytes, bytes]]:
    try:
        return [(b"link", link) for link in links]
    except TypeError:
        raise ContractError(f"links are a {type(links).__name__}, not a list") from None
