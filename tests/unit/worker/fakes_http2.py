"""An HTTP/2 connection without a socket, and a client that reads its frames."""

from typing import Any

from clusterd.worker.http2 import Http2Connection, equip
from tests.support.http2 import START, Reading
from tests.unit.worker.fakes import Bench, FakeTransport


class Bench2(Bench):
    """`Bench`, whose connection speaks HTTP/2 and has been greeted."""

    interface = "asgi"

    def connect(self) -> tuple[FakeTransport, Any]:
        equip(self.server, self.interface)
        transport = FakeTransport()
        link = self.server.spoken["h2"](self.server)
        assert isinstance(link, Http2Connection)
        transport.protocol = link
        link.connection_made(transport)
        self.client = Reading()
        link.data_received(START)
        return transport, link

    @property
    def link(self) -> Http2Connection:
        link = self.connection
        assert isinstance(link, Http2Connection)
        return link

    def read(self) -> Reading:
        """All that was sent so far."""
        sent, self.transport.sent = bytes(self.transport.sent), bytearray()
        return self.client.take(sent)

    async def ask(self, *pieces: bytes) -> Reading:
        """Send, settle, and read what was answered."""
        self.feed(*pieces)
        await self.settle()
        return self.read()
