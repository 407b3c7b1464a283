"""A service manager of ours in systemd's place: it hears, keeps descriptors, and passes sockets."""

import fcntl
import os
import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self

LIMIT = 30.0  # seconds until a wait is a failure
HIGH = 100  # from here on nobody's descriptors are in the way of 3 and those that follow
# Numbers and names of descriptors, then the command: what systemd does between fork and exec.
PASS = """
import os, sys
numbers, names, *command = sys.argv[1:]
numbers = [int(number) for number in numbers.split(",")]
for place, number in enumerate(numbers, 3):
    os.dup2(number, place)
told = {"LISTEN_PID": os.getpid(), "LISTEN_FDS": len(numbers), "LISTEN_FDNAMES": names}
os.environ.update({name: str(value) for name, value in told.items()})
os.execv(command[0], command)
"""


class Manager:
    """$NOTIFY_SOCKET, and what was said there."""

    def __init__(self) -> None:
        self.said: list[dict[str, str]] = []
        self.kept: dict[str, int] = {}  # by FDNAME=
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.bind("")  # the kernel chooses an abstract name, unix(7)
        self._sock.settimeout(LIMIT)
        self.place = "@" + self._sock.getsockname()[1:].decode()

    def hear(self) -> dict[str, str]:
        """The next datagram, by variable."""
        data, extra, _, _ = self._sock.recvmsg(65536, socket.CMSG_SPACE(4))
        told = dict(line.split("=", 1) for line in data.decode().splitlines())
        self.said.append(told)
        if "FDSTORE" in told:
            ((_, _, packed),) = extra
            (fd,) = struct.unpack("i", packed)
            self.kept[told["FDNAME"]] = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH)
            os.close(fd)
        if "FDSTOREREMOVE" in told:
            os.close(self.kept.pop(told["FDNAME"]))
        return told

    def until(self, is_it: Callable[[dict[str, str]], bool]) -> dict[str, str]:
        """The next datagram that is it."""
        while not is_it(told := self.hear()):
            pass
        return told

    def has(self, name: str) -> dict[str, str]:
        """The next datagram with a variable."""
        return self.until(lambda told: name in told)

    def words(self, since: int = 0) -> list[str]:
        """What was said beside signs of life and requests for time, by its first variable."""
        dull = ("WATCHDOG", "EXTEND_TIMEOUT_USEC", "STATUS", "FDSTORE", "FDSTOREREMOVE")
        firsts = [next(iter(told)) for told in self.said[since:]]
        return [first for first in firsts if first not in dull]

    def close(self) -> None:
        self._sock.close()
        for fd in self.kept.values():
            os.close(fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def passing(sockets: dict[str, int]) -> tuple[str, ...]:
    """What to put before a command so that it is started with sockets, by name."""
    numbers = ",".join(map(str, sockets.values()))
    return (sys.executable, "-c", PASS, numbers, ":".join(sockets))


@contextmanager
def listening() -> Iterator[tuple[socket.socket, int]]:
    """A socket as a socket unit has it, and its number for `passing`."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        high = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, HIGH)
        yield sock, high
        os.close(high)
