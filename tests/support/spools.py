"""Bodies that wait on disk: who owns them, and disks that are full."""

import errno
import io
import os
import tempfile
from pathlib import Path
from typing import IO

import pytest

from clusterd.app.spool import NoRoomOnDiskError, Spool
from clusterd.kernel.disk import is_in_memory


def count_files_without_name() -> int:
    """Return how many open files of this process have no name."""
    found = 0
    for fd in os.listdir("/proc/self/fd"):
        try:
            found += "(deleted)" in os.readlink(f"/proc/self/fd/{fd}")
        except OSError:
            pass  # the listing's own
    return found


class Client:
    """The request of a body, as a budget sees it."""

    def __init__(self, awaits_body: bool = True) -> None:
        self.awaits_body = awaits_body
        self.spool: Spool | None = None
        self.is_refused = False

    def give_up_body(self) -> None:
        self.is_refused = True
        assert self.spool is not None
        self.spool.close()


class Room:
    """A budget of so many bytes, on a disk or, with `in_memory`, on none."""

    def __init__(self, limit: int = 2**40, in_memory: bool = False) -> None:
        self.limit = limit
        self.held = self.asked = 0
        self.in_memory = in_memory

    def is_on_disk(self, fd: int) -> bool:
        self.asked += 1
        return not self.in_memory

    def grow(self, spool: Spool, size: int) -> None:
        if self.held + size > self.limit:
            raise NoRoomOnDiskError
        self.held += size
        spool.on_disk += size

    def forget(self, spool: Spool) -> None:
        self.held -= spool.on_disk
        spool.on_disk = 0


class FullFile(io.FileIO):
    """A file on a disk that takes so many bytes more."""

    def __init__(self, fd: int, room: int) -> None:
        super().__init__(fd, "rb+")
        self._room = room

    def write(self, data: object) -> int:
        size = memoryview(data).nbytes  # type: ignore[arg-type]
        if size > self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        self._room -= size
        return super().write(data)  # type: ignore[arg-type]


def fill_disk(monkeypatch: pytest.MonkeyPatch, place: Path, room: int) -> None:
    """Let the directory of temporary files have so many bytes left for each."""

    def make(buffering: int = -1) -> IO[bytes]:
        fd = os.open(place, os.O_RDWR | os.O_TMPFILE, 0o600)
        return io.BufferedRandom(FullFile(fd, room), buffering)

    monkeypatch.setattr(tempfile, "TemporaryFile", make)
    monkeypatch.setattr(tempfile, "tempdir", str(place))


def find_disk(*places: Path) -> Path:
    """Return the first of these directories that does not lie in memory; skip the test for none."""
    for place in places:
        fd = os.open(place, os.O_RDONLY)
        try:
            if not is_in_memory(fd):
                return place
        finally:
            os.close(fd)
    pytest.skip("all directories lie in memory")
