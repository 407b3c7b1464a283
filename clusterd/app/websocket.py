"""The ASGI session of one WebSocket: connect, accept or deny, receive, send, close, disconnect.

A handshake is a request whose answer may be 101, so a session is an exchange: a denial is made and
sent as any HTTP answer, and the app's failures end the same way. Once accepted, `STREAMING` is its
stage; after a close of the app's, `ENDED`.
"""

import asyncio
import sys
from collections import deque
from typing import Any, Protocol

from clusterd.app.asgi import is_thrown_away
from clusterd.app.exchange import ENDED, STARTED, STREAMING, TURN, WAITING, Message
from clusterd.app.http1 import Http1
from clusterd.app.peer import ClientGone, ContractError, Http1Peer
from clusterd.wire.response import HeaderError, Judged, judge_all
from clusterd.wire.upgrade import OURS
from clusterd.wire.websocket import LOST, NORMAL, WHOLE_BINARY, WHOLE_TEXT

MOST = 64  # messages that wait for the app before reading stops
ROOM = 64 * 1024  # bytes of them, or the one message that is longer
FORBIDDEN = 403  # what a close before the accept is (ASGI WebSocket)
UPGRADE = b"upgrade"


class Socket(Http1Peer, Protocol):
    """What a session needs of its connection, besides what any exchange does."""

    is_full: bool  # no message is read, until `more`

    def accept(self, session: "Session", subprotocol: str | None, judged: Judged) -> None: ...
    def say(self, first: int, data: bytes) -> None: ...
    def hang_up(self, code: int, reason: str) -> None: ...
    def more(self) -> None: ...


class Session(Http1):
    """One WebSocket as its app sees it."""

    __slots__ = ("_queue", "_size", "_told", "_why", "accepted")
    interface = "ASGI"
    peer: Socket

    def __init__(self, peer: Socket, scope: Message, began: float) -> None:
        super().__init__(peer, scope, began, keeps=False)
        self.sent = 0
        self.accepted = False
        self._told = False  # of the client, by websocket.connect
        self._queue: deque[Message] = deque()
        self._size = 0  # bytes that came since it was empty
        self._why: tuple[int, str] = (LOST, "")

    # --- the app's side

    async def run(self) -> None:
        """The whole session, as a task. Never raises what the app raises."""
        try:
            await self.peer.app(self.scope, self.receive, self.send)
        except BaseException as error:  # also SystemExit: one client must not cost the worker
            if is_thrown_away(error):
                raise
            self._failed(error)
        else:
            if self.stage is not ENDED and not self.accepted:
                self._unfinished()
            elif self.stage is not ENDED and not self.gone:
                self._close(NORMAL, "")
        self.peer.finished(self)

    async def receive(self) -> Message:
        """`websocket.connect`, then messages, then `websocket.disconnect`."""
        if not self._told:
            self._told = True
            return {"type": "websocket.connect"}
        while not self._queue:
            self._size = 0
            if self.gone or self.stage is ENDED:
                code, reason = self._why
                return {"type": "websocket.disconnect", "code": code, "reason": reason}
            if self.peer.is_full and self.accepted:
                await asyncio.sleep(0)  # a client that never pauses leaves others their turn
                self.peer.more()
                continue
            waiter = asyncio.get_running_loop().create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter
        return self._queue.popleft()

    async def send(self, message: Message) -> None:
        """Take the app's next message."""
        try:
            kind = message["type"]
        except (TypeError, KeyError):
            raise ContractError("what was sent is not a dict with a type") from None
        if self.stage is ENDED:
            raise ContractError(f"{kind} was sent after the end")
        if self.gone:
            raise ClientGone("the client has left")
        if kind == "websocket.send":
            if not self.accepted:
                raise ContractError("websocket.send was sent before websocket.accept")
            data = message.get("text")
            if data is not None and message.get("bytes") is None:
                try:
                    data = data.encode()
                except (AttributeError, UnicodeEncodeError):
                    raise ContractError("the text of a message is not a str of Unicode") from None
                self.peer.say(WHOLE_TEXT, data)
            else:
                data = _binary(message)
                self.peer.say(WHOLE_BINARY, data)
            self.sent += len(data)
            if self.peer.is_paused or self.sent > self._turn:
                await self._pace()
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._close(message.get("code") or NORMAL, message.get("reason") or "")
        elif kind in ("websocket.http.response.start", "websocket.http.response.body"):
            await self._deny(kind, message)
        else:
            raise ContractError(f"{kind!r} is not a message that a WebSocket has")

    # --- the connection's side

    @property
    def is_waiting(self) -> bool:
        """The app has seen every message, and asks for the next."""
        return self._waiters is not None and not self._queue

    def arrived(self, data: str | bytes) -> None:
        """A message was read."""
        if self.gone:
            return  # it came after our close frame: the app has been told of the end
        key = "text" if data.__class__ is str else "bytes"
        self._queue.append({"type": "websocket.receive", key: data})
        self._size += len(data)
        if self._size > ROOM or len(self._queue) >= MOST:
            self.peer.is_full = True
        if self._waiters is not None:
            self._wake()

    @property
    def waiting(self) -> int:
        # A text may take four bytes for each character.
        return sum(sys.getsizeof(one) for message in self._queue for one in message.values())

    def drop(self) -> None:
        """Throw away what the app has not received, since memory is short."""
        self._queue.clear()

    def hung_up(self, code: int, reason: str) -> None:
        """It is over, from either side; `code` of the first close frame, 1006 for none."""
        if not self.gone:
            self._why = (code, reason)
            self.leave(gone=True)

    # --- the app's messages

    async def _pace(self) -> None:
        """Wait while the client is slow, and now and then for the sake of other clients."""
        if self.peer.is_paused:
            await self.peer.drain()
        elif self.sent > self._turn:
            self._turn = self.sent + TURN
            await asyncio.sleep(0)

    def _accept(self, message: Message) -> None:
        if self.stage is not WAITING:
            raise ContractError("websocket.accept was sent after another answer")
        subprotocol = message.get("subprotocol")
        if subprotocol is not None and subprotocol not in self.scope["subprotocols"]:
            raise ContractError("the subprotocol is none that the client offered")
        try:
            headers = list(message.get("headers") or ())
            judged = judge_all([pair for pair in headers if pair[0].lower() != UPGRADE])
        except (HeaderError, TypeError, AttributeError, IndexError) as error:
            raise ContractError(f"the headers of websocket.accept: {error}") from None
        if any(line.lower().startswith(OURS) for line in judged.lines):
            raise ContractError("headers of websocket.accept have one of the handshake's own")
        self.accepted = True
        self.stage = STREAMING
        self.status = 101
        self.peer.accept(self, subprotocol, judged)

    def _close(self, code: Any, reason: Any) -> None:
        if self.accepted:
            try:
                self.peer.hang_up(code, reason)
            except (ValueError, TypeError, AttributeError) as error:
                raise ContractError(f"websocket.close cannot be sent: {error}") from None
            self.stage = ENDED
        elif self.stage is WAITING:
            self._abandon(FORBIDDEN)
        else:
            raise ContractError("websocket.close was sent within an HTTP answer")

    async def _deny(self, kind: str, message: Message) -> None:
        """An HTTP answer instead of a WebSocket (the denial response extension)."""
        if self.accepted:
            raise ContractError(f"{kind} was sent after websocket.accept")
        if kind.endswith("start"):
            if self.stage is not WAITING:
                raise ContractError(f"{kind} was sent twice")
            self.start(message.get("status"), message.get("headers", ()))
            self.peer.begins(self)
            return
        if self.stage is WAITING:
            raise ContractError(f"{kind} was sent before its start")
        body = _binary({"bytes": message.get("body", b"")})
        more = bool(message.get("more_body"))
        if self.stage is STARTED and not more:
            self.answer(body)
        else:
            self.stream(body, more)
            await self._pace()


def _binary(message: Message) -> bytes:
    """The bytes of a message that has no text."""
    data = message.get("bytes")
    if data.__class__ is bytes and message.get("text") is None:
        return data
    if isinstance(data, bytearray | memoryview) and message.get("text") is None:
        return bytes(data)
    raise ContractError("a message has either text, a str, or bytes")
