"""The body of a request as its WSGI app reads it: gathered before the app begins, on disk where it
is large, and streamed from then on.

A slow client thus holds memory or disk, never a thread.
"""

import io
import tempfile
from collections.abc import Callable
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MEMORY = 1024 * 1024  # bytes of a body that are gathered in memory; what is larger goes to disk
PIECE = 64 * 1024  # bytes that are read ahead of the app

More = Callable[[], bytes | bytearray]


class Spool:
    """What came of a body so far."""

    __slots__ = ("_file", "_on_disk", "size")

    def __init__(self, data: bytes | bytearray) -> None:
        self._file: IO[bytes] = io.BytesIO()
        self._on_disk = False
        self.size = self._file.write(data)

    def write(self, data: bytes | bytearray) -> None:
        """Add what came. Raises OSError."""
        self.size += len(data)
        if self.size > MEMORY and not self._on_disk:
            file = tempfile.TemporaryFile()  # noqa: SIM115  # it has no name, and lives as we do
            file.write(self.take().read())
            self._file, self._on_disk = file, True
        self._file.write(data)

    def take(self, more: More | None = None) -> IO[bytes]:
        """All of it, as a file to read from its beginning, and then what `more` brings.

        Nothing is added from now on.
        """
        self._file.seek(0)
        return self._file if more is None else io.BufferedReader(Stream(self._file, more), PIECE)

    def close(self) -> None:
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
