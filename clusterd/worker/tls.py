"""TLS between the transport and whatever is spoken on it.

Not the event loop's own: that one allocates 256 KiB a connection, tells nobody of a handshake under
way, and cannot say goodbye before the client has stopped sending, so that our last answer would be
lost. Here a handshake is a `Link` that the server holds like any other, and `Secured` is a
transport over a transport, which ends one direction at a time like TCP's.
"""

import asyncio
import ssl
from collections.abc import Iterable
from typing import Any, cast

from clusterd.app.extensions import without_zero_copy
from clusterd.core.log import fields, get_logger
from clusterd.worker.connection import Connection
from clusterd.worker.ending import LINGER, LINGER_ROOM
from clusterd.worker.keyring import Keyring, describe
from clusterd.worker.link import SLOTS, Link, Origin
from clusterd.worker.memory_budget import MemoryBudget
from clusterd.worker.server import Server

logger = get_logger("clusterd.tls")

RECORD = 16 * 1024  # bytes of a record at most (RFC 8446, section 5.1)
PIECE = 16 * 1024  # bytes given to OpenSSL at once: its buffers never shrink
# What such a buffer takes for each byte that was ever in it at once (OpenSSL's BUF_MEM_grow).
GROWTH = 4 / 3
HANDSHAKE = 22  # the first byte of a record with a handshake
UNREAD = 64 * 1024  # bytes that a client may leave unread until what OpenSSL answers must wait


class Secured(asyncio.Transport, asyncio.Protocol):
    """A transport for whom it carries, a protocol for the transport below."""

    __slots__ = (
        "_dropped",
        "_encrypt",
        "_held",
        "_incoming",
        "_is_deaf",
        "_is_shut",
        "_is_stopped",
        "_is_torn",
        "_loop",
        "_memory",
        "_most_in",
        "_most_out",
        "_outgoing",
        "_protocol",
        "_raw",
        "_send",
        "_tls",
    )

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        raw: asyncio.Transport,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        memory: MemoryBudget,
    ) -> None:
        super().__init__()
        self._loop = loop
        self._memory = memory
        self._raw = raw
        self._send = raw.write
        self._tls = tls
        self._encrypt = tls.write
        self._incoming = incoming
        self._outgoing = outgoing
        self._protocol: asyncio.Protocol = NOBODY
        self._held = b""  # came while reading was paused
        self._most_in = self._most_out = 0  # bytes that were in OpenSSL's buffers at once
        self._is_torn = False  # OpenSSL has a part of a record
        self._dropped = 0  # bytes that came when nobody listened any more
        self._is_stopped = False  # reading is paused, by whom we carry
        self._is_deaf = False  # what comes is thrown away
        self._is_shut = False  # our last word has been said

    # --- what comes from below

    def data_received(self, data: bytes) -> None:
        if self._held or self._is_deaf or len(data) > PIECE:
            self._receive(data)
        else:
            self._incoming.write(data)
            self.pump()

    def _receive(self, data: bytes) -> None:
        """The long way: more than we give to OpenSSL at once, or at the wrong time."""
        if self._is_deaf:
            self._dropped += len(data)
            if self._dropped > LINGER_ROOM:
                self.abort()
            return
        self._held += data
        self._go_on()
        if self._held:
            # Whom we carry does not know of it, and a turn of the loop may bring a thousand such.
            self._memory.count(cast(Link, self._protocol))

    def _go_on(self) -> None:
        """Hand on what was held, as long as somebody takes it."""
        if not self._is_deaf:
            self.pump()
        while self._held and not (self._is_stopped or self._is_deaf):
            piece, self._held = self._held[:PIECE], self._held[PIECE:]
            self._incoming.write(piece)
            self.pump()

    def pump(self) -> None:
        """Hand on what can be decrypted."""
        incoming, tls = self._incoming, self._tls
        if incoming.pending:
            self._is_torn = False
            self._most_in = max(self._most_in, incoming.pending)
        try:
            while incoming.pending and not (self._is_stopped or self._is_deaf):
                data = tls.read(RECORD)
                if not data:
                    self._end_input()  # close_notify
                    break
                self._protocol.data_received(data)
        except ssl.SSLWantReadError:
            self._is_torn = True  # or it was a record for OpenSSL
        except ssl.SSLZeroReturnError:
            self._end_input()
        except ssl.SSLError as error:
            self._fail(error)
            return
        if self._outgoing.pending:
            self._reply()

    def _reply(self) -> None:
        """OpenSSL answers by itself, as to each change of keys, of which there may be a flood.

        While the client leaves more unread, such answers wait, but not many of them.
        """
        if self._raw.get_write_buffer_size() <= UNREAD:
            self._send(self._outgoing.read())
        elif self._outgoing.pending > UNREAD:
            self.abort()

    def _go_deaf(self) -> None:
        """From now on throw away what comes, and what has come and nobody has taken."""
        self._is_deaf = True
        self._held = b""

    def _free_openssl(self) -> None:
        """Nothing is read or written any more: what OpenSSL has, 20 to 80 kB, may go."""
        if hasattr(self, "_tls"):
            del self._tls, self._encrypt
            self._incoming = self._outgoing = ssl.MemoryBIO()

    def _end_input(self) -> None:
        """The client has nothing more to say."""
        if not self._is_deaf:
            self._go_deaf()
            if not self._protocol.eof_received():
                self.close()

    def _fail(self, error: ssl.SSLError) -> None:
        """What came was not encrypted by who we talk to. OpenSSL has said so in an alert."""
        logger.debug("TLS was broken: %s", error.reason)
        self._go_deaf()
        self._is_shut = True
        if self._outgoing.pending:
            self._send(self._outgoing.read())
        self._raw.close()

    def eof_received(self) -> bool:
        """Not every client says goodbye; HTTP itself tells whether something is cut short."""
        self._end_input()
        return not self._is_shut  # our answer may still be on its way

    def pause_writing(self) -> None:
        self._protocol.pause_writing()

    def resume_writing(self) -> None:
        if self._outgoing.pending:
            self._send(self._outgoing.read())
        self._protocol.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        self._go_deaf()
        self._is_shut = True
        protocol, self._protocol = self._protocol, NOBODY
        protocol.connection_lost(error)
        self._free_openssl()  # an application that stays may keep the connection, and thus us

    # --- what comes from above

    def write(self, data: Any) -> None:
        size = len(data)
        if self._is_shut or not size:
            return
        try:
            if size > self._most_out:
                self._most_out = min(size, PIECE)
            if size <= PIECE:
                self._encrypt(data)
                self._send(self._outgoing.read())
                return
            view = memoryview(data)
            for start in range(0, size, PIECE):
                self._encrypt(view[start : start + PIECE])
                self._send(self._outgoing.read())
        except ssl.SSLError as error:
            self._fail(error)

    def writelines(self, pieces: Iterable[Any]) -> None:
        for piece in pieces:
            self.write(piece)

    def pause_reading(self) -> None:
        self._is_stopped = True
        self._raw.pause_reading()

    def resume_reading(self) -> None:
        self._is_stopped = False
        self._raw.resume_reading()
        # Not at once: whoever asks may be in the middle of something.
        self._loop.call_soon(self._go_on)

    def is_reading(self) -> bool:
        return not self._is_stopped

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """Say goodbye. What the client still sends means nothing, but is taken off its hands."""
        self._say_goodbye()
        self._raw.write_eof()

    def close(self) -> None:
        self._say_goodbye()
        self._raw.close()

    def _say_goodbye(self) -> None:
        if not self._is_shut:
            self._go_deaf()
            self._is_shut = True
            try:
                self._tls.unwrap()
            except ssl.SSLError:
                pass  # it says goodbye, and misses the client's
            if self._outgoing.pending:
                self._send(self._outgoing.read())
            self._free_openssl()

    def abort(self) -> None:
        self._go_deaf()
        self._is_shut = True
        self._raw.abort()

    def is_closing(self) -> bool:
        return self._raw.is_closing()

    def get_write_buffer_size(self) -> int:
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._raw.get_write_buffer_limits()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._raw.set_write_buffer_limits(high, low)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "ssl_object":
            return getattr(self, "_tls", default)
        if name == "held":  # for the memory budget: what is neither the protocol's nor sent
            return len(self._held) + self._measure_openssl()
        return self._raw.get_extra_info(name, default)

    def _measure_openssl(self) -> int:
        """Return the bytes that OpenSSL's buffers have grown by since the handshake."""
        if not hasattr(self, "_tls"):
            return 0
        outgoing = max(self._most_out, self._outgoing.pending)
        incoming = max(self._most_in, self._incoming.pending)
        return int((incoming + outgoing) * GROWTH) + (RECORD if self._is_torn else 0)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        assert isinstance(protocol, asyncio.Protocol)
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol


NOBODY = asyncio.Protocol()  # what a transport carries whose protocol is gone


class Handshake(Link):
    """A connection until both sides have agreed on keys. The server may shed it at any time."""

    __slots__ = (*SLOTS, "_incoming", "_keyring", "_outgoing", "_tls")

    def __init__(self, server: Server, keyring: Keyring, origin: Origin | None = None) -> None:
        super().__init__(server, origin)
        self._keyring = keyring
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # Made when the client has said something: it takes 17 KiB, and many keep silent.
        self._tls: ssl.SSLObject | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.greet(transport)
        self.server.opened(self)
        self._begin()

    def taken_over(self, before: Link, data: bytes) -> None:
        super().taken_over(before, data)
        self._begin()
        if data:
            self.data_received(data)

    def _begin(self) -> None:
        self._wait(self.server.config.tls.tls_handshake_timeout)

    def data_received(self, data: bytes) -> None:
        self._now = self.server.clock()
        self.server.bytes_in += len(data)
        if self.is_closing:
            return
        if self._tls is None:
            if data[0] != HANDSHAKE:
                self._refuse_plain(data[:1])
                return
            self._tls = self._keyring.wrap(self._incoming, self._outgoing)
        self._incoming.write(data)
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self._send()
        except ssl.SSLError as error:
            self._fail(error)
        else:
            self._send()
            self._go_on(self._tls)

    def _send(self) -> None:
        if self._outgoing.pending:
            self.write(self._outgoing.read())

    def _go_on(self, tls: ssl.SSLObject) -> None:
        """The handshake is done: what was agreed on is spoken from now on."""
        raw = self._transport
        server = self.server
        secured = Secured(server.loop, raw, tls, self._incoming, self._outgoing, server.memory)
        raw.set_protocol(secured)
        self._transport = secured
        self.write = secured.write
        self.template["scheme"] = "https"
        offered = without_zero_copy(self.template["extensions"])
        self.template["extensions"] = {**offered, "tls": describe(tls)}
        speak = self.server.spoken.get(tls.selected_alpn_protocol() or "", SecuredConnection)
        self.succeed(speak(self.server, self._origin), b"")
        secured.pump()  # what came in the same packet

    def _fail(self, error: ssl.SSLError) -> None:
        logger.debug("a TLS handshake failed", extra=fields(reason=error.reason, peer=self._peer))
        self._send()  # the alert that tells the client why
        self.close()

    def _refuse_plain(self, first: bytes) -> None:
        """Somebody takes us for a port without TLS: a request is answered, noise is not."""
        logger.debug("what came is not TLS", extra=fields(peer=self._peer))
        if first.isalpha():
            data = self.server.answer_of_ours(400)
            self.server.refused(400, len(data))
            self.write(data)
        self.close()

    @property
    def _peer(self) -> str:
        client = self.template["client"]
        return str(client[0]) if client else ""

    # --- its end

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.is_closing = True
        self.server.closed(self)

    @property
    def idle(self) -> bool:
        """Nobody waits for an answer yet; a drain gives it as long as any silent connection."""
        return not self.is_closing

    def drain_begins(self) -> None:
        """It may still become a request, which will be the last."""

    def overdue(self, now: float) -> None:
        self.abort()

    def close_when_idle(self) -> None:
        self.is_closing = True
        self._transport.close()

    def close(self) -> None:
        """Our last word is on its way: let the client have it, whatever it is still sending."""
        if not self.is_closing:
            self.is_closing = True
            self._transport.write_eof()
            self._wait(LINGER)


class SecuredConnection(Connection):
    """HTTP/1 over TLS. Nobody can take it over: the keys are here."""

    __slots__ = ()

    def release(self) -> int | None:
        return None
