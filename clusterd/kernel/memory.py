"""Shared memory: an anonymous file that every process maps."""

import mmap
import os


def create(name: str, size: int) -> int:
    """A memfd of `size` zero bytes (memfd_create(2)); lives as long as anyone holds it."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    os.ftruncate(fd, size)
    return fd


def map_cells(fd: int, size: int) -> memoryview:
    """The mapping as 64-bit cells. The view keeps the mapping alive."""
    return memoryview(mmap.mmap(fd, size)).cast("Q")


def store(name: str, data: bytes) -> int:
    """A memfd that holds these bytes. Raises OSError."""
    fd = os.memfd_create(name, os.MFD_CLOEXEC)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
    except OSError:
        os.close(fd)
        raise
    return fd


def stored(fd: int) -> bytes:
    """What a memfd holds. Its offset stays, so that everyone who has it reads the whole."""
    return os.pread(fd, os.fstat(fd).st_size, 0)
