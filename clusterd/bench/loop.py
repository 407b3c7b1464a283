"""Drives connections: what the closed and the open loop are made of.

A plain epoll loop with one handler for each descriptor. Measured on a small machine, with 64
connections to a responder that does nothing: 9.6 µs of CPU time a request, where wrk, in C, takes
7.7 µs. Most of it is the kernel's.
"""

import select
from collections import deque
from collections.abc import Callable, Sequence
from time import monotonic_ns

from clusterd.bench.connection import Connection, Handler
from clusterd.bench.interval import INTERVAL, Interval
from clusterd.bench.tally import Tally
from clusterd.bench.timers import Timers

SECOND = 1_000_000_000
STEP = int(INTERVAL * SECOND)
LONGEST_WAIT = 60.0  # seconds; whoever stops us is a descriptor, too
AT_ONCE = 64  # events taken together
ARRIVING = 64  # connections that are being made at once: a server's queue may be as short as 128
SWEEPS, SHORTEST_SWEEP, LONGEST_SWEEP = 20, 10_000_000, 500_000_000  # a timeout, and ns


class Loop:
    """Descriptors, times, and the connections that are free. Knows no protocol."""

    def __init__(self, timeout: float, heard: Callable[[Interval], None]) -> None:
        self.timeout = int(timeout * SECOND)
        self.tally = Tally()
        self.standing = 0  # connections
        self.running = False  # between the start and the end
        self.stopped = False  # before its time
        self._heard = heard
        self._connections: list[Connection] = []
        self._besides: Sequence[Connection] = ()
        self._idle: deque[Connection] = deque()  # the one that waits longest is asked next
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._watched: dict[int, int] = {}
        self._timers = Timers()
        self._start = self._end = self._over = self._number = 0
        self.later(0, self._sweep)  # once for all: connections may be gathered twice

    # -- for connections

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        """Call it when one of these happens, and no other."""
        self._handlers[fd] = handler
        before = self._watched.get(fd)
        if before is None:
            self._epoll.register(fd, events)
        elif before != events:
            self._epoll.modify(fd, events)
        self._watched[fd] = events

    def unwatch(self, fd: int) -> None:
        """Before it is closed."""
        self._epoll.unregister(fd)
        del self._handlers[fd], self._watched[fd]

    def later(self, when: int, call: Callable[[], None]) -> None:
        """Call it at this monotonic time in ns, or soon after."""
        self._timers.later(when, call)

    def freed(self, connection: Connection, now: int) -> None:
        """It can be asked, when its turn comes."""
        connection.idle = True
        self._idle.append(connection)

    def stood(self, connection: Connection) -> None:
        """It is connected."""
        self.standing += 1

    def lost(self, connection: Connection) -> None:
        """It is no more."""
        self.standing -= 1
        if connection.idle:
            connection.idle = False
            self._idle.remove(connection)

    # -- for the generator

    def gather(self, connections: Sequence[Connection], patience: float) -> int:
        """Connect them, a few at a time, for so many seconds at most: how many can be asked.

        Gives up at once if the very first are refused; those that are missing try on meanwhile.
        """
        self._connections += connections
        waiting, begun = deque(connections), 0
        deadline = monotonic_ns() + int(patience * SECOND)
        self.later(deadline, nothing)  # wakes us
        while len(self._idle) < len(connections) and monotonic_ns() < deadline:
            while waiting and begun - len(self._idle) < ARRIVING:
                waiting.popleft().dial()
                begun += 1
            self.turn()
            if self.stopped or (self.tally.errors and not self.standing):
                break
        for connection in waiting:
            self.later(deadline, connection.dial)
        return len(self._idle)

    def turn(self) -> None:
        """Wait for something to happen, and let it."""
        wait = max(self._timers.next - monotonic_ns(), 0) / SECOND
        for fd, events in self._epoll.poll(min(wait, LONGEST_WAIT), AT_ONCE):
            self._handlers[fd](events)
        self._timers.run(monotonic_ns())

    def dismiss(self, connection: Connection) -> None:
        """It is needed no longer."""
        connection.close()
        self._connections.remove(connection)

    def drive(self, start: int, duration: float, besides: Sequence[Connection] = ()) -> None:
        """From a monotonic time in ns on, for so many seconds; or until it is stopped.

        `besides` ask by themselves as soon as they stand, and begin with the run.
        """
        if self.stopped:
            return
        self._besides = besides
        self._start, self._end = start, start + int(duration * SECOND)
        self.later(start, self._begin)
        while not self.running and not self.stopped:
            self.turn()
        if self.running:
            self._run()
            self._drain()
            self._over = monotonic_ns()
            self._say()

    def stop(self) -> None:
        """End as soon as possible; what was counted so far is said."""
        if not self.stopped:
            self.stopped = True
            self._end = min(monotonic_ns(), self._end) if self.running else self._start
            self.running = False

    @property
    def unanswered(self) -> int:
        """Requests that are under way; slow clients always have one, which tells nothing."""
        return sum(one.under_way for one in self._connections)

    @property
    def left(self) -> int:
        """Requests that were due and never sent, when it has ended."""
        return self.behind(self._end) if self._start else 0

    @property
    def seconds(self) -> float:
        """How long it was driven."""
        return (self._end - self._start) / SECOND if self._start else 0.0

    @property
    def over(self) -> float:
        """Seconds after its start when it took the last answer."""
        return (self._over - self._start) / SECOND if self._over else 0.0

    def behind(self, now: int) -> int:
        """Requests that are due and not sent."""
        return 0

    # -- in between

    def _begin(self) -> None:
        self.tally.begin()
        self.running = True
        self.later(min(self._start + STEP, self._end), self._cut)
        for connection in self._besides:
            connection.dial()
        self._first(monotonic_ns())

    def _first(self, now: int) -> None:
        """The run begins."""
        raise NotImplementedError

    def _run(self) -> None:
        """The run, until it ends."""
        raise NotImplementedError

    def _drain(self) -> None:
        """After the run, before its last interval is cut. What is on its way is left alone."""

    def _cut(self) -> None:
        """End an interval, or with the last one the run."""
        if monotonic_ns() >= self._end:
            self.running = False
        if self.running:
            self._say()
            self.later(min(self._start + (self._number + 1) * STEP, self._end), self._cut)

    def _say(self) -> None:
        behind = self.behind(min(monotonic_ns(), self._end))
        self._heard(self.tally.cut(self._number, connections=self.standing, behind=behind))
        self._number += 1

    def _sweep(self) -> None:
        """Give up on what takes too long."""
        now = monotonic_ns()
        limit = now - self.timeout
        for connection in (*self._connections, *self._besides):
            if 0 < connection.asked < limit:
                connection.expired()
        pause = min(max(self.timeout // SWEEPS, SHORTEST_SWEEP), LONGEST_SWEEP)
        self.later(now + pause, self._sweep)


def nothing() -> None:
    """Only wakes."""
