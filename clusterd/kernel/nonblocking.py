"""Write to a descriptor that others share, without ever waiting for the process that reads it.

The flags of the descriptor are shared with those others, so they stay as they are. A pipe or a
terminal is opened anew where the kernel allows that, with `O_NONBLOCK` of our own. What remains,
sockets above all, is polled before each write of a few bytes.

A file is opened anew for the master alone. Workers share the flags of the description that they
were given, and one that was broken into can change them (fcntl(2), F_SETFL): with O_DIRECT no line
of the master's would be written, without O_APPEND lines would be written over others.
"""

import contextlib
import fcntl
import os
import select
import stat

PIPE = select.PIPE_BUF  # bytes that a pipe takes as a whole or not at all


class NonBlockingWriter:
    """Writes to a descriptor, which stays its owner's to close."""

    def __init__(self, fd: int, opens_files: bool = False) -> None:
        """Write to `fd`. `opens_files`: open a file anew, too, where it is opened to append."""
        self.fd = fd
        self.is_file = True
        self._own: int | None = None
        self._about: os.stat_result | None = None  # of our own one, to know it again
        with contextlib.suppress(OSError):
            self._look(fd, opens_files)

    def _look(self, fd: int, opens_files: bool) -> None:
        mode = os.fstat(fd).st_mode
        self.is_file = stat.S_ISREG(mode)
        flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
        if self.is_file:
            # Without O_APPEND those who share the description share the position in it, too.
            if not opens_files or not fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_APPEND:
                return
            flags |= os.O_APPEND
        if not stat.S_ISSOCK(mode):
            self._own = os.open(f"/proc/self/fd/{fd}", flags)
            self._about = os.fstat(self._own)

    def fileno(self) -> int:
        """Return the descriptor that is written to."""
        return self.fd if self._own is None else self._own

    def write(self, data: bytes) -> int:
        """Return how many bytes were written. Raises BlockingIOError for none, or OSError."""
        if self.is_file or self._own is not None:
            return os.write(self.fileno(), data)
        if not self.wait(0):
            raise BlockingIOError
        return os.write(self.fd, data[:PIPE])

    def wait(self, seconds: float) -> bool:
        """Wait until there is room again, or an error to be had; False: it took too long."""
        poll = select.poll()
        poll.register(self.fd, select.POLLOUT)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close what was opened here, unless an application has: its number may be another's now.

        Raises OSError where it is nobody's.
        """
        own, self._own = self._own, None
        about = self._about
        if own is not None and about is not None and os.path.samestat(os.fstat(own), about):
            os.close(own)


def open_masters(fd: int) -> NonBlockingWriter:
    """Return a writer of the master's, whose flags no worker shares as far as that can be had."""
    return NonBlockingWriter(fd, opens_files=True)
