"""Clients that each keep to the limits, and together want all of a worker's memory."""

import contextlib
import itertools
import os
import socket
import ssl
import stat
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

from tests.support import http2

KIB, MIB = 1024, 1024 * 1024
HOST = b"Host: a\r\n"
SHAKE = (
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n%b\r\n"
)
DEFLATE = b"Sec-WebSocket-Extensions: permessage-deflate\r\n"


def _frame(first: int, data: bytes, length: int | None = None) -> bytes:
    """A long frame with a mask of noughts; `length` in place of the right one."""
    size = len(data) if length is None else length
    return struct.pack("!BBQ", first, 0xFF, size) + bytes(4) + data


def _bomb() -> bytes:
    packer = zlib.compressobj(wbits=-12)
    data = (packer.compress(bytes(MIB)) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]
    return struct.pack("!BBH", 0xC2, 0xFE, len(data)) + bytes(4) + data


def _requests(method: str, count: int, size: int) -> bytes:
    """HTTP/2 requests with long heads, in as many frames as that takes."""
    fields = [(f"x-{n}", "y" * 3000) for n in range(size // 3000)]
    block, found = http2.asked(method, "/", *fields), b""
    for stream in range(1, 2 * count, 2):
        parts = [block[at : at + 16384] for at in range(0, len(block), 16384)]
        for number, part in enumerate(parts):
            kind = http2.CONTINUATION if number else http2.HEADERS
            flags = http2.END_HEADERS if number == len(parts) - 1 else 0
            found += http2.frame(kind, flags, stream, part)
    return found


def _bodies() -> bytes:
    piece = b"x" * 16000
    return b"".join(
        http2.post(stream) + http2.data(stream, piece) * 15 for stream in range(1, 9, 2)
    )


# By name: what is sent before it counts, and what takes memory.
KINDS: dict[str, tuple[bytes, bytes]] = {
    "half a head": (b"", b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"x" * 60 * KIB),
    "many headers": (
        b"",
        b"POST / HTTP/1.1\r\nContent-Length: 9\r\n" + HOST + b"X: " + b"y" * 60 * KIB + b"\r\n\r\n",
    ),
    "half a body": (
        b"",
        b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n" + HOST + b"\r\n" + b"x" * MIB,
    ),
    "chunks": (
        b"",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        + HOST
        + b"\r\n"
        + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 64,
    ),
    "a slow reader": (b"", b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n"),
    "pipelined": (b"", (b"GET /large HTTP/1.1\r\n" + HOST + b"\r\n") * 20_000),
    "half a message": (SHAKE % b"", _frame(0x82, bytes(MIB), 15 * MIB)),
    "fragments": (SHAKE % b"", _frame(0x02, bytes(256 * KIB)) + _frame(0x00, bytes(256 * KIB)) * 9),
    "messages": (SHAKE % b"", _frame(0x82, bytes(200 * KIB)) * 20),
    "bombs": (SHAKE % DEFLATE, _bomb() * 20),
    "streams": (http2.START, _requests("POST", 40, 60_000)),
    "bodies": (http2.START, _bodies()),
    "half a block": (
        http2.START,
        http2.frame(http2.HEADERS, 0, 1, http2.asked())
        + http2.frame(http2.CONTINUATION, 0, 1, b"\0\1a\0" * 4000) * 7,
    ),
}
# What a WSGI worker has on disk, beside the smaller ones that it has in memory.
LARGE: dict[str, tuple[bytes, bytes]] = {
    "half a large body": (
        b"",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n" + HOST + b"\r\n" + b"x" * 3 * MIB,
    ),
    "large chunks": (
        b"",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n"
        + HOST
        + b"\r\n"
        + (b"4000\r\n" + b"x" * 0x4000 + b"\r\n") * 192,
    ),
}
SPOOLS = ("chunks", "half a body", "half a head", *LARGE)  # what a WSGI app has to do with


WINDOWED = {"bodies"}  # kinds that send as much as their windows allow


def allowed(payload: bytes, window: int) -> int:
    """Return how many bytes of HTTP/2 frames may be sent while the connection's window is this."""
    position = 0
    while position < len(payload):
        length = int.from_bytes(payload[position : position + 3])
        if payload[position + 3] == http2.DATA:
            window -= length
        if window < 0:
            break
        position += 9 + length
    return position


class Attacker:
    """One of them. It sends what it can without waiting, and reads nothing but its windows."""

    def __init__(self, address: tuple[str, int], kind: str, tls: ssl.SSLContext | None) -> None:
        self._address, self._tls = address, tls
        self._first, self._payload = (KINDS | LARGE)[kind]
        self._sent = self._may_send = 0  # bytes of it
        self._is_windowed = kind in WINDOWED
        self._sock: socket.socket | None = None
        self.connections = 0

    def connect(self) -> None:
        """Connect and say what costs nothing."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.settimeout(30)
        sock.connect(self._address)
        if self._tls is not None:
            sock = self._tls.wrap_socket(sock, server_hostname="localhost")
        sock.sendall(self._first)
        sock.setblocking(False)
        self._sock = sock
        self._sent, self._may_send = 0, len(self._payload)
        self._window, self._read = 65_535, b""
        self.connections += 1

    def attack(self, most: int = sys.maxsize) -> int:
        """Send up to so many bytes more of what takes memory, and return how many those were;
        connect again after it was sent away."""
        done = 0
        try:
            if self._sock is None:
                self.connect()
            assert self._sock is not None
            if self._is_windowed:
                self._read_windows(self._sock)
            while self._sent < self._may_send and done < most:
                end = min(self._sent + min(64 * KIB, most - done), self._may_send)
                sent = self._sock.send(memoryview(self._payload)[self._sent : end])
                self._sent += sent
                done += sent
        except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
            pass
        except (OSError, ssl.SSLError):
            self.close()
        return done

    def fileno(self) -> int:
        """Return the descriptor, or -1 while it is not connected."""
        return -1 if self._sock is None else self._sock.fileno()

    def _read_windows(self, sock: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError, ssl.SSLWantReadError):
            while data := sock.recv(4096):
                self._read += data
            raise ConnectionResetError
        while len(self._read) >= 9 and len(self._read) >= (
            end := 9 + int.from_bytes(self._read[:3])
        ):
            frame, self._read = self._read[:end], self._read[end:]
            if frame[3] == http2.WINDOW_UPDATE and not int.from_bytes(frame[5:9]):
                self._window += int.from_bytes(frame[9:])
        self._may_send = allowed(self._payload, self._window)

    def close(self) -> None:
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def crowd(
    address: tuple[str, int], kinds: tuple[str, ...], count: int, tls: ssl.SSLContext | None = None
) -> Iterator[Attacker]:
    """So many attackers, of all kinds in turn."""
    for kind, _ in zip(itertools.cycle(kinds), range(count), strict=False):
        yield Attacker(address, kind, tls)


# --- what it costs


def resident(pid: int, field: str = "VmRSS") -> int:
    """Memory of a process in bytes (proc(5), status), or with VmHWM the most that it ever was."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1]) * KIB
    raise AssertionError(f"no {field} of {pid}")


def forget_peak(pid: int) -> None:
    """Let VmHWM begin anew (proc(5), clear_refs)."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def spooled(pid: int) -> int:
    """Bytes in files without a name that a process has open; a memfd is none of a client's."""
    total = 0
    for name in os.listdir(f"/proc/{pid}/fd"):
        path = f"/proc/{pid}/fd/{name}"
        with contextlib.suppress(OSError):
            about = os.stat(path)
            is_file = stat.S_ISREG(about.st_mode) and not about.st_nlink
            if is_file and not os.readlink(path).startswith("/memfd:"):
                total += about.st_size
    return total
