"""A WebSocket on a fake transport: a client that speaks frames, and apps for it to talk to."""

import asyncio
from typing import Any

from websockets.client import ClientProtocol
from websockets.frames import Close, Frame, Opcode
from websockets.protocol import OPEN

from clusterd.config.serving import HttpSettings, ProxySettings, WebsocketSettings
from clusterd.config.settings import Config
from clusterd.worker.websocket import WebSocket
from tests.unit.wire.frames import frame
from tests.unit.worker.fakes import App, Bench, get

KEY = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
VERSION = "Sec-WebSocket-Version: 13"
SWITCH = ("Connection: keep-alive, Upgrade", "Upgrade: websocket")
FINAL, TEXT, BINARY, CLOSE, PING, PONG = 0x80, 1, 2, 8, 9, 10
DEFAULTS = WebsocketSettings()


def shake(path: str = "/", *headers: str) -> bytes:
    """A handshake's request."""
    return get(path, *SWITCH, KEY, VERSION, *headers)


def text(data: str) -> bytes:
    return frame(FINAL | TEXT, data.encode())


class Talk(Bench):
    """One client, its WebSocket and the app; time passes only when the test says so."""

    def __init__(
        self,
        app: App,
        settings: WebsocketSettings = DEFAULTS,
        http: HttpSettings | None = None,
        proxy: ProxySettings | None = None,
        **state: Any,
    ) -> None:
        config = Config(
            http=http or HttpSettings(), websocket=settings, proxy=proxy or ProxySettings()
        )
        super().__init__(app, config=config, **state)
        self.client = ClientProtocol("ws://a/", state=OPEN)  # type: ignore[arg-type]

    @property
    def socket(self) -> WebSocket:
        (link,) = self.server.connections
        assert isinstance(link, WebSocket)
        return link

    async def begin(self, *headers: str) -> bytes:
        """Shake hands; the answer's head. What came after it is the client's."""
        answer = await self.talk(shake("/", *headers))
        head, _, frames = answer.partition(b"\r\n\r\n")
        self.client.receive_data(frames)
        return head

    def feed(self, *pieces: bytes) -> None:
        """To whatever the connection speaks by now."""
        for piece in pieces:
            link = self.connection if self.connection in self.server.connections else self.socket
            link.data_received(piece)

    async def say(self, *pieces: bytes) -> list[Any]:
        """Send frames, let the app work, and read what it answered."""
        self.client.receive_data(await self.talk(*pieces))
        return self.got()

    def got(self) -> list[Any]:
        """What the client has read, and not looked at yet."""
        self.client.receive_data(bytes(self.transport.sent))
        self.transport.sent.clear()
        return [told(event) for event in self.client.events_received() if isinstance(event, Frame)]


def told(event: Frame) -> Any:
    if event.opcode is Opcode.TEXT:
        return bytes(event.data).decode()
    if event.opcode is Opcode.BINARY:
        return bytes(event.data)
    if event.opcode is Opcode.CLOSE:
        close = Close.parse(bytes(event.data))
        return (int(close.code), close.reason)
    return (event.opcode.name.lower(), bytes(event.data))


def accepting(*messages: dict[str, Any]) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        for message in messages:
            await send(message)

    return app


ACCEPT = {"type": "websocket.accept"}


class Scribe:
    """An app that accepts, sends back every message, and remembers what it received."""

    def __init__(self, *first: str) -> None:
        self.first = first
        self.scopes: list[Any] = []
        self.received: list[Any] = []
        self.over = asyncio.Event()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        self.received.append(await receive())
        await send({"type": "websocket.accept"})
        for words in self.first:
            await send({"type": "websocket.send", "text": words})
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message)
            await send({**message, "type": "websocket.send"})
        self.received.append(message)
        self.over.set()


class Deaf:
    """An app that accepts and then takes nothing, until it is told to."""

    def __init__(self) -> None:
        self.take = asyncio.Event()
        self.received: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await self.take.wait()
        while (message := await receive())["type"] == "websocket.receive":
            self.received.append(message)
