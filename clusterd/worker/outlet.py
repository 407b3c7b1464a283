"""Lines for a log, as many as it takes without waiting."""

import contextlib
import os
import socket
import stat

from clusterd.kernel.nonblocking import PIPE, NonBlockingWriter

NEWLINE = 10


class Outlet:
    """Takes lines. Never raises, never waits."""

    def __init__(self, fd: int) -> None:
        self._writer = NonBlockingWriter(fd)
        self._sock: socket.socket | None = None  # it has a flag for each call, so needs no poll
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(os.fstat(fd).st_mode):
                self._sock = socket.socket(fileno=os.dup(fd))
        self._is_torn = False  # what was written last has no end

    def close(self) -> None:
        """Close what is ours: not the descriptor that was given."""
        self._writer.close()
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
        if len(data) > PIPE and not self._writer.is_file:
            # Whole lines, as long as they fit: those of others come in between.
            data = data[: data.rfind(b"\n", 0, PIPE) + 1] or data[:PIPE]
        if self._sock is not None:
            return self._sock.send(data, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        return self._writer.write(data)
