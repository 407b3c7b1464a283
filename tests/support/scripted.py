"""A server of a few lines that does as it is told, at the given requests, and counts.

What it counts is the truth that a load generator's figures are held against: how many requests
it had and answered, and how long it took for each, from having read it to writing. A
client's latency can only be longer than that, whatever the machine does meanwhile.
"""

import contextlib
import heapq
import json
import os
import select
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any, Self

ROOT = Path(__file__).parents[2]
LIMIT = 30.0  # seconds until a wait is a failure

OK = "ok"
CHUNKED, TO_THE_END = "chunked", "to the end"  # other ways to say where a body ends
BODILESS = "204"
RESET, HALF, SILENT, GARBAGE, CLOSE = "reset", "half", "silent", "garbage", "close"


@dataclass(frozen=True)
class Script:
    """What to do. Lists are gone through over and over, one element a request."""

    delays: tuple[float, ...] = (0.0,)  # seconds from reading a request to answering it
    acts: tuple[str, ...] = (OK,)  # OK … CLOSE above, or a status
    stalls: tuple[tuple[int, float], ...] = ()  # after so many requests nothing for so long
    budget: int = 0  # answers; whoever asks after that waits for ever. 0: no end
    dies_after: int = 0  # requests
    body: int = 13  # bytes of an answer's
    head: bool = False  # mind HEAD, to which no answer has a body
    certificate: tuple[str, ...] = ()  # files of a certificate and its key: TLS


@dataclass
class Told:
    """What it has seen and done."""

    received: int = 0
    answered: int = 0
    connections: int = 0
    most_open: int = 0
    deepest: int = 0  # requests under way on one connection
    sent: int = 0  # bytes
    bodies: int = 0  # bytes of the requests'
    asked: dict[str, int] = field(default_factory=dict)  # by method and path
    acts: dict[str, int] = field(default_factory=dict)
    taken: list[int] = field(default_factory=list)  # µs, of the answered, in order of size


class _Connection:
    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.read = b""
        self.under_way = 0
        self.latest = 0.0  # when its last answer is due: they leave in the order of the questions


class _Server:
    """One thread, which also stalls as a blocked event loop does: for everybody."""

    def __init__(self, script: Script) -> None:
        self.script = script
        self.told = Told()
        self.by: Counter[str] = Counter()
        self.acts: Counter[str] = Counter()
        self.stalls = list(script.stalls)
        self.connections: dict[int, _Connection] = {}
        self.due: list[tuple[float, int, _Connection, str, float, bool]] = []
        self.context = None
        if script.certificate:
            self.context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            self.context.load_cert_chain(*script.certificate)
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=4096)
        self.epoll = select.epoll()
        self.epoll.register(self.listener, select.EPOLLIN)
        self.epoll.register(0, select.EPOLLIN)

    def run(self) -> None:
        """Until stdin ends; each line there is a question for the counts."""
        print(self.listener.getsockname()[1], flush=True)
        while True:
            wait = max(0.0, self.due[0][0] - monotonic()) if self.due else None
            select.select([self.epoll], [], [], wait)  # finer than epoll's milliseconds
            for number, _ in self.epoll.poll(0):
                if number == self.listener.fileno():
                    self._accept()
                elif number == 0:
                    if not os.read(0, 4096):
                        return
                    self._tell()
                elif number in self.connections:
                    self._hear(self.connections[number])
            self._answer_what_is_due()

    def _tell(self) -> None:
        self.told.asked, self.told.acts = dict(self.by), dict(self.acts)
        self.told.taken.sort()
        print(json.dumps(asdict(self.told)), flush=True)

    def _accept(self) -> None:
        sock, _ = self.listener.accept()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.context is not None:
            try:
                sock = self.context.wrap_socket(sock, server_side=True)
            except OSError:
                sock.close()
                return
        self.connections[sock.fileno()] = _Connection(sock)
        self.epoll.register(sock, select.EPOLLIN)
        self.told.connections += 1
        self.told.most_open = max(self.told.most_open, len(self.connections))

    def _hear(self, connection: _Connection) -> None:
        try:
            data = connection.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            self._drop(connection)
            return
        connection.read += data
        if isinstance(connection.sock, ssl.SSLSocket) and connection.sock.pending():
            connection.read += connection.sock.recv(65536)
        while end := self._end_of_request(connection.read):
            self._stall_if_it_is_time()
            self._take(connection, connection.read[:end])
            connection.read = connection.read[end:]

    @staticmethod
    def _end_of_request(data: bytes) -> int:
        """Where the first one ends; 0 if it is not whole."""
        head, found, _ = data.partition(b"\r\n\r\n")
        if not found:
            return 0
        _, length, rest = head.lower().partition(b"\r\ncontent-length:")
        end = len(head) + 4 + (int(rest.partition(b"\r\n")[0]) if length else 0)
        return end if len(data) >= end else 0

    def _stall_if_it_is_time(self) -> None:
        if self.stalls and self.told.received >= self.stalls[0][0]:
            _, seconds = self.stalls.pop(0)
            select.select([], [], [], seconds)

    def _take(self, connection: _Connection, request: bytes) -> None:
        now, script, number = monotonic(), self.script, self.told.received
        self.told.received += 1
        if script.dies_after and self.told.received > script.dies_after:
            os._exit(7)
        head, _, body = request.partition(b"\r\n\r\n")
        self.told.bodies += len(body)
        self.by[" ".join(head.partition(b"\r\n")[0].decode().split()[:2])] += 1
        connection.under_way += 1
        self.told.deepest = max(self.told.deepest, connection.under_way)
        act = script.acts[number % len(script.acts)]
        if script.budget and number >= script.budget:
            act = SILENT
        at = max(now + script.delays[number % len(script.delays)], connection.latest)
        connection.latest = at
        bodiless = script.head and head.startswith(b"HEAD ")
        heapq.heappush(self.due, (at, number, connection, act, now, bodiless))

    def _answer_what_is_due(self) -> None:
        while self.due and self.due[0][0] <= monotonic():
            _, _, connection, act, since, bodiless = heapq.heappop(self.due)
            if connection.sock.fileno() == -1:
                continue
            self.acts[act] += 1
            connection.under_way -= 1
            answer, ends = self._answer(act, bodiless)
            if act in (RESET, SILENT, HALF, GARBAGE, CLOSE):
                since = 0.0
            self._write(connection, answer, since)
            if act == RESET:
                linger = (1).to_bytes(4, sys.byteorder) + (0).to_bytes(4, sys.byteorder)
                connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            if ends:
                self._drop(connection)

    def _write(self, connection: _Connection, answer: bytes, since: float) -> None:
        """`since`: when a request was read that this answers."""
        now = monotonic()  # before it is sent: the client may have it before we know
        try:
            connection.sock.sendall(answer)
        except OSError:
            self._drop(connection)
            return
        self.told.sent += len(answer)
        if since:
            self.told.answered += 1
            self.told.taken.append(int((now - since) * 1e6))

    def _answer(self, act: str, bodiless: bool) -> tuple[bytes, bool]:
        """What to say, and whether the connection ends with it."""
        body = b"x" * self.script.body
        if act == BODILESS or (bodiless and act == OK):
            status = b"204 No Content" if act == BODILESS else b"200 OK"
            return b"HTTP/1.1 %b\r\nContent-Length: 13\r\n\r\n" % status, False
        if act in (RESET, SILENT, CLOSE):
            return b"", act != SILENT
        if act == GARBAGE:
            return b"SSH-2.0-OpenSSH_9.2\r\n\r\n", True
        if act == CHUNKED:
            chunk = b"%x\r\n%b\r\n" % (len(body), body)
            head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
            return head + chunk + chunk + b"0\r\n\r\n", False
        if act == TO_THE_END:
            return b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + body, True
        status = b"200 OK" if act in (OK, HALF) else act.encode() + b" Scripted"
        whole = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
        return (whole[: -len(body) // 2], True) if act == HALF else (whole, False)

    def _drop(self, connection: _Connection) -> None:
        if connection.sock.fileno() != -1:
            self.epoll.unregister(connection.sock)
            del self.connections[connection.sock.fileno()]
            connection.sock.close()


class Scripted:
    """The server in a process of its own."""

    def __init__(self, script: Script | None = None, **told: Any) -> None:
        script = script or Script(**told)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.scripted"],
            env={**os.environ, "SCRIPT": json.dumps(asdict(script))},
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())
        scheme = "https" if script.certificate else "http"
        self.url = f"{scheme}://127.0.0.1:{self.port}/"

    def told(self) -> Told:
        """What it has seen until now."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("?\n")
        self.process.stdin.flush()
        return Told(**json.loads(self.process.stdout.readline()))

    def until(self, is_it: Callable[[Told], bool]) -> Told:
        """Ask until it is so."""
        deadline = monotonic() + LIMIT
        while not is_it(told := self.told()):
            assert monotonic() < deadline, told
            select.select([], [], [], 0.01)
        return told

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.stdout.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


if __name__ == "__main__":
    _given: dict[str, Any] = json.loads(os.environ["SCRIPT"])
    _Server(Script(**_given)).run()
