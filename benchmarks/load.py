"""The load: many HTTP/1.1 connections from one process, one epoll, no threads.

Cheap rather than clever, so that the client leaves the machine to the server. A `Crowd` gives a
scenario every answer and every hang-up with its time, and lets it decide what to do next; clients
that only ask again and again are in `clients`.
"""

import errno
import select
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass

HOST = "127.0.0.1"
BIND_ADDRESS_NO_PORT = 24  # ip(7): choose the port at connect, which knows whom it goes to
LINGER_RESET = struct.pack("ii", 1, 0)
BROWSER = {
    "Connection": "keep-alive",
    "Cache-Control": "max-age=0",
    "Upgrade-Insecure-Requests": "1",
    "User-Agent": "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/142.0.0.0 Safari/537.36",
    "Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,"
    "*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-User": "?1",
    "Sec-Fetch-Dest": "document",
    "Accept-Encoding": "gzip, deflate, br, zstd",
    "Accept-Language": "en-GB,en;q=0.9,de;q=0.8",
    "Cookie": "session=6f1d3c0c8a5e4a0cb7c2; theme=dark",
}


def request(
    target: str = "/", headers: dict[str, str] | None = None, body: bytes | None = None
) -> bytes:
    """A GET as bytes, with Host first; a POST if there is a body."""
    method = "GET" if body is None else "POST"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {HOST}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + (body or b"")


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer. `stays` is false when the server said that it closes."""

    status: int
    body: bytes
    size: int
    stays: bool


def parse(data: bytes | bytearray) -> Answer | None:
    """The answer at the start of the bytes, or None while it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    lines = bytes(data[:end]).split(b"\r\n")
    headers = {
        name.strip().lower(): value.strip()
        for name, _, value in (line.partition(b":") for line in lines[1:])
    }
    if b"content-length" not in headers:
        raise ValueError(f"an answer without a length: {bytes(data[:200])!r}")
    size = end + 4 + int(headers[b"content-length"])
    if len(data) < size:
        return None
    stays = headers.get(b"connection", b"").lower() != b"close"
    return Answer(int(lines[0].split()[1]), bytes(data[end + 4 : size]), size, stays)


def trusting() -> ssl.SSLContext:
    """A TLS client that takes any certificate: who the server is, is known."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def ask(port: int, target: str = "/", timeout: float = 5.0, tls: bool = False) -> Answer:
    """One request on a connection of its own; raises OSError when there is no answer."""
    with ExitStack() as stack:
        sock = stack.enter_context(socket.create_connection((HOST, port), timeout))
        if tls:
            sock = stack.enter_context(trusting().wrap_socket(sock))
        sock.sendall(request(target, {"Connection": "close"}))
        data = bytearray()
        while (answer := parse(data)) is None:
            piece = sock.recv(65536)
            if not piece:
                raise ConnectionResetError("closed before the answer was whole")
            data += piece
        return answer


class Connection:
    """One connection of a crowd; `answers` counts those it has had, so 0 means it is fresh."""

    __slots__ = ("answers", "asked_at", "buffer", "outgoing", "sock", "tag", "waiting", "wanted")

    def __init__(self, sock: socket.socket, tag: int) -> None:
        self.sock = sock
        self.tag = tag
        self.answers = 0
        self.asked_at = 0.0
        self.buffer = bytearray()
        self.outgoing = b""
        self.waiting = False
        self.wanted = b""


@dataclass(frozen=True, slots=True)
class Report:
    """What a connection did: an answer, or (answer None) it is closed, `error` saying how."""

    conn: Connection
    answer: Answer | None
    error: str
    at: float


class Crowd:
    """Connections under one epoll. `turn` waits a little and says what happened."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.open: dict[int, Connection] = {}
        self._poll = select.epoll()
        self._refused: list[Report] = []

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for conn in list(self.open.values()):
            self.close(conn)
        self._poll.close()

    def connect(self, tag: int = 0, source: str = "") -> Connection:
        """Begin a connection, from that address of ours; what goes wrong `turn` tells."""
        sock = socket.socket()
        sock.setblocking(False)
        if source:
            sock.setsockopt(socket.IPPROTO_IP, BIND_ADDRESS_NO_PORT, 1)
            sock.bind((source, 0))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        conn = Connection(sock, tag)
        code = sock.connect_ex((HOST, self.port))
        self.open[sock.fileno()] = conn
        if code not in (0, errno.EINPROGRESS):
            self._drop(conn, errno.errorcode[code])
        else:
            self._poll.register(sock, select.EPOLLIN)
        return conn

    def ask(self, conn: Connection, wanted: bytes) -> None:
        """Send a request, at once or as soon as the handshake is over."""
        conn.wanted, conn.waiting, conn.asked_at = wanted, True, time.perf_counter()
        if conn.sock.fileno() >= 0:
            self._send(conn, wanted)

    def _send(self, conn: Connection, data: bytes) -> None:
        try:
            sent = conn.sock.send(data)
        except BlockingIOError:  # the handshake is still under way
            sent = 0
        except OSError as error:
            self._drop(conn, errno.errorcode[error.errno or 0])
            return
        conn.outgoing = data[sent:]
        if conn.outgoing:
            self._poll.modify(conn.sock, select.EPOLLIN | select.EPOLLOUT)

    def close(self, conn: Connection, reset: bool = False) -> None:
        """Close from our side; with `reset` no TIME_WAIT is left behind."""
        if conn.sock.fileno() >= 0:
            self.open.pop(conn.sock.fileno(), None)
            if reset:
                with suppress(OSError):
                    conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
            conn.sock.close()

    def turn(self, timeout: float) -> Iterator[Report]:
        """Wait until something happens or the time is over; yield what did."""
        refused, self._refused = self._refused, []
        yield from refused
        for fd, events in self._poll.poll(0 if refused else max(0.0, timeout)):
            conn = self.open.get(fd)
            if conn is None:
                continue
            if events & select.EPOLLOUT and not events & (select.EPOLLERR | select.EPOLLHUP):
                self._poll.modify(conn.sock, select.EPOLLIN)
                self._send(conn, conn.outgoing)
            if events & ~select.EPOLLOUT and conn.sock.fileno() >= 0:
                report = self._receive(conn)
                if report is not None:
                    yield report
        refused, self._refused = self._refused, []
        yield from refused

    def _receive(self, conn: Connection) -> Report | None:
        try:
            piece = conn.sock.recv(65536)
        except BlockingIOError:
            return None
        except OSError as error:
            self._drop(conn, errno.errorcode[error.errno or 0])
            return None
        at = time.perf_counter()
        if not piece:
            self._drop(conn, "EOF")
            return None
        conn.buffer += piece
        answer = parse(conn.buffer)
        if answer is None:
            return None
        if not conn.waiting or len(conn.buffer) > answer.size:
            raise ValueError(f"bytes that nobody asked for: {bytes(conn.buffer)!r}")
        conn.buffer.clear()
        conn.answers += 1
        conn.waiting = False
        return Report(conn, answer, "", at)

    def _drop(self, conn: Connection, error: str) -> None:
        self.close(conn)
        self._refused.append(Report(conn, None, error, time.perf_counter()))
