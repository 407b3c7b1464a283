"""A loop that does nothing by itself, and a server whose part the test plays: for connections."""

import select
import socket
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, cast

from clusterd.bench.connection import Connection, Handler
from clusterd.bench.dialer import Dialer
from clusterd.bench.load import HTTP, Load
from clusterd.bench.plan import Plan, made
from clusterd.bench.requests import parse_requests
from clusterd.bench.tally import Tally
from clusterd.bench.target import parse_target


def plan(url: str = "http://h/", protocol: str = HTTP, **more: Any) -> Plan:
    """Of one request."""
    target = parse_target(url)
    load = Load(requests=parse_requests(target, protocol=protocol), protocol=protocol, **more)
    return made(target, load, seed=1)


class Stage:
    """Driver and dialer at once. Each connection that is dialed has its other end in `peers`."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.timeout = 10_000_000_000
        self.tls = None
        self.target = parse_target("http://h/")
        self.peers: list[socket.socket] = []
        self.free: list[Connection] = []
        self.times: list[tuple[int, Callable[[], None]]] = []
        self.standing = 0
        self._ours: list[socket.socket] = []
        self._watched: dict[int, tuple[int, Handler]] = {}

    @property
    def dialer(self) -> Dialer:
        """What connections take for one."""
        return cast(Dialer, self)

    @property
    def peer(self) -> socket.socket:
        """The server's end of the latest connection."""
        return self.peers[-1]

    def dial(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.settimeout(10)
        self.peers.append(theirs)
        self._ours.append(ours)
        return ours

    def watch(self, fd: int, events: int, handler: Handler) -> None:
        self._watched[fd] = events, handler

    def unwatch(self, fd: int) -> None:
        del self._watched[fd]

    def later(self, when: int, call: Callable[[], None]) -> None:
        self.times.append((when, call))

    def freed(self, connection: Connection, now: int) -> None:
        self.free.append(connection)

    def stood(self, connection: Connection) -> None:
        self.standing += 1

    def lost(self, connection: Connection) -> None:
        self.standing -= 1

    def turn(self) -> None:
        """Let everything happen that is due by itself: until nothing is ready."""
        while True:
            poll = select.poll()
            for fd, (events, _) in self._watched.items():
                poll.register(fd, events)
            ready = poll.poll(0)
            if not ready:
                return
            for fd, events in ready:
                if fd in self._watched:
                    self._watched[fd][1](events)

    def due(self) -> int:
        """Run what is planned so far, whenever it is due: how many ns from now the last was."""
        now, times = monotonic_ns(), self.times
        self.times = []
        for _, call in times:
            call()
        self.turn()
        return max(when for when, _ in times) - now

    def says(self, data: bytes) -> None:
        """From the server."""
        self.peer.sendall(data)
        self.turn()

    def heard(self, size: int = 65536) -> bytes:
        """What the server received since it was last asked."""
        return self.peer.recv(size)

    def hangs_up(self) -> None:
        """The server closes. With something unread, that is told as a reset."""
        self.peer.close()
        self.turn()

    def close(self) -> None:
        """All of it."""
        for end in self.peers + self._ours:
            end.close()
