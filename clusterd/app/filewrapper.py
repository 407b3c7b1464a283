"""wsgi.file_wrapper: a file as an answer, copied by the kernel where that is possible."""

import os
import stat
from collections.abc import Iterator
from typing import IO, Any

from clusterd.app.exchange import ENDED
from clusterd.app.http1 import BARE
from clusterd.app.wsgi import Wsgi

BLOCK = 64 * 1024  # bytes that are read at a time, unless told


class FileWrapper:
    """wsgi.file_wrapper: a file to be sent, by the kernel where that is possible."""

    def __init__(self, file: IO[bytes], block: int = BLOCK) -> None:
        self.file = file
        self._block = block
        if hasattr(file, "close"):
            self.close = file.close

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        data = self.file.read(self._block)
        if not data:
            raise StopIteration
        return data


def is_sendable(exchange: Wsgi, result: Any) -> bool:
    """Whether a result is a file on disk that is the whole body of an answer."""
    if result.__class__ is not FileWrapper or exchange.committed or exchange.code in BARE:
        return False
    if exchange.scope["method"] == "HEAD":
        return False
    try:
        return stat.S_ISREG(os.fstat(result.file.fileno()).st_mode)
    except (AttributeError, OSError, ValueError):  # it only looks like a file
        return False


async def send_file(exchange: Wsgi, wrapper: FileWrapper) -> None:
    """The rest of a file is the body."""
    if exchange.gone or exchange.stage is ENDED:
        return
    file = wrapper.file
    start = file.tell()
    size = max(0, os.fstat(file.fileno()).st_size - start)
    exchange.begin_answer()
    await exchange.stream_file(file.fileno(), start, exchange.fit(size), more=False)
