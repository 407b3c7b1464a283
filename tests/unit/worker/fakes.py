"""A connection without a socket: a transport that remembers, a loop's timers under a fake clock."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from clusterd.config.serving import HttpSettings
from clusterd.config.settings import Config
from clusterd.worker.connection import Connection
from clusterd.worker.memory_budget import LOOK
from clusterd.worker.server import Server

App = Callable[[Any, Any, Any], Awaitable[None]]
POST = b"POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"


class FakeTransport(asyncio.Transport):
    """Takes everything at once, or with `stuck` nothing."""

    def __init__(self) -> None:
        super().__init__({"peername": ("192.0.2.1", 50000), "sockname": ("192.0.2.2", 80)})
        self.sent = bytearray()
        self.writes = 0
        self.stuck = False
        self.is_full = False
        self.unsent = 0
        self.protocol: Any = None
        self.paused = self.closed = self.aborted = self.ended = False

    def write(self, data: Any) -> None:
        self.writes += 1
        if self.stuck:
            self.unsent += len(data)
            if self.unsent > 65536 and not self._is_paused():
                self.is_full = True
                self.protocol.pause_writing()
        else:
            self.sent += data

    def writelines(self, pieces: Any) -> None:
        self.write(b"".join(pieces))

    def get_write_buffer_size(self) -> int:
        return self.unsent

    def drained(self) -> None:
        """The client took everything after all."""
        self.unsent = 0
        self.stuck = False
        if self._is_paused():
            self.is_full = False
            self.protocol.resume_writing()

    def _is_paused(self) -> bool:
        """Whether the protocol was told not to write: TLS does not know, and passes it on."""
        paused: bool = getattr(self.protocol, "is_paused", self.is_full)
        return paused

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def is_reading(self) -> bool:
        return not self.paused

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True
        self.unsent = 0

    def is_closing(self) -> bool:
        return self.closed

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self.protocol = protocol


class Bench:
    """One server, one connection, one client; time passes only when the test says so."""

    def __init__(
        self,
        app: App,
        http: HttpSettings | None = None,
        config: Config | None = None,
        **state: Any,
    ) -> None:
        self.now = 1000.0
        self.loop = asyncio.get_running_loop()
        self.row = memoryview(bytearray(8 * 64)).cast("Q")
        config = config or Config(http=http or HttpSettings())
        self.server = Server(app, config, self.loop, self.row, state, lambda: self.now, lambda: 0.5)
        self.transport, self.connection = self.connect()

    def connect(self) -> tuple[FakeTransport, Connection]:
        transport, connection = FakeTransport(), Connection(self.server)
        transport.protocol = connection
        connection.connection_made(transport)
        return transport, connection

    def feed(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.connection.data_received(piece)

    async def settle(self) -> None:
        """Let every task run until none can."""
        for _ in range(12):
            await asyncio.sleep(0)

    def pass_time(self, seconds: float) -> None:
        """Jump ahead, and let the wheel look."""
        self.now += seconds
        self.server.wheel.turn()

    async def pass_with_budget(self, seconds: float) -> None:
        """Pass time with the memory budget's timer, which the real loop would run too late."""
        end = self.now + seconds
        while self.now < end:
            self.now += LOOK
            if self.server.memory.is_short:
                self.server.memory._go_through()
            await self.settle()

    async def talk(self, *pieces: bytes) -> bytes:
        """Send pieces, settle, and take all that was answered."""
        self.feed(*pieces)
        await self.settle()
        sent, self.transport.sent = bytes(self.transport.sent), bytearray()
        return sent


def run(test: Callable[[], Awaitable[None]]) -> None:
    """Run an async test on the loop that workers use."""
    import uvloop

    uvloop.run(asyncio.wait_for(test(), 30))


def get(path: str = "/", *headers: str, version: str = "1.1", method: str = "GET") -> bytes:
    lines = [f"{method} {path} HTTP/{version}", "Host: a", *headers, "", ""]
    return "\r\n".join(lines).encode()


async def hello(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"hello"})


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Answers with the method, the path and the body."""
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    text = f"{scope['method']} {scope['path']} ".encode() + body
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(text))],
        }
    )
    await send({"type": "http.response.body", "body": text})


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def statuses(answers: bytes) -> list[int]:
    """The statuses of a row of answers with Content-Length or chunks."""
    found = []
    while answers:
        head, _, rest = answers.partition(b"\r\n\r\n")
        found.append(status_of(head))
        lower = head.lower()
        if b"content-length: " in lower:
            size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0])
            answers = rest[size:]
        elif b"chunked" in lower:
            answers = rest.partition(b"0\r\n\r\n")[2]
        else:
            answers = rest
    return found


def streaming(*pieces: bytes, headers: Any = (), status: int = 200) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": status, "headers": headers})
        for piece in pieces:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    return app


class Held:
    """An app that waits until the test lets it go."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        await self.go.wait()
        await echo(scope, receive, send)
