"""A link: one client's connection as the server holds it, whatever is spoken on it.

HTTP/1, HTTP/2, WebSocket, and what comes before any of them, derive from `Link`. The drain, the
wheel of deadlines and the shedding at the connection cap know nothing but this.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
import sys
from abc import abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, cast

from clusterd.app.extensions import without_zero_copy
from clusterd.app.scope import Address, Scope, address, template
from clusterd.worker.deadlines import NEVER, RATE
from clusterd.worker.files import send_file
from clusterd.worker.memory_budget import ALLOWANCE

if TYPE_CHECKING:
    from clusterd.worker.server import Server

RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset
ACKNOWLEDGED = slice(120, 128)  # where tcp_info (linux/tcp.h) has tcpi_bytes_acked,
RECEIVED = slice(128, 136)  # and tcpi_bytes_received

# A class with slots cannot have two bases with slots, and HTTP/1's other base is its parser: so
# whoever derives from Link lists these among its own.
SLOTS = (
    "_acknowledged",
    "_drains",
    "_given",
    "_keeps_socket",
    "_last_given",
    "_now",
    "_origin",
    "_transport",
    "_unsent",
    "booked",
    "due",
    "held",
    "is_closing",
    "is_paused",
    "server",
    "template",
    "trusted",
    "write",
)


class Origin(NamedTuple):
    """Who connected to the proxy before us, and where, as its PROXY header says."""

    client: Address
    server: Address


class Link(asyncio.Protocol):
    """One client's connection. Derived classes have `SLOTS` and speak a protocol."""

    if not TYPE_CHECKING:  # mypy would have the slots here, where they cannot be
        __slots__ = ()

    server: "Server"
    template: Scope  # of the scopes of its requests: what is the same for all of them
    trusted: bool  # what its headers say of the client is taken: see `trust.Trust.amend`
    due: float  # the deadline, and when the wheel looks at it: see `deadlines.Watched`
    booked: float
    held: int  # bytes, as the worker's `memory_budget` knows
    is_closing: bool  # nothing that comes is looked at any more
    is_paused: bool  # the transport holds more than it likes
    write: Callable[[bytes], None]
    _transport: asyncio.Transport
    _origin: Origin | None
    _now: float  # when something last happened here
    _unsent: int  # bytes that the transport held when its progress was last judged
    _acknowledged: int  # and bytes that the client had acknowledged
    _given: int  # bytes of large pieces that the transport may still keep whole
    _last_given: int  # and of those that were written last
    _keeps_socket: bool  # it was handed over, or is to be reset: no FIN at the end
    _drains: list[asyncio.Future[None]]  # of whoever waits until the client has taken more

    def __init__(self, server: "Server", origin: Origin | None = None) -> None:
        self.server = server
        self._origin = origin
        self._now = 0.0
        self._unsent = self._acknowledged = 0
        self._given = self._last_given = 0
        self._drains = []
        self._keeps_socket = False
        self.held = 0
        self.is_closing = False
        self.is_paused = False
        self.template = {}
        self.trusted = False
        self.due = self.booked = NEVER

    # --- for the worker's life

    @property
    def idle(self) -> bool:
        """Nothing is in hand: no request begun, nothing read, nothing to be sent."""
        return False

    @property
    def spare(self) -> bool:
        """Dropping it costs its client no more than to connect again: no request is in hand.

        At the connection cap those go, the nearest to their deadlines first.
        """
        return self.idle

    @property
    def since(self) -> float:
        """When something last happened here, 0 for nothing yet."""
        return self._now

    def fileno(self) -> int:
        """The descriptor; raises OSError once it is closed."""
        sock = self._transport.get_extra_info("socket")
        if self.is_closing or sock is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return int(sock.fileno())

    def descriptor(self) -> int:
        """Return the descriptor, also while the connection is being closed; -1 for none."""
        sock = self._transport.get_extra_info("socket")
        return -1 if sock is None else int(sock.fileno())

    def release(self) -> int | None:
        """Let go of an idle connection for a sibling: its descriptor, or None if that cannot be."""
        return None

    @abstractmethod
    def drain_begins(self) -> None:
        """The worker leaves (`server.last`, `server.leave_by`): see to it that this ends, too.

        May be said again, when the time has become shorter or nobody else is left to serve.
        """

    def close_when_idle(self) -> None:
        """Close now if idle, else after what is in hand."""
        if self.idle:
            self.close()

    def cancel(self) -> bool:
        """Cancel the app's task; whether there was one."""
        return False

    @abstractmethod
    def overdue(self, now: float) -> None:
        """The wheel found our deadline passed."""

    @abstractmethod
    def close(self) -> None:
        """End the connection once everything is sent."""

    def abort(self) -> None:
        """Drop the connection, and what was not sent yet.

        Where something was not, the client is sent a reset: after a plain close the kernel would
        keep what it holds, megabytes of it, for as long as the client takes a byte now and then.
        """
        if self._transport.get_write_buffer_size():
            self._forgo_the_rest()
        self.is_closing = True
        self._transport.abort()

    @property
    def is_encrypted(self) -> bool:
        return self._transport.get_extra_info("ssl_object") is not None

    def shut_down(self) -> None:
        """Send FIN, right before the descriptor is closed: all is written by then, or given up.

        To close it sends none while another process has a copy, as a child that the application
        forked, and the client would wait for the end as long as that lives.
        """
        fd = -1 if self._keeps_socket else self.descriptor()
        if fd < 0:
            return
        try:
            # Family and type are said, or they would be asked of the kernel. `shutdown` looks at
            # neither, so any will do.
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 0, fd)
        except OSError:
            return
        try:
            sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the client has ended it already
        finally:
            sock.detach()

    # --- for the memory budget (`memory_budget.Holder`)

    def measure(self) -> int:
        """Return the bytes that are held for the client, but of a large response only a part."""
        transport = self._transport
        unsent = transport.get_write_buffer_size()
        if unsent:
            unsent = min(max(unsent, self._given), self.server.memory.most_unsent)
        return unsent + int(transport.get_extra_info("held", 0))

    def count_moved(self) -> int:
        """Return how many bytes the client has sent and taken, as the kernel counts them."""
        info = self._tcp_info()
        acknowledged = int.from_bytes(info[ACKNOWLEDGED], sys.byteorder)
        return acknowledged + int.from_bytes(info[RECEIVED], sys.byteorder)

    @property
    def awaits_client(self) -> bool:
        """Return whether what is held is held until the client sends or takes more."""
        return True

    def hold_off(self) -> None:
        """Read no more, since memory is short."""
        self._transport.pause_reading()

    def go_on(self) -> None:
        """Read again after `hold_off`, if nothing else forbids it."""
        if not self.is_closing:
            self._transport.resume_reading()

    def has_room(self, size: int) -> bool:
        """Return whether the application may send so much at once (`app.peer.Http1Peer`)."""
        memory = self.server.memory
        # Its head counts as well.
        counts = min(size, memory.most_unsent) + ALLOWANCE
        return not memory.is_over and counts <= memory.room

    def shed(self) -> None:
        """Give up what is held."""
        self._reset()

    # --- from one protocol to another

    def greet(self, transport: asyncio.BaseTransport) -> None:
        """Remember the transport, and who is at its other end."""
        self._transport = cast(asyncio.Transport, transport)
        self.write = self._transport.write
        client, server = self._origin or (
            address(transport.get_extra_info("peername")),
            address(transport.get_extra_info("sockname")),
        )
        scheme = "https" if self.is_encrypted else "http"
        trust = self.server.trust
        self.template = template(client, server, scheme, trust.root_path)
        self.trusted = trust.peers.has(client, server)
        extensions = self.server.extensions
        self.template["extensions"] = (
            without_zero_copy(extensions) if self.is_encrypted else extensions
        )

    def succeed(self, successor: "Link", data: bytes) -> None:
        """Another protocol goes on from here, beginning with bytes that were read already."""
        self.is_closing = True
        self._transport.set_protocol(successor)
        self.server.succeeded(self, successor)
        successor.taken_over(self, data)

    def taken_over(self, before: "Link", data: bytes) -> None:
        """Go on where another protocol ended."""
        self._transport = before._transport
        self.write = before.write
        self.template = before.template
        self.trusted = before.trusted
        self.is_paused = before.is_paused
        self._now = before._now
        self._origin = before._origin

    # --- the transport's buffer

    def write_all(self, pieces: list[bytes]) -> None:
        """Write what is large, without a copy."""
        size = sum(map(len, pieces))
        unsent = self._transport.get_write_buffer_size()
        # The transport keeps what was written at once until its last byte is the kernel's.
        if unsent > self._last_given:
            self._given += size
        else:
            self._given = size + (self._last_given if unsent else 0)
        self._last_given = size
        self._transport.writelines(pieces)
        if self.is_paused:  # TLS writes in parts, and the client may not take the first
            self.server.memory.count_unsent(self)

    def pause_writing(self) -> None:
        self.is_paused = True
        self._expect_progress()
        self.server.memory.count_unsent(self)

    def resume_writing(self) -> None:
        self.is_paused = False
        self._wake_drains()

    async def drain(self) -> None:
        """Return once the client has taken what was written."""
        if self.is_paused and not self.is_closing:
            waiter = self.server.loop.create_future()
            self._drains.append(waiter)
            await waiter

    async def flush(self) -> None:
        """Return once all that was written is the kernel's."""
        if self._transport.get_write_buffer_size():
            await asyncio.sleep(0)  # uvloop writes at the end of a turn
        if self._transport.get_write_buffer_size():
            self._transport.set_write_buffer_limits(high=0)
            await self.drain()
            if not self.is_closing:
                self._transport.set_write_buffer_limits()

    async def writable(self, fd: int) -> None:
        """Return once a copy of our descriptor takes more, or the connection is lost."""
        loop = self.server.loop
        waiter = loop.create_future()
        self._drains.append(waiter)
        loop.add_writer(fd, _set, waiter)
        overdue = loop.call_later(self.server.http.write_timeout, self._reset)
        try:
            await waiter
        finally:
            overdue.cancel()
            loop.remove_writer(fd)
            if waiter in self._drains:
                self._drains.remove(waiter)

    async def send_file(self, file: int, offset: int, count: int) -> None:
        """Send a part of an open file; see `files.send_file`."""
        await send_file(self, file, offset, count)

    def _wake_drains(self) -> None:
        waiters, self._drains = self._drains, []
        for waiter in waiters:
            _set(waiter)

    def _expect_progress(self) -> None:
        """From now on the client has to take what we sent; how much of it is judged in a while."""
        self._unsent = self._transport.get_write_buffer_size()
        self._acknowledged = self._count_acknowledged()
        self._wait(self.server.http.write_timeout)

    def _judge_progress(self, now: float) -> None:
        """Has the client taken enough of what we sent since we last looked?"""
        unsent, acknowledged = self._transport.get_write_buffer_size(), self._count_acknowledged()
        taken = max(self._unsent - unsent, acknowledged - self._acknowledged)
        if not unsent or taken < RATE * self.server.http.write_timeout:
            self._reset()
        else:
            self._unsent, self._acknowledged = unsent, acknowledged
            self.due = now + self.server.http.write_timeout

    def _count_acknowledged(self) -> int:
        """Bytes that the client's kernel has acknowledged so far; 0 where ours does not count them.

        Beside a buffer of megabytes in the kernel, that of the transport tells little.
        """
        return int.from_bytes(self._tcp_info()[ACKNOWLEDGED], sys.byteorder)

    def _tcp_info(self) -> bytes:
        """Return what the kernel knows of the connection; nothing for a Unix socket."""
        copy = self._copy()
        if copy is None:
            return b""
        with copy:
            try:
                return copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, RECEIVED.stop)
            except OSError:  # a Unix socket
                return b""

    # --- deadlines, and the hard way out

    def _wait(self, seconds: float) -> None:
        """Set a deadline from now."""
        self.due = self.server.clock() + seconds
        if self.due < self.booked:
            self.server.wheel.book(self)

    def _reset(self) -> None:
        """Close so that the client knows that what it got is cut short."""
        self._forgo_the_rest()
        self.abort()

    def _forgo_the_rest(self) -> None:
        """Have the close send a reset, so that the kernel drops what the client has not taken."""
        copy = self._copy()
        if copy is not None:
            with copy, contextlib.suppress(OSError):
                copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                self._keeps_socket = True  # a FIN before it would make it look complete

    def _copy(self) -> socket.socket | None:
        """A socket of our own for the connection, since uvloop's has few methods."""
        sock = self._transport.get_extra_info("socket")
        if sock is None:
            return None
        try:
            return socket.socket(fileno=os.dup(sock.fileno()))
        except OSError:  # it is gone already, or descriptors are short
            return None


def _set(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
