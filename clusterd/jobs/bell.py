"""Wake the processes of this machine that wait for a change in the store.

A bell is an empty file beside the database. To ring it sets its times, which is one system call
(1.6 µs) and needs no process that distributes; inotify wakes each process that watches the file. So
a script's jobs start as soon as a worker's, and a process that does not wait pays nothing.
"""

import contextlib
import os

from clusterd.kernel.database_files import touch
from clusterd.kernel.inotify import ATTRIBUTES, IGNORED, Inotify


class FileBell:
    """Rings all bells of the same path, in all processes."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._inotify: Inotify | None = None

    def ring(self) -> None:
        """Wake all that watch. Where that fails they find the change by their own clock."""
        with contextlib.suppress(OSError):
            touch(self.path)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at a ring. Watch from the first call on.

        Raises OSError where the user has too many inotify instances.
        """
        if self._inotify is None:
            inotify = Inotify()
            try:
                self._watch(inotify)
            except OSError:
                inotify.close()
                raise
            self._inotify = inotify
        return self._inotify.fd

    def drain(self) -> None:
        """Wait for the next ring. Call this before looking into the store, not after."""
        if self._inotify is not None and self._inotify.read() & IGNORED:
            with contextlib.suppress(OSError):
                self._watch(self._inotify)  # the file was deleted: make it anew

    def close(self) -> None:
        """Stop watching."""
        inotify, self._inotify = self._inotify, None
        if inotify is not None:
            inotify.close()

    def _watch(self, inotify: Inotify) -> None:
        touch(self.path)
        inotify.watch(self.path, ATTRIBUTES)


class EventBell:
    """Wakes who watches it in this process."""

    def __init__(self) -> None:
        self._fd = -1

    def ring(self) -> None:
        """Wake the loop that watches, if one does."""
        if self._fd >= 0:
            os.eventfd_write(self._fd, 1)

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at a ring."""
        if self._fd < 0:
            self._fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        return self._fd

    def drain(self) -> None:
        """Wait for the next ring."""
        if self._fd >= 0:
            try:
                os.eventfd_read(self._fd)
            except BlockingIOError:
                pass

    def close(self) -> None:
        """Stop watching."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)
