"""A process of hostile clients: `python -m benchmarks.attack PORT KIND COUNT RATE`.

KIND is one of `tests/support/hostile.py`, `any` for all of them in turn, or `innocent`, which sends
the same number of bytes as requests that are answered at once. Connections and bytes a second are
bounded, so that what is measured is what the server holds for them, and not that it has no CPU
left. It prints a line once it has sent all that it can, or for as long as that may take, and goes
on until its standard input ends. Connections that the server closes are replaced.
"""

import itertools
import math
import os
import resource
import select
import socket
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Protocol

from benchmarks import load
from tests.support.hostile import KINDS, crowd

# All clients have a turn in so many parts of so many seconds: in one go the bytes of a longer time
# would come as a burst, which others would have to wait for.
PARTS, PART = 10, 0.01
PIECE = 64 * 1024  # bytes that one client sends in a turn at most
CONNECTS = 200  # new connections a second
FILL = 10.0  # seconds in which they may send what takes memory before others are measured
ANY, INNOCENT = "any", "innocent"
# The application does not read what comes with PUT; heads would cost more than hostile bodies do.
REQUEST = load.request("/", body=bytes(60_000)).replace(b"POST", b"PUT", 1)


class Client(Protocol):
    """One client of the attack."""

    def attack(self, most: int) -> int:
        """Send up to so many bytes, connecting before if need be; return how many those were."""

    def fileno(self) -> int:
        """Return the descriptor, or -1 while it is not connected."""

    def close(self) -> None: ...


class Innocent:
    """A client with small uploads that reads what it gets and then asks again."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._sock: socket.socket | None = None
        self._left = b""
        self._is_waiting = False

    def attack(self, most: int) -> int:
        """Send more of a request, or a new one once the last was answered."""
        try:
            if self._sock is None:
                self._sock = socket.create_connection((load.HOST, self._port), 30)
                self._sock.setblocking(False)
                self._left, self._is_waiting = b"", False
            if self._is_waiting:
                if not self._sock.recv(65536):
                    self.close()
                    return 0
                self._is_waiting = False
            self._left = self._left or REQUEST
            sent = self._sock.send(self._left[:most])
        except BlockingIOError:
            return 0
        except OSError:
            self.close()
            return 0
        self._left = self._left[sent:]
        self._is_waiting = not self._left
        return sent

    def fileno(self) -> int:
        """Return the descriptor, or -1 while it is not connected."""
        return -1 if self._sock is None else self._sock.fileno()

    def close(self) -> None:
        """Leave."""
        if self._sock is not None:
            self._sock.close()
            self._sock = None


def gather(port: int, kind: str, count: int) -> Sequence[Client]:
    """Return so many clients of a kind, none of them connected."""
    if kind == INNOCENT:
        return [Innocent(port) for _ in range(count)]
    kinds = tuple(KINDS) if kind == ANY else (kind,)
    return list(crowd((load.HOST, port), kinds, count))


def attack(clients: Sequence[Client], rate: int, ends: bool) -> None:
    """Attack until standard input ends. `ends`: they have sent all that they can at some time."""
    order = itertools.cycle(clients)
    share = math.ceil(len(clients) / PARTS)
    end, is_full = time.monotonic() + FILL, False
    while True:
        drop_closed(clients)
        sent = 0
        for _ in range(PARTS):
            if select.select([sys.stdin], [], [], PART)[0]:
                return
            sent += take_turns(order, share, int(rate * PART))
        is_done = all(client.fileno() >= 0 for client in clients) and not (ends and sent)
        if not is_full and (is_done or time.monotonic() > end):
            is_full = True
            print("full", flush=True)


def take_turns(order: Iterator[Client], count: int, allowance: int) -> int:
    """Let so many clients send, unless the allowance is used up before; the bytes sent."""
    sent, connects = 0, int(CONNECTS * PART)
    for client in itertools.islice(order, count):
        if client.fileno() < 0:
            if not connects:
                continue
            connects -= 1
        sent += client.attack(min(PIECE, allowance - sent))
        if sent >= allowance:
            break
    return sent


def drop_closed(clients: Sequence[Client]) -> None:
    """Close the connections that the server has closed."""
    poll = select.poll()
    known = {client.fileno(): client for client in clients if client.fileno() >= 0}
    for fd in known:
        poll.register(fd, select.POLLRDHUP)
    for fd, _ in poll.poll(0):
        known[fd].close()


def main() -> None:
    """Attack as the command line says."""
    port, kind, count, rate = sys.argv[1:]
    os.nice(10)  # the server and those who are measured come first
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    attack(gather(int(port), kind, int(count)), int(rate), ends=kind != INNOCENT)


if __name__ == "__main__":
    main()
