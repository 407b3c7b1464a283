"""A generator: the process that sends requests and counts answers, as an order on its stdin says.

`python -m clusterd.bench.generator`; `orders` has what is said over stdin and stdout.
"""

import fcntl
import gc
import os
import resource
import sys
from collections.abc import Callable
from contextlib import suppress

from clusterd.bench import http, interval, orders, slow, sse, troubles, websocket
from clusterd.bench.closed import Closed
from clusterd.bench.connection import IN, Connection, Driver
from clusterd.bench.dialer import Dialer
from clusterd.bench.errors import Unreachable
from clusterd.bench.load import SSE, WEBSOCKET, Load
from clusterd.bench.loop import Loop
from clusterd.bench.orders import Connected, Done, Failed, Order
from clusterd.bench.paced import Paced
from clusterd.bench.plan import Plan, made
from clusterd.core.errors import ClusterdError

PATIENCE = 5.0  # seconds at most until all are connected
PIPE = 1 << 20  # bytes that the parent may leave unread before we would have to wait for it
SLACK = 1  # ns by which the kernel may wake us late; 50,000 otherwise
LINE = 65536

Make = Callable[[Driver, Dialer, Plan], Connection]


class Parent:
    """Whoever ordered: lines from it, and lines to it."""

    def __init__(self, stdin: int, stdout: int) -> None:
        self.stdin, self._stdout = stdin, stdout
        self._read = bytearray()
        self.gone = False
        with suppress(OSError):  # a file, or more than a user may have
            fcntl.fcntl(stdout, fcntl.F_SETPIPE_SZ, PIPE)

    def say(self, what: orders.Said) -> None:
        """To it; whether it still listens, its end of our stdin tells."""
        line = orders.say(what)
        with suppress(BrokenPipeError):
            while line:
                line = line[os.write(self._stdout, line) :]

    def lines(self) -> list[bytes]:
        """The whole lines of what came, waiting for something to come. `gone` tells of its end."""
        data = os.read(self.stdin, LINE)
        self.gone = not data
        self._read += data  # in place: an order may hold a body of a hundred megabytes
        if b"\n" not in data:
            return []
        *lines, self._read = self._read.split(b"\n")
        return [bytes(line) for line in lines]

    def order(self) -> Order | None:
        """The first line; None if it goes before it has said one. Raises Unfit."""
        while not self.gone:
            if lines := self.lines():
                return Order.read(lines[0])
        return None


def kind_of(load: Load) -> Make:
    """Which connections do what the load asks for."""
    if load.protocol == WEBSOCKET:
        return websocket.WebSocketConnection
    if load.protocol == SSE:
        return sse.SseConnection
    if load.fresh:
        return http.FreshConnection
    if load.pipeline > 1 and not load.rate:
        return http.PipelinedConnection
    return http.HttpConnection


def prepare(cpus: tuple[int, ...]) -> None:
    """This process, for nothing to hold it up."""
    if cpus:
        with suppress(OSError):  # taken away since; where we are then shows in the figures
            os.sched_setaffinity(0, cpus)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with suppress(OSError), open("/proc/self/timerslack_ns", "w") as slack:
        slack.write(str(SLACK))
    # Nothing on the way of a request is garbage that only the collector finds, and looking for it
    # takes milliseconds.
    gc.disable()


class Generator:
    """One order, carried out."""

    def __init__(self, parent: Parent, order: Order) -> None:
        load = order.load
        self._parent, self._load = parent, load
        self._start = 0
        self._loop: Loop = (
            Paced(load.timeout, parent.say, load.rate, order.phase)
            if load.rate
            else Closed(load.timeout, parent.say)
        )
        self._dialer = Dialer(order.target)
        self._plan = made(order.target, load, order.seed)

    def run(self) -> None:
        """Connect, wait for the word, drive, and say what came of it."""
        loop, load, parent = self._loop, self._load, self._parent
        loop.watch(parent.stdin, IN, self._hear)
        connected = self._connect(kind_of(load), load.connections)
        if loop.stopped:
            return
        if not connected:
            parent.say(self._failure())
            return
        parent.say(Connected(connected))
        while not self._start and not loop.stopped:
            loop.turn()
        if self._start:
            slow_ones = self._make(slow.SlowConnection, slow.count(load))
            loop.drive(self._start, load.duration, slow_ones)
        parent.say(
            Done(
                sent=loop.tally.sent,
                unanswered=loop.unanswered,
                behind=loop.left,
                seconds=loop.seconds,
                texts=loop.tally.texts,
                over=loop.over,
            )
        )

    def _make(self, make: Make, count: int) -> list[Connection]:
        return [make(self._loop, self._dialer, self._plan) for _ in range(count)]

    def _connect(self, make: Make, count: int) -> int:
        loop, patience = self._loop, min(self._load.timeout, PATIENCE)
        if make is http.FreshConnection:
            # These connect only when they ask; whether anybody is there is to be known before.
            probe = http.HttpConnection(loop, self._dialer, self._plan)
            there = loop.gather([probe], patience)
            loop.dismiss(probe)
            if not there:
                return 0
        return loop.gather(self._make(make, count), patience)

    def _failure(self) -> Failed:
        tally = self._loop.tally
        if not tally.errors:
            error = TimeoutError()
            return Failed(interval.TIMEOUT, troubles.explained(error, self._plan.target))
        kind = next(iter(tally.errors))
        return Failed(kind, tally.texts.get(kind, kind))

    def _hear(self, _events: int) -> None:
        for line in self._parent.lines():
            if line + b"\n" == orders.STOP:
                self._loop.stop()
            elif start := orders.told(line):
                self._start = start
        if self._parent.gone:
            self._loop.stop()
            self._loop.unwatch(self._parent.stdin)


def main() -> None:
    """One order from stdin."""
    parent = Parent(sys.stdin.fileno(), sys.stdout.fileno())
    try:
        if (order := parent.order()) is not None:
            prepare(order.cpus)
            Generator(parent, order).run()
    except Unreachable as error:
        parent.say(Failed(interval.CONNECT, str(error)))
    except ClusterdError as error:
        parent.say(Failed("order", str(error)))


if __name__ == "__main__":
    main()
