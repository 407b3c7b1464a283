"""The body of a request as its WSGI app reads it: gathered before the app begins, on disk where it
is large, and streamed from then on.

A slow client thus holds memory or disk, never a thread.
"""

import io
import math
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEMORY = 1024 * 1024  # bytes of a body that are gathered in memory; what is larger goes to disk
PIECE = 64 * 1024  # bytes that are read ahead of the app
BUFFER = 8 * 1024  # bytes of a file that are in memory; Python 3.14 would take 128 KiB for each

More = Callable[[], bytes | bytearray]


class NoRoomOnDiskError(Exception):
    """Bodies on disk have used up their budget."""


class Owner(Protocol):
    """The request that a spool has the body of."""

    @property
    def awaits_body(self) -> bool:
        """Return whether its client has still to send something before the app is called."""

    def give_up_body(self) -> None:
        """Refuse the request, since its body takes room that others need."""


class Budget(Protocol):
    """What all spools of a worker may have on disk."""

    limit: int  # bytes; known once one of them lies there

    def is_on_disk(self, fd: int) -> bool:
        """Return whether an open file lies on a disk, and not in memory."""

    def grow(self, spool: "Spool", size: int) -> None:
        """Count so many bytes more of a spool. Raises NoRoomOnDiskError."""

    def forget(self, spool: "Spool") -> None:
        """Count a spool no more."""


class Spool:
    """What came of a body so far."""

    __slots__ = ("_budget", "_file", "_is_file", "_moves_at", "on_disk", "owner", "size")

    def __init__(self, data: bytes | bytearray, budget: Budget, owner: Owner) -> None:
        self.owner = owner
        self.on_disk = 0  # bytes, as the budget counts them
        self._budget = budget
        self._file: IO[bytes] = io.BytesIO()
        self._is_file = False
        self._moves_at: float = MEMORY  # bytes beyond which it goes to disk
        self.size = self._file.write(data)

    @property
    def in_memory(self) -> int:
        """Return how many bytes of memory this takes."""
        return BUFFER if self._is_file else self.size

    def write(self, data: bytes | bytearray) -> None:
        """Add what came. Raises OSError and NoRoomOnDiskError."""
        if self.size + len(data) > self._moves_at:
            self._move_to_disk()
        if self._is_file:
            self._budget.grow(self, len(data))
        self.size += self._file.write(data)

    def _move_to_disk(self) -> None:
        """Go on in a file without a name, unless its directory lies in memory.

        There it would save none: attacked with bodies of 3 MB, a worker took 114 to 150 MiB for a
        budget of 96 MiB with files on tmpfs, since the heap kept the holes, and 107 to 109 without.
        """
        self._moves_at = math.inf
        file = tempfile.TemporaryFile(buffering=BUFFER)  # noqa: SIM115
        if not self._budget.is_on_disk(file.fileno()):
            file.close()
            return
        gathered, self._file = self._file, file
        assert isinstance(gathered, io.BytesIO)
        self._is_file = True
        self._budget.grow(self, self.size)
        with gathered.getbuffer() as data:  # without a copy
            file.write(data)

    def flush(self) -> None:
        """Have all of it in the file. Raises OSError: only now may a disk turn out to be full."""
        self._file.flush()

    def take(self, more: More | None = None) -> IO[bytes]:
        """All of it, as a file to read from its beginning, and then what `more` brings.

        Nothing is added from now on.
        """
        self._file.seek(0)
        return self._file if more is None else io.BufferedReader(Stream(self._file, more), PIECE)

    def close(self) -> None:
        """Give back memory and disk."""
        if self._is_file:
            # Not through the buffer, which would write what it has left: the disk may be full.
            self._file.raw.close()  # type: ignore[attr-defined]
            self._budget.forget(self)
        else:
            self._file.close()


class Stream(io.RawIOBase):
    """A body that is still coming: what was gathered, then whatever `more` brings.

    `more()` blocks until there is something, returns b"" at the end, and raises what ends the
    request. To be read through a BufferedReader, which brings `readline` and its kin.
    """

    def __init__(self, gathered: IO[bytes], more: More) -> None:
        self._now: IO[bytes] = gathered
        self._more = more

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: "WriteableBuffer") -> int:
        view = memoryview(buffer).cast("B")
        data = self._now.read(len(view))
        if not data:
            self._now = io.BytesIO(self._more())
            data = self._now.read(len(view))
        view[: len(data)] = data
        return len(data)
