"""The lock of a singleton: whoever has the name, and whatever it started, runs; nobody else does.

A name among Linux's abstract sockets (unix(7)): it is free when the last copy of the socket is
closed, and the program inherits one. So it does not matter which of them is gone first, keeper,
master or program; there is no file to leave behind, and who waits is told by the end of a
connection.
"""

import errno
import hashlib
import os
import socket
import struct

from clusterd.core.errors import AppError
from clusterd.kernel.process import kill_pidfd

QUEUE = 128  # who waits while a keeper is busy; it takes in the others at once
PEER = struct.Struct("3i")  # pid, uid, gid: SO_PEERCRED
ROOT = 0


def place(directory: str | None, name: str, master: tuple[int, int]) -> str:
    """What distinguishes this cluster from others that run here.

    By the runtime directory, as the same file on the same file system: a successor of a master
    that was killed finds it, and another container does not, though it may share our network.
    Where there is none by the master, its pid and start.
    """
    if directory is not None:
        try:
            there = os.stat(directory)
            return f"{there.st_dev}:{there.st_ino}:{name}"
        except OSError:
            pass  # then nobody's control socket is there either
    return f"{os.stat('/proc/self/ns/pid').st_ino}:{master[0]}:{master[1]}"


class Lock:
    """One group's. `take` it; where that fails, `wait` for the end of what it returns."""

    def __init__(self, place: str, group: str) -> None:
        digest = hashlib.sha256(f"{os.geteuid()}:{place}:{group}".encode()).hexdigest()
        self.address = f"\0clusterd.singleton.{digest[:32]}"
        self.sock: socket.socket | None = None
        self.holder = 0  # the keeper that we wait for

    def take(self) -> bool:
        """Have it, if nobody has. Raises OSError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            sock.bind(self.address)
            sock.listen(QUEUE)
            sock.setblocking(False)
        except OSError as error:
            sock.close()
            if error.errno == errno.EADDRINUSE:
                return False
            raise
        self.sock = sock
        return True

    def fileno(self) -> int:
        return self.sock.fileno() if self.sock is not None else -1

    def visitors(self) -> list[socket.socket]:
        """Connections of those who wait for us."""
        found = []
        while self.sock is not None:
            try:
                found.append(self.sock.accept()[0])
            except OSError:
                break
        return found

    def wait(self) -> socket.socket | None:
        """A connection that ends when it is worth to try again; None: soon. Raises AppError."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.setblocking(False)
        try:
            sock.connect(self.address)
        except OSError:  # it is free by now, or just being taken, or its queue is full
            sock.close()
            return None
        size = PEER.size
        peer = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
        self.holder, uid, _ = PEER.unpack(peer)
        if uid not in (ROOT, os.geteuid()):
            sock.close()
            raise AppError(f"its lock is held by process {self.holder} of user {uid}")
        return sock

    def abandoned(self) -> list[int]:
        """Processes that still have it though the keeper that took it is gone."""
        if os.path.exists(f"/proc/{self.holder}") and not os.access(
            f"/proc/{self.holder}/fd", os.R_OK
        ):
            return []  # we cannot know
        inode = inode_of(self.address)
        found = holders(inode) if inode else []
        return [] if self.holder in found else found

    def end_abandoned(self) -> list[int]:
        """Kill those; who it was. Their keeper is gone, so they should be."""
        found = []
        for pid in self.abandoned():
            try:
                fd = os.pidfd_open(pid)
            except OSError:
                continue
            if pid in self.abandoned():  # and still: the number is held by the descriptor now
                kill_pidfd(fd)
                found.append(pid)
            os.close(fd)
        return found


def inode_of(address: str) -> int:
    """The inode of a listening abstract socket (/proc/net/unix, proc(5)); 0 where there is none."""
    name = "@" + address[1:]
    with open("/proc/net/unix") as table:
        for line in table:
            fields = line.split()
            if fields[-1] == name and int(fields[3], 16) & 0x10000:  # __SO_ACCEPTCON
                return int(fields[6])
    return 0


def holders(inode: int) -> list[int]:
    """Processes that have a socket open, as far as we may look."""
    wanted, found = f"socket:[{inode}]", []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            fds = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        if any(_is(f"/proc/{pid}/fd/{fd}", wanted) for fd in fds):
            found.append(int(pid))
    return found


def _is(link: str, wanted: str) -> bool:
    try:
        return os.readlink(link) == wanted
    except OSError:
        return False
