"""The accept loop: our own, since `create_server(sock=…)` drains the queue greedily.

That is how one worker ends up with 70 % of the connections; it also listens again, with a backlog
of its own. Here one connection is taken a turn, and none while a less busy sibling could.
"""

import asyncio
import contextlib
import errno
import os
import socket
import time
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Protocol

from clusterd.core.log import fields, get_logger
from clusterd.kernel.filters import admit, refuse_newcomers
from clusterd.worker.gate import Gate
from clusterd.worker.handover import Handover
from clusterd.worker.threads import Pool

logger = get_logger("clusterd.accept")

# Turns left out after an accept. Measured: the p99 of fast requests among blocking ones goes from
# 27 to 21 ms, for 5 % of the connections a second; two turns gain nothing more and cost 13 %.
SETTLING = 1
LOOK_AGAIN = 0.001  # s until a connection left to a sibling is looked at again
FIRST_PAUSE = 0.1  # s without accepting when descriptors or memory run out …
LONGEST_PAUSE = 1.0  # … doubling up to this
EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
# The listener was shut down, or closed under us; or it does not listen yet.
SHUT = frozenset({errno.EINVAL, errno.EBADF})


class Source(Protocol):
    """Where connections come from: a listener, or the hand-over queue."""

    @property
    def name(self) -> str: ...
    @property
    def gated(self) -> bool: ...
    @property
    def stays(self) -> bool:
        """It is not ours to close."""

    @property
    def make(self) -> Callable[[], asyncio.BaseProtocol] | None:
        """What its connections are, if other than what the acceptor makes."""

    @property
    def secure(self) -> bool:
        """Its clients speak TLS."""

    def fileno(self) -> int: ...
    def take(self) -> int: ...
    def family_of(self, fd: int) -> int: ...
    def has_listened(self) -> bool: ...
    def refuse_newcomers(self) -> None: ...
    def close(self) -> None: ...


def family_of(fd: int) -> int:
    """The family of a connection that came without its listener."""
    sock = socket.socket(fileno=fd)
    try:
        return sock.family
    finally:
        sock.detach()


class Listener:
    """A listening socket. `gated` is off where the kernel spreads connections (reuseport).

    `make` and `secure`: as a `Source` has them.
    """

    __slots__ = ("_accept", "_family", "_listened", "_sock", "gated", "make", "name", "secure")
    stays = False

    def __init__(
        self,
        name: str,
        sock: socket.socket,
        gated: bool = True,
        make: Callable[[], asyncio.BaseProtocol] | None = None,
        secure: bool = False,
    ) -> None:
        self.name = name
        self.gated = gated
        self.make = make
        self.secure = secure
        self._sock = sock
        self._family = sock.family
        self._listened = _listens(sock)
        self._accept: Callable[[], tuple[int, Any]] = sock._accept  # type: ignore[attr-defined]
        sock.setblocking(False)

    def fileno(self) -> int:
        return self._sock.fileno()

    def take(self) -> int:
        """`_accept`, since no socket object is wanted: uvloop owns the descriptor."""
        return self._accept()[0]

    def family_of(self, fd: int) -> int:
        return self._family

    def has_listened(self) -> bool:
        """Return whether it listened when this was last asked; one that was shut down has.

        Not whether it does now: between the accept that failed and this question the master may
        have had it listen.
        """
        before = self._listened
        self._listened = _listens(self._sock)
        return before

    def refuse_newcomers(self) -> None:
        with contextlib.suppress(OSError):  # a system without the means: they are served, too
            refuse_newcomers(self._sock)

    def close(self) -> None:
        self._sock.close()


def _listens(sock: socket.socket) -> bool:
    return bool(sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))


class Queue:
    """The hand-over queue as a source."""

    name = "hand-over"
    gated = True
    stays = True  # who drains goes on writing to it
    secure = False  # nobody hands over what is encrypted

    def __init__(
        self,
        handover: Handover,
        make: Callable[[], asyncio.BaseProtocol],
        taken: Callable[[], None],
    ) -> None:
        self.make = make
        self._handover = handover
        self._taken = taken

    def fileno(self) -> int:
        return self._handover.reader.fileno()

    def take(self) -> int:
        fd = self._handover.take()
        self._taken()
        return fd

    def family_of(self, fd: int) -> int:
        return family_of(fd)

    def has_listened(self) -> bool:
        return True

    def refuse_newcomers(self) -> None:
        """Only siblings can write to it."""

    def close(self) -> None:
        """It is closed by whoever owns the hand-over."""


class Accepted:
    """What uvloop needs of a socket, without one: it takes the descriptor over and closes it."""

    __slots__ = ("family", "fd")
    type = socket.SOCK_STREAM

    def __init__(self, fd: int, family: int) -> None:
        self.fd = fd
        self.family = family

    def fileno(self) -> int:
        return self.fd

    def close(self) -> None:
        """libuv has closed it."""


class Attach:
    """Puts a protocol on an accepted descriptor.

    uvloop's way is a coroutine that waits for `connection_made`. A task for it costs more than all
    the rest of ours (measured), so it is pushed by hand: to its future, and then over the end.
    """

    __slots__ = ("_coroutine",)

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        make: Callable[[], asyncio.BaseProtocol],
        fd: int,
        family: int,
    ) -> None:
        self._coroutine: Coroutine[Any, Any, Any] = loop.connect_accepted_socket(
            make,
            Accepted(fd, family),  # type: ignore[arg-type]  # all that uvloop asks of it
        )
        self._coroutine.send(None).add_done_callback(self._finish)

    def _finish(self, _: object) -> None:
        try:
            self._coroutine.send(None)
        except (StopIteration, OSError):
            pass  # OSError: it was lost before it was made, which its protocol knows


class Host(Protocol):
    """What the accept loop asks of the server that its connections belong to."""

    open: int

    @property
    def load(self) -> int: ...
    def shed(self) -> bool: ...
    def refuse(self, sock: socket.socket, secure: bool) -> None: ...


class Acceptor:
    """Takes connections from its sources, under the gate, as long as there is room."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Host,
        connect: Callable[[], asyncio.BaseProtocol],
        gate: Gate,
        on_bug: Callable[[Exception], None],
        clock: Callable[[], float] = time.monotonic,
        attach: Callable[..., object] = Attach,
    ) -> None:
        self.sources: list[Source] = []
        self.held_back = 0
        self.pool: Pool | None = None  # threads, without which connections are of no use
        self._loop = loop
        self._host = host
        self._connect = connect
        self._gate = gate
        self._on_bug = on_bug
        self._clock = clock
        self._attach = attach
        self._on = False  # the readers are in place
        self._running = False
        self._settling = 0
        self._may_queue = False  # a thread was free since the last accept
        self._timer: asyncio.TimerHandle | None = None
        self._pause = FIRST_PAUSE
        self._said = -1.0  # when trouble was last logged

    # The set of sources.

    def add(self, source: Source) -> None:
        self.sources.append(source)
        if self._on:
            self._loop.add_reader(source.fileno(), self._on_readable, source)

    def drop(self, name: str) -> None:
        """Let go of a source: our copy of it is closed."""
        for source in [source for source in self.sources if source.name == name]:
            self._remove(source)

    def empty(self, source: Source) -> None:
        """Accept all that waits in a listener that only we have, and close it."""
        while self._take_last(source):
            pass
        source.close()

    def refuse_newcomers(self, lasting: Iterable[str]) -> None:
        """Close the listeners to newcomers, except those of these names: they outlive us."""
        for source in self.sources:
            if source.name not in lasting:
                source.refuse_newcomers()

    def start(self) -> None:
        self._running = True
        self._gate.show(self._host.open)
        self._watch()

    def stop(self) -> None:
        """Accept nothing from now on; the sources stay open."""
        self._running = False
        self._gate.shut()
        self._unwatch()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def close(self) -> None:
        """Stop, and close our copies of the listeners; a queue that stays can still be swept."""
        self.stop()
        for source in self.sources:
            source.close()
        self.sources = [source for source in self.sources if source.stays]

    def sweep(self) -> int:
        """Take all that waits, whoever is busier: nobody comes after us. How many there were."""
        taken = 0
        for source in self.sources:
            while self._take_last(source):
                taken += 1
        return taken

    def take_back(self, fd: int) -> None:
        """A connection that was let go of, and that nobody could be given."""
        self._adopt(fd, family_of)

    # One turn.

    def _on_readable(self, source: Source) -> None:
        try:
            self._turn(source)
        except Exception as error:
            self._on_bug(error)

    def _turn(self, source: Source) -> None:
        """One connection a turn: with more, this worker would run ahead of what it shows.

        And none until the one before has had its first word: should that word block the loop,
        whoever was accepted meanwhile would wait behind it instead of going to a sibling.
        """
        host = self._host
        if self._settling:
            self._settling -= 1
            return
        mine = host.load
        if self.pool is not None and self.pool.is_full and not self._may_queue:
            self._wait_for_thread(self.pool)
            return
        if source.gated and self._gate.yields(mine):
            self.held_back += 1
            self._rest(LOOK_AGAIN)
            return
        full = host.open >= self._gate.cap  # and so is everybody else who could take it
        try:
            fd = source.take()
        except OSError as error:
            self._on_error(error, source)
            return
        self._pause = FIRST_PAUSE
        self._may_queue = False
        if full and not host.shed():
            host.refuse(socket.socket(fileno=fd), source.secure)
            return
        # Shown before the connection is made, which is a turn of the loop away: whatever else is
        # ready in this one may take long.
        self._gate.show(mine + 1)
        if source.gated:
            self._settling = SETTLING
        self._adopt(fd, source.family_of, source.make)

    def _wait_for_thread(self, pool: Pool) -> None:
        """Leave connections in the kernel's queue, where siblings find them, until a job is done.

        One for each: where all are busy all the time, newcomers get their turn nevertheless.
        """
        self.held_back += 1
        self._unwatch()
        pool.when_done(self._go_on)

    def _go_on(self) -> None:
        self._may_queue = True
        if self._running and self._timer is None and not self._on:
            self._watch()

    def _adopt(
        self,
        fd: int,
        family: Callable[[int], int],
        make: Callable[[], asyncio.BaseProtocol] | None = None,
    ) -> None:
        try:
            self._attach(self._loop, make or self._connect, fd, family(fd))
        except OSError as error:  # the peer has gone, or this is no stream socket
            os.close(fd)
            self._say("a connection could not be taken on: %s", error)

    def _take_last(self, source: Source) -> bool:
        try:
            fd = source.take()
        except OSError as error:
            if error.errno in EXHAUSTED:
                self._say("the accept queue could not be emptied: %s", error)
            return is_passing(error)
        admit(fd)  # its listener was closed to newcomers, perhaps before this one was in
        self._adopt(fd, source.family_of, source.make)
        return True

    def _on_error(self, error: OSError, source: Source) -> None:
        if isinstance(error, BlockingIOError) or is_passing(error):
            return
        if error.errno in SHUT:
            if error.errno == errno.EINVAL and not source.has_listened():
                # The master has a group's Unix socket listen once it knows that we are ready.
                self._rest(LOOK_AGAIN)
                return
            # A listener that was shut down is readable for ever: to watch it would be to spin.
            self._loop.remove_reader(source.fileno())
            return
        self._say("cannot accept connections: %s", error)
        self._gate.shut()  # siblings shall not wait for us
        self._rest(self._pause)
        self._pause = min(2 * self._pause, LONGEST_PAUSE)

    # Watching the sources, or not.

    def _rest(self, seconds: float) -> None:
        """Look away: a readable listener that is not accepted from would make the loop spin."""
        self._unwatch()
        self._timer = self._loop.call_later(seconds, self._wake)

    def _wake(self) -> None:
        self._timer = None
        if self._running:
            if not self._gate.is_open:
                self._gate.show(self._host.open)
            self._watch()

    def _watch(self) -> None:
        self._on = True
        for source in self.sources:
            self._loop.add_reader(source.fileno(), self._on_readable, source)

    def _unwatch(self) -> None:
        if self._on:
            self._on = False
            for source in self.sources:
                self._loop.remove_reader(source.fileno())

    def _remove(self, source: Source) -> None:
        if self._on:
            self._loop.remove_reader(source.fileno())
        self.sources.remove(source)
        source.close()

    def _say(self, text: str, error: OSError) -> None:
        """At most one line a second, whatever happens."""
        now = self._clock()
        if now - self._said >= 1.0:
            self._said = now
            logger.warning(text, error.strerror or error, extra=fields(errno=error.errno))


def is_passing(error: OSError) -> bool:
    """Whether the error is of one connection only, so that the next accept may do.

    Linux reports what had happened to the connection in the queue as accept's own error.
    """
    return not isinstance(error, BlockingIOError) and error.errno in PASSING


PASSING = frozenset(
    {
        errno.ECONNABORTED,
        errno.EINTR,
        errno.EPROTO,
        errno.EPERM,
        errno.ENETDOWN,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.ENONET,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.ETIMEDOUT,
    }
)
