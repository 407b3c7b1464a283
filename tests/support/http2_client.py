"""A client that understands GOAWAY: it asks on, elsewhere, and loses nothing that may not be lost.

What the server says that it has not begun (REFUSED_STREAM, streams beyond a GOAWAY's latest) is
asked again on another connection, as RFC 9113 §8.7 has it; everything else must be answered.
"""

import socket
import threading
from collections.abc import Callable

from tests.support import http2 as frames
from tests.support.http2 import START, Reading, get
from tests.support.server import LIMIT

REFUSED_STREAM = 7


class Lost(Exception):
    """A request was begun and has no answer."""


class Connection:
    """One connection, with some requests in flight."""

    def __init__(self, address: tuple[str, int], path: str, most: int) -> None:
        self._socket = socket.create_connection(address, timeout=LIMIT)
        self._path = path
        self._most = most
        self._next = 1
        self._open: set[int] = set()
        self._reading = Reading()
        self._socket.sendall(START + frames.window(0, 2**30))
        self.answered: list[int] = []  # statuses
        self.on_answer: Callable[[], object] = int
        self.retried = 0

    def run(self, stop: threading.Event) -> None:
        """Ask until told to stop, or to go elsewhere, and take all answers."""
        with self._socket:
            while True:
                going = self._reading.goaways
                if not stop.is_set() and not going:
                    self._fill()
                if not self._open:
                    return
                data = self._socket.recv(65536)
                if not data:
                    raise Lost(f"streams {self._open} after {self._reading.goaways}")
                self._take(data)

    def _fill(self) -> None:
        while len(self._open) < self._most:
            self._socket.sendall(get(self._next, self._path))
            self._open.add(self._next)
            self._next += 2

    def _take(self, data: bytes) -> None:
        known = len(self._reading.frames)
        self._reading.take(data)
        for sent in self._reading.frames[known:]:
            if sent.kind == frames.PING and not sent.flags & frames.ACK:
                self._socket.sendall(frames.ping(sent.body, frames.ACK))
            elif sent.kind == frames.SETTINGS and not sent.flags & frames.ACK:
                self._socket.sendall(frames.settings(flags=frames.ACK))
            elif sent.kind == frames.RST_STREAM:
                if sent.code != REFUSED_STREAM:
                    raise Lost(f"stream {sent.stream} was reset: {sent.code}")
                self._retry({sent.stream})
            elif sent.kind == frames.GOAWAY:
                latest, code = self._reading.goaways[-1]
                if code:
                    raise Lost(f"GOAWAY {code}")
                self._retry({stream for stream in self._open if stream > latest})
        for stream in self._open & self._reading.ended:
            self.answered.append(self._reading.status(stream))
            self._open.discard(stream)
            self.on_answer()

    def _retry(self, streams: set[int]) -> None:
        self._open -= streams
        self.retried += len(streams)


class Load(threading.Thread):
    """One client's requests, one connection after another, until `end`."""

    def __init__(self, address: tuple[str, int], path: str = "/", most: int = 10) -> None:
        super().__init__()
        self._address = address
        self._path = path
        self._most = most
        self._stop_asking = threading.Event()
        self._answered = threading.Event()
        self.statuses: list[int] = []
        self.connections = 0
        self.error: Exception | None = None

    def run(self) -> None:
        try:
            while not self._stop_asking.is_set():
                connection = Connection(self._address, self._path, self._most)
                self.connections += 1
                connection.on_answer = self._answered.set
                connection.run(self._stop_asking)
                self.statuses += connection.answered
        except Exception as error:
            self.error = error

    def until_answered(self) -> None:
        """Wait for the first response."""
        assert self._answered.wait(LIMIT), self.error

    def end(self) -> list[int]:
        """All statuses that were answered. Raises what was lost."""
        self._stop_asking.set()
        self.join(LIMIT)
        if self.error is not None:
            raise self.error
        return self.statuses
