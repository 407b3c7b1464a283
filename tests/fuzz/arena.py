"""Where it happens: one server, and for each stream a connection that must not misbehave.

Whatever comes, data is taken without an exception, nothing is logged as a fault of ours or of the
(blameless) app, time alone ends every connection, and afterwards nothing is left of it.
"""

import asyncio
import contextlib
import gc
import logging
import sys
from collections.abc import Iterator
from random import Random
from typing import Any

from clusterd.config.serving import HttpSettings, ProxySettings
from clusterd.config.settings import Config
from clusterd.core.log import get_logger
from clusterd.wire import heads, http2_fields, http2_head, response
from clusterd.worker.http2 import equip
from clusterd.worker.server import Server
from tests.fuzz.mutate import cut, mutate
from tests.fuzz.targets import Target
from tests.unit.worker.fakes import FakeTransport, statuses

TURNS = 6  # of the loop, until an app has answered what it has
AGES = 8  # times that a hundred seconds pass, before a connection must have ended
# Small, so that streams come near them.
LIMITS = HttpSettings(limit_request_line=256, limit_headers=512, limit_fields=12, limit_body=5000)
OURS = {200, 400, 408, 413, 414, 417, 426, 431, 501, 505}
# What engines remember of lines and fields that they have seen before.
MEMORY: tuple[dict[Any, Any], ...] = (
    *(heads.fields, heads.request_lines, heads.usual_lines, response.ends, response._lines),
    *(http2_head._fields, http2_head._targets, http2_head._hosts),
    *(http2_fields._known, http2_fields._lengths),
)
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SWITCHED = b"HTTP/1.1 101 "


def plain(answers: bytes) -> list[int]:
    """The statuses of HTTP/1's answers, up to where another protocol begins."""
    answers = answers.replace(CONTINUE, b"")
    switched = answers.find(SWITCHED)
    return statuses(answers if switched < 0 else answers[:switched])


class Failure(Exception):
    """What must not be; `data` is what brought it about."""

    def __init__(self, why: str, target: Target, pieces: list[bytes]) -> None:
        super().__init__(why)
        self.target = target
        self.pieces = pieces


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Reads all, and says so; over a WebSocket it sends back what it gets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({**message, "type": "websocket.send"})
        return
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        if not message["more_body"]:
            break
    await send({"type": "http.response.start", "status": 200, "headers": [(b"x", b"y")]})
    await send({"type": "http.response.body", "body": b"whole"})


class Complaints(logging.Handler):
    """Errors that are logged, and those that nobody caught."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.heard.append(self.format(record))

    def uncaught(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.heard.append(f"{context['message']}: {context.get('exception')!r}")


class Arena:
    """One server, as long as it takes. `complaints` must stay empty."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.loop = asyncio.get_running_loop()
        row = memoryview(bytearray(8 * 64)).cast("Q")
        config = Config(http=LIMITS, proxy=ProxySettings(trusted_proxies=("192.0.2.1",)))
        self.server = Server(app, config, self.loop, row, {}, lambda: self.now, lambda: self.now)
        equip(self.server, "asgi")
        self.complaints = Complaints()
        self.count = 0

    @contextlib.contextmanager
    def listening(self) -> Iterator["Arena"]:
        """Hear what is logged; nothing of it is shown."""
        loggers = [get_logger(), logging.getLogger("asyncio")]
        before = [logger.propagate for logger in loggers]
        self.loop.set_exception_handler(self.complaints.uncaught)
        for logger in loggers:
            logger.addHandler(self.complaints)
            logger.propagate = False
        try:
            yield self
        finally:
            for logger, propagate in zip(loggers, before, strict=True):
                logger.removeHandler(self.complaints)
                logger.propagate = propagate

    async def fight(self, target: Target, pieces: list[bytes]) -> list[int]:
        """One connection's life; the statuses of its answers where they can be read so."""
        transport, link = FakeTransport(), target.make(self.server)
        transport.protocol = link
        try:
            link.connection_made(transport)
            for piece in pieces:
                await self._feed(transport, piece)
            for _ in range(TURNS):
                await asyncio.sleep(0)
            answered = bytes(transport.sent)
            await self._outlive(transport)
        except Exception as error:
            raise Failure(f"{type(error).__name__}: {error}", target, pieces) from error
        fault = self._fault()
        if fault:
            raise Failure(fault, target, pieces)
        self.count += 1
        return plain(answered) if target.is_plain else []

    async def _feed(self, transport: FakeTransport, piece: bytes) -> None:
        """As a transport does it: nothing while it is paused, and nothing after its end."""
        for _ in range(1000):
            if not transport.paused or transport.closed:
                break
            await asyncio.sleep(0)
        if not transport.paused and not transport.closed:
            transport.protocol.data_received(piece)
            await asyncio.sleep(0)

    async def _outlive(self, transport: FakeTransport) -> None:
        for _ in range(AGES):
            if transport.closed:
                break
            self.now += 100
            self.server.wheel.turn()
            await asyncio.sleep(0)
        assert transport.closed, "the connection never ends"
        transport.protocol.connection_lost(None)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _fault(self) -> str:
        server = self.server
        if self.complaints.heard:
            return self.complaints.heard.pop()
        left: tuple[Any, ...] = (server.connections, server.open, server.tasks, server.running)
        return f"something is left behind: {left}" if any(left) else ""

    async def round(self, random: Random, target: Target) -> None:
        """One mutated stream, whole and cut."""
        begin = target.begin
        if begin and random.random() < 0.1:
            begin = mutate(random, [begin], target.words)
        data = begin + mutate(random, target.corpus, target.words)
        whole = await self.fight(target, [data] if data else [])
        pieces = cut(random, data)
        torn = await self.fight(target, pieces)
        if torn != whole:
            raise Failure(f"{whole} when whole, {torn} when cut", target, pieces)
        if not OURS.issuperset(whole):
            raise Failure(f"an answer that should not be: {whole}", target, pieces)

    def blocks(self) -> int:
        """Blocks of memory in use, less what is remembered on purpose, and within bounds."""
        for table in MEMORY:
            table.clear()
        gc.collect()
        return sys.getallocatedblocks()
