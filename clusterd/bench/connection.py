"""A client's connection: dials, encrypts, sends, receives, gives up, and dials again.

`Connection` knows how bytes come and go, and what became of those it asked with; what they mean is
its heirs' affair (`http`, `websocket`, `sse`, `slow`). They override `opened`, `ask`, `received`
and, where an end of the stream can mean something good, `ended`.

What counts as what, whatever the protocol:

- An attempt to connect that is refused, or whose handshake fails, is one error (connect, tls).
- A server that closes a connection on which nothing is under way has done nothing wrong: the
  connection is made again, and nothing is counted.
- Once a request was sent, the connection's end is that request's: `closed` after a FIN, `reset`
  after a RST. This holds also for the race in which a server closes a kept connection while the
  request is on its way. Clients that may send a request twice would hide this one; we do not send
  it twice, for the next client may not be allowed to (RFC 9112, 9.3.1).
- A failed request has no latency.
- A connection that answered is made again at once. One that did not waits, twice as long each
  time: a server that is down, or that slams doors, is not to be measured at how fast it does so.
"""

import os
import select
import socket
import ssl
from collections.abc import Callable
from functools import partial
from time import monotonic_ns
from typing import Protocol

from clusterd.bench import interval, troubles
from clusterd.bench.dialer import Dialer
from clusterd.bench.tally import Tally

IN, OUT = select.EPOLLIN, select.EPOLLOUT
FIRST_WAIT, LONGEST_WAIT = 5_000_000, 200_000_000  # ns between attempts; the first comes at once
FULL_WAIT = 1_000_000  # ns until a full queue is tried again
RECEIVE, RECEIVE_MUCH = 16384, 65536  # bytes at once; a TLS record has 16384

Handler = Callable[[int], None]  # gets epoll's events
# What a socket of either kind says when it has nothing, or room for nothing.
LATER = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)


class Driver(Protocol):
    """The loop that drives connections, as they see it."""

    tally: Tally
    timeout: int  # ns until an answer is given up

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call it when one of these happens, and no other."""

    def unwatch(self, fd: int) -> None:
        """It is about to be closed."""

    def later(self, when: int, call: Callable[[], None]) -> None:
        """Call it at this monotonic time in ns, or soon after."""

    def freed(self, connection: "Connection", now: int) -> None:
        """It can be asked (again): at once, or when the next request is due."""

    def stood(self, connection: "Connection") -> None:
        """It is connected."""

    def lost(self, connection: "Connection") -> None:
        """It is no more, and cannot be asked until it is freed again."""


class Connection:
    """One client. Between `freed` and the next `ask` nothing is under way on it."""

    __slots__ = (
        "_dialer",
        "_failed",
        "_recv",
        "_rest",
        "_send",
        "_size",
        "_socket",
        "asked",
        "driver",
        "fruitless",
        "idle",
        "since",
        "stands",
        "tally",
    )

    def __init__(self, driver: Driver, dialer: Dialer) -> None:
        self.driver, self._dialer = driver, dialer
        self.tally = driver.tally
        self.stands = False  # connected, and encrypted where it is to be
        self.since = 0  # ns: when the request under way was due, which its latency counts from
        self.asked = 0  # ns: since when we wait for the peer; 0 if we do not
        self.fruitless = 0  # how many times in a row it was made, and answered nothing
        self._socket: socket.socket | None = None
        self.idle = False  # the driver's note: it waits for a request to be due
        self._rest: bytes | memoryview = b""  # of what is to be sent, and found no room yet
        self._failed = ""  # how sending ended, until what was received before it is read
        self._size = RECEIVE

    # -- for heirs to override

    def opened(self, now: int) -> None:
        """It stands: say that it is free, or shake hands first."""
        self.free(now)

    def ask(self, due: int, now: int) -> None:
        """Send a request that was due at `due`. Set `since` and `asked`, and `send`."""
        raise NotImplementedError

    def received(self, data: bytes) -> None:
        """Something came."""
        raise NotImplementedError

    def ended(self) -> None:
        """The peer will send no more."""
        self.drop()

    @property
    def under_way(self) -> int:
        """Requests that were sent and are not answered yet."""
        return 1 if self.since else 0

    # -- for heirs to use

    def free(self, now: int) -> None:
        """The answer is whole (or there was nothing to wait for): it can be asked."""
        self.since = self.asked = 0
        self.driver.freed(self, now)

    def send(self, data: bytes) -> None:
        """All of it, as soon as there is room. What becomes of it is seen by who receives."""
        if self._rest:
            self._rest = bytes(self._rest) + data
            return
        try:
            sent = self._send(data)
        except LATER:
            sent = 0
        except OSError as error:
            self._unsent(error)
            return
        if sent != len(data):
            self._rest = memoryview(data)[sent:]
            self._watch(IN | OUT, self._both)

    @property
    def unsent(self) -> bool:
        """Whether some of what was given to `send` has found no room yet."""
        return bool(self._rest)

    def fail(self, kind: str, text: str = "") -> None:
        """What is under way came to nothing, or connecting did; begin anew."""
        self.tally.failed(kind, max(self.under_way, 1), text)
        self.redial()

    def drop(self, text: str = "") -> None:
        """The peer ended it. An error if something is under way, and none otherwise."""
        if not self.under_way:
            self.redial()
            return
        kind = self._failed or interval.CLOSED
        if kind != interval.TLS and not self.tally.total:
            # Where nobody was answered yet, it says something about the target.
            text = troubles.explained(EOFError(), self._dialer.target)
        self.fail(kind, text)

    def redial(self) -> None:
        """Close, and connect again: at once, or after a while if it was fruitless."""
        self.close()
        self.since = 0
        tries, self.fruitless = self.fruitless, self.fruitless + 1
        if tries == 0:
            self.dial()
            return
        wait = min(FIRST_WAIT << min(tries - 1, 16), LONGEST_WAIT)
        self.driver.later(monotonic_ns() + wait, self.dial)

    # -- the transport

    def dial(self) -> None:
        """Make it fit to be asked."""
        self.connect()

    def connect(self) -> None:
        """Begin to."""
        if self._socket is not None:
            return
        now = monotonic_ns()
        self.asked = self.asked or now
        try:
            self._socket = self._dialer.dial()
        except BlockingIOError:  # a Unix socket's queue is full: of TCP, the kernel asks again
            self.driver.later(now + FULL_WAIT, partial(self._connect_again, self.asked))
        except OSError as error:
            # Told in a while, not now: who asked may be failing others in a row.
            self.driver.later(now, partial(self._refused, error))
        else:
            self._watch(OUT, self._connecting)

    def _connect_again(self, asked: int) -> None:
        if asked == self.asked:  # and not given up since
            self.connect()

    def _refused(self, error: OSError) -> None:
        self.fail(troubles.refusal(error), troubles.explained(error, self._dialer.target))

    def close(self) -> None:
        """For good, unless it is dialed again."""
        self.asked = 0
        self._rest, self._failed = b"", ""
        if self._socket is None:
            return
        if self.stands:
            self.stands = False
            self.driver.lost(self)
        self.driver.unwatch(self._socket.fileno())
        self._socket.close()
        self._socket = None

    def expired(self) -> None:
        """Nothing came for as long as we wait."""
        self.fail(interval.TIMEOUT, f"nothing came for {self.driver.timeout / 1e9:g} s")

    def _watch(self, events: int, handler: Handler) -> None:
        assert self._socket is not None
        self.driver.watch(self._socket.fileno(), events, handler)

    def _connecting(self, _events: int) -> None:
        assert self._socket is not None
        if number := self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
            self._refused(OSError(number, os.strerror(number)))
        elif self._dialer.tls is None:
            self._standing()
        else:
            try:
                self._socket = self._dialer.encrypt(self._socket)
            except OSError as error:
                self.fail(interval.TLS, troubles.explained(error, self._dialer.target))
            else:
                self._shaking_hands(0)

    def _shaking_hands(self, _events: int) -> None:
        assert isinstance(self._socket, ssl.SSLSocket)
        try:
            self._socket.do_handshake()
        except ssl.SSLWantReadError:
            self._watch(IN, self._shaking_hands)
        except ssl.SSLWantWriteError:
            self._watch(OUT, self._shaking_hands)
        except OSError as error:
            self.fail(interval.TLS, troubles.explained(error, self._dialer.target))
        else:
            self._standing()

    def _standing(self) -> None:
        assert self._socket is not None
        self._recv, self._send = self._socket.recv, self._socket.send
        self.stands = True
        self._watch(IN, self._readable)
        self.driver.stood(self)
        self.opened(monotonic_ns())

    def _readable(self, _events: int) -> None:
        # One recv an event is enough, also under TLS: it takes a whole record, and OpenSSL reads
        # no further than that, so whatever is left is in the socket and wakes us again.
        try:
            data = self._recv(self._size)
        except LATER:
            return
        except OSError as error:
            self._failed = self._failed or troubles.kind(error)
            is_tls = isinstance(error, ssl.SSLError)
            self.drop(troubles.explained(error, self._dialer.target) if is_tls else str(error))
            return
        if not data:
            self.ended()
            return
        if len(data) == self._size:
            self._size = RECEIVE_MUCH
        self.received(data)

    def _both(self, events: int) -> None:
        if events & OUT:
            self._flush()
        if events & ~OUT:
            self._readable(events)

    def _flush(self) -> None:
        try:
            self._rest = self._rest[self._send(self._rest) :]
        except LATER:
            return
        except OSError as error:
            self._unsent(error)
        if not self._rest:
            self._rest = b""
            self._watch(IN, self._readable)

    def _unsent(self, error: OSError) -> None:
        # An answer may have come before the end did (too large a body): read that first, and only
        # then say how it ended. The socket stays readable, so we are called for it.
        self._rest = b""
        self._failed = self._failed or troubles.kind(error)
