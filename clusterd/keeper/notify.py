"""What a program says of itself, by the protocol of systemd's `sd_notify` (sd_notify(3))."""

import array
import os
import socket
import struct
from collections.abc import Callable

from clusterd.kernel.command import parents

SIZE = 8192  # bytes a message; systemd takes 4 KiB
MOST_FDS = 253  # SCM_MAX_FD, unix(7)
CREDENTIALS = struct.Struct("3i")  # pid, uid, gid (unix(7), SCM_CREDENTIALS)
ROOM = socket.CMSG_SPACE(CREDENTIALS.size) + socket.CMSG_SPACE(MOST_FDS * 4)
ROOT = 0
ONE_TURN = 64  # messages taken at once: who floods us must not keep us from all else


class NotifySocket:
    """A datagram socket with a name of the kernel's own choosing (autobind, unix(7))."""

    def __init__(self, is_ours: Callable[[int], bool] | None = None) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.sock.bind("")
        self.sock.setblocking(False)
        self._is_ours = is_ours or is_below

    @property
    def address(self) -> str:
        """As `NOTIFY_SOCKET` says it: @ stands for the null byte."""
        name = self.sock.getsockname()
        text = name.decode() if isinstance(name, bytes) else str(name)
        return "@" + text[1:]

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def receive(self) -> list[dict[str, str]]:
        """What was said since: the assignments of each message, in order.

        Descriptors that came with one are closed once it was read: nobody stores them here, and
        for `BARRIER=1` that is the answer.
        """
        said: list[dict[str, str]] = []
        for _ in range(ONE_TURN):
            try:
                body, ancillary, _, _ = self.sock.recvmsg(SIZE, ROOM, socket.MSG_CMSG_CLOEXEC)
            except OSError:
                break
            credentials = b""
            for level, kind, data in ancillary:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    for fd in array.array("i", data[: len(data) - len(data) % 4]):
                        os.close(fd)
                elif (level, kind) == (socket.SOL_SOCKET, socket.SCM_CREDENTIALS):
                    credentials = data
            if len(credentials) == CREDENTIALS.size and self._may(credentials):
                said.append(assignments(body))
        return said

    def _may(self, credentials: bytes) -> bool:
        """Our own user and the superuser may; another user's process only from below us: the
        program may have become that user."""
        pid, uid, _ = CREDENTIALS.unpack(credentials)
        return uid in (ROOT, os.geteuid()) or self._is_ours(pid)


def assignments(body: bytes) -> dict[str, str]:
    """`NAME=value` a line."""
    text = body.decode("utf-8", "replace")
    return dict(line.partition("=")[::2] for line in text.splitlines() if "=" in line)


def is_below(pid: int) -> bool:
    """Is this process a descendant of ours?"""
    above, mine = parents(), os.getpid()
    while pid > 1 and pid != mine:
        pid = above.get(pid, 0)
    return pid == mine
