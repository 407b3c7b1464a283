"""A descriptor that others own, written to without ever waiting for whoever reads it.

Its flags are shared with those others, so they stay as they are. A pipe or a terminal is opened
anew where that can be had, with flags of our own; a socket has a flag for each call. What is left
is asked first whether it has room.
"""

import contextlib
import os
import select
import socket
import stat

NEWLINE = 10
PIPE = select.PIPE_BUF  # bytes that a pipe takes as a whole or not at all


class Outlet:
    """Takes lines. Never raises, never waits."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._own: int | None = None
        self._sock: socket.socket | None = None
        self._is_file = True
        self._is_torn = False  # what was written last has no end
        with contextlib.suppress(OSError):
            self._look(fd)

    def _look(self, fd: int) -> None:
        mode = os.fstat(fd).st_mode
        self._is_file = stat.S_ISREG(mode)
        if stat.S_ISSOCK(mode):
            self._sock = socket.socket(fileno=os.dup(fd))
        elif not self._is_file:
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
            self._own = os.open(f"/proc/self/fd/{fd}", flags)

    def close(self) -> None:
        """Our own descriptor only."""
        if self._own is not None:
            os.close(self._own)
            self._own = None
        if self._sock is not None:
            self._sock.close()
            self._sock = None

    def write(self, data: bytes) -> int:
        """Write lines; how many of them were lost."""
        start = done = 0
        if self._is_torn:
            data = b"\n" + data
            start = 1
        try:
            while done < len(data):
                done += self._write(data[done:] if done else data)
        except OSError:
            pass
        if done:
            self._is_torn = data[done - 1] != NEWLINE
        return data.count(b"\n", max(start, done))

    def _write(self, data: bytes) -> int:
        if self._is_file:
            return os.write(self._fd, data)
        if len(data) > PIPE:  # whole lines, as long as they fit: those of others come in between
            data = data[: data.rfind(b"\n", 0, PIPE) + 1] or data[:PIPE]
        if self._sock is not None:
            return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        if self._own is not None:
            return os.write(self._own, data)
        poll = select.poll()
        poll.register(self._fd, select.POLLOUT)
        if not any(event & select.POLLOUT for _, event in poll.poll(0)):
            raise BlockingIOError
        return os.write(self._fd, data)
