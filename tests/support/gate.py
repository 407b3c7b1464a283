"""An application under test is told what to do: it knocks here, and goes on when let through."""

import contextlib
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path


class Visitor:
    """A request that has begun in some worker and waits for us."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.pid = int(sock.recv(64))

    def release(self) -> None:
        """Let it go on."""
        with contextlib.suppress(OSError):
            self.sock.sendall(b"x")
        self.sock.close()


class Gate:
    """Listens where the environment variable GATE tells the application to knock."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(str(path))
        self.sock.listen(64)
        self.sock.settimeout(30)

    def next(self) -> Visitor:
        """The next request that has begun."""
        sock, _ = self.sock.accept()
        sock.settimeout(30)
        return Visitor(sock)


@contextlib.contextmanager
def gate() -> Iterator[Gate]:
    """A gate in a directory of its own (its path must be short)."""
    place = Path(tempfile.mkdtemp(prefix="gate-"))
    made = Gate(place / "gate")
    try:
        yield made
    finally:
        made.sock.close()
        shutil.rmtree(place)


def pid_exists(pid: int) -> bool:
    """Is this process there, and no zombie?"""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def descriptors(pid: int) -> int:
    """How many descriptors a process has open, once it sleeps: then it has seen all that happened.

    Closing our end of a connection wakes it at once, so a process that sleeps has closed its own.
    """
    while Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "S":
        pass
    return len(os.listdir(f"/proc/{pid}/fd"))
