"""A server with TLS and a client of it, without a socket: every byte between them is the test's."""

import functools
import ssl
from pathlib import Path
from typing import Any

from clusterd.config.serving import HttpSettings, TlsSettings
from clusterd.config.settings import Config
from clusterd.worker.keyring import Keyring
from clusterd.worker.tls import Handshake, Secured, SecuredConnection
from tests.support.authority import Authority
from tests.unit.worker.fakes import Bench, FakeTransport, hello
from tests.unit.worker.test_keyring import sealed, settings


class Client:
    """The other end, without a socket."""

    def __init__(self, context: ssl.SSLContext, name: str = "a.example") -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname=name)
        self.got = b""
        self.ended = False  # the server said goodbye

    def says(self, data: bytes = b"") -> bytes:
        """What goes over the wire next, with something to say."""
        if data:
            self.tls.write(data)
        return self.outgoing.read()

    def hears(self, data: bytes) -> None:
        self.incoming.write(data)
        try:
            while True:
                piece = self.tls.read(65536)
                if not piece:
                    self.ended = True
                    return
                self.got += piece
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.ended = True

    def shakes(self, data: bytes = b"") -> bytes:
        self.incoming.write(data)
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()


@functools.cache
def credentials(place: Path) -> tuple[Keyring, ssl.SSLContext]:
    """A loaded keyring, and what its clients want."""
    authority = Authority(place)
    whole = settings(authority, "a")
    keyring = Keyring(whole)
    keyring.load(sealed(whole))
    return keyring, authority.client()


class Wire:
    """A server with TLS, and one client of it."""

    def __init__(self, place: Path, app: Any = hello, **http: Any) -> None:
        self.keyring, self.context = credentials(place)
        config = Config(http=HttpSettings(**http), tls=TlsSettings(tls_cert=("a.pem",)))
        self.bench = Bench(app, config=config)
        self.server = self.bench.server
        self.server.closed(self.bench.connection)  # the bench's own, which is plain
        self.client = Client(self.context)
        self.transport, self.handshake = self.accept()

    def accept(self) -> tuple[FakeTransport, Handshake]:
        transport, handshake = FakeTransport(), Handshake(self.server, self.keyring)
        transport.set_protocol = lambda protocol: setattr(transport, "protocol", protocol)  # type: ignore[method-assign]
        transport.protocol = handshake
        handshake.connection_made(transport)
        return transport, handshake

    def feed(self, data: bytes, step: int = 0) -> None:
        """Give the server bytes, a few at a time."""
        for start in range(0, len(data), step or max(1, len(data))):
            self.transport.protocol.data_received(data[start : start + (step or len(data))])

    def taken(self) -> bytes:
        sent, self.transport.sent = bytes(self.transport.sent), bytearray()
        return sent

    def shake(self, step: int = 0, data: bytes = b"") -> SecuredConnection:
        """The whole handshake; `data` is sent with the client's last words of it."""
        self.feed(self.client.shakes(), step)
        last = self.client.shakes(self.taken())
        self.feed(last + (self.client.says(data) if data else b""), step)
        secured = self.transport.protocol
        assert isinstance(secured, Secured)
        connection = secured.get_protocol()
        assert isinstance(connection, SecuredConnection)
        return connection

    async def talk(self, data: bytes, step: int = 0) -> bytes:
        self.feed(self.client.says(data), step)
        await self.bench.settle()
        self.client.hears(self.taken())
        got, self.client.got = self.client.got, b""
        return got
