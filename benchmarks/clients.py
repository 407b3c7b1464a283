"""Clients in a closed loop: each asks again as soon as it is answered. One process, one epoll.

For scenarios that compare CPU time: connections are made first, with their TLS and their WebSocket
handshakes, so that what is measured afterwards are requests and nothing else. How an answer ends
is learnt from the first; from then on ends are found by counting bytes, which costs little.
"""

import os
import select
import socket
import ssl
import struct
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks import load

ROOM = 256 * 1024  # bytes of a large answer taken at once
OK = b"HTTP/1.1 200"
TEXT = b"\x81"  # the first byte of a text message in one frame
LAST_CHUNK = b"\r\n0\r\n\r\n"
PATIENCE = 10.0  # seconds without any answer


@dataclass(frozen=True, slots=True)
class Ask:
    """What every client asks, and how it comes to that point."""

    wanted: bytes
    opening: bytes = b""  # sent once, answered with 101
    tls: ssl.SSLContext | None = None


def upgrade(target: str = "/") -> bytes:
    """The opening of a WebSocket."""
    return load.request(
        target,
        {
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",  # of RFC 6455 §1.3
        },
    )


def text_frame(payload: bytes) -> bytes:
    """A text message of at most 64 KiB in one frame, masked as a client's must be."""
    mask = os.urandom(4)
    size = len(payload)
    length = struct.pack("!BH", 0x80 | 126, size) if size > 125 else bytes([0x80 | size])
    masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(payload))
    return TEXT + length + mask + masked


class Clients:
    """Connections to one server, each of them answered once: `with Clients(...) as clients:`."""

    def __init__(self, port: int, ask: Ask, count: int) -> None:
        self._ask = ask
        self._socks: dict[int, socket.socket] = {}
        self._poll = select.epoll()
        self._size = 0  # of an answer; 0 if its last chunk ends it
        self._have: dict[int, int] = {}  # bytes of an answer that is not whole
        self._tails: dict[int, bytes] = {}  # its last bytes, where a chunk ends it
        try:
            for _ in range(count):
                self._connect(port)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Clients":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Hang up, all at once."""
        self._poll.close()
        for sock in self._socks.values():
            sock.close()
        self._socks.clear()

    def _connect(self, port: int) -> None:
        ask = self._ask
        sock = socket.create_connection((load.HOST, port), PATIENCE)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if ask.tls is not None:
            sock = ask.tls.wrap_socket(sock)
        self._socks[sock.fileno()] = sock
        if ask.opening:
            sock.sendall(ask.opening)
            _read(sock, _opened)
        sock.sendall(ask.wanted)
        self._size = _read(sock, _frame_size if ask.opening else _answer_size)
        sock.setblocking(False)
        self._poll.register(sock, select.EPOLLIN)

    def saturate(self, requests: int) -> int:
        """Ask until there were so many answers, and all that was asked is answered; how many.

        A server may close a connection after some number of requests (clusterd and others after
        1000): stay below it.
        """
        left = requests
        waiting = set(self._socks) if left >= len(self._socks) else set(list(self._socks)[:left])
        for fd in waiting:
            self._send(self._socks[fd])
        left -= len(waiting)
        take = self._take_chunked if not self._size else self._take_sized
        while waiting:
            events = self._poll.poll(PATIENCE)
            if not events:
                raise TimeoutError(f"no answer for {PATIENCE:.0f} s, {left} before the end")
            for fd, _ in events:
                sock = self._socks[fd]
                if not take(sock, fd):
                    continue
                if left > 0:
                    left -= 1
                    self._send(sock)
                else:
                    waiting.discard(fd)
        return requests - left

    def _send(self, sock: socket.socket) -> None:
        if sock.send(self._ask.wanted) != len(self._ask.wanted):
            raise BlockingIOError("the server does not read what it is sent")

    def _take_sized(self, sock: socket.socket, fd: int) -> bool:
        """Take what has come of an answer whose size is known; whether it is whole."""
        size = self._size
        try:
            data = sock.recv(ROOM if size > 4096 else 4096)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        before = self._have.pop(fd, 0) if self._have else 0
        if not before:
            self._check(data)
        have = before + len(data)
        if have == size:
            return True
        if not data or have > size:
            raise ConnectionResetError(f"an answer of {have} bytes, not {size}: {data[:200]!r}")
        self._have[fd] = have
        return False

    def _take_chunked(self, sock: socket.socket, fd: int) -> bool:
        """Take what has come of an answer whose last chunk ends it; whether it is whole."""
        try:
            data = sock.recv(ROOM)
        except (BlockingIOError, ssl.SSLWantReadError):
            return False
        if not data:
            raise ConnectionResetError("closed in the middle of an answer")
        before = self._tails.pop(fd, b"")
        if not before:
            self._check(data)
        tail = (before + data)[-len(LAST_CHUNK) :]
        if tail == LAST_CHUNK:
            return True
        self._tails[fd] = tail
        return False

    def _check(self, data: bytes) -> None:
        beginning = TEXT if self._ask.opening else OK
        if not data.startswith(beginning[: len(data)]):
            raise ValueError(f"unexpected answer: {data[:200]!r}")


def saturate(port: int, wanted: bytes, connections: int, requests: int) -> int:
    """Connect, ask until there were so many answers, and hang up; how many there were."""
    with Clients(port, Ask(wanted), connections) as clients:
        return clients.saturate(requests)


def _read(sock: socket.socket, judge: Callable[[bytes], int | None]) -> int:
    """Read until the judge has something to say."""
    data = b""
    while (said := judge(data)) is None:
        piece = sock.recv(65536)
        if not piece:
            raise ConnectionResetError(f"closed in the middle of an answer: {data[:200]!r}")
        data += piece
    return said


def _opened(data: bytes) -> int | None:
    """The size of an answer that changes the protocol."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    if data[9:12] != b"101":
        raise ValueError(f"no WebSocket: {data[:200]!r}")
    return end + 4


def _answer_size(data: bytes) -> int | None:
    """The size of an answer, or 0 if it is of those that a last chunk ends."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    if data[9:12] != b"200":
        raise ValueError(f"answered {data[:200]!r}")
    if b"transfer-encoding: chunked" in data[:end].lower():
        return 0 if data.endswith(LAST_CHUNK) else None
    answer = load.parse(data)
    return answer.size if answer is not None else None


def _frame_size(data: bytes) -> int | None:
    """The size of a frame of at most 64 KiB."""
    if data[:1] not in (b"", TEXT):
        raise ValueError(f"no message: {data[:200]!r}")
    if len(data) < 4:
        return None
    size = data[1] + 2 if data[1] < 126 else int.from_bytes(data[2:4]) + 4
    return size if len(data) >= size else None
