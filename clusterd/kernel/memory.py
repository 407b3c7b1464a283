"""Shared memory: an anonymous file that every process maps."""

import fcntl
import mmap
import os

SIZE_SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL


def create(name: str, size: int) -> int:
    """A memfd of `size` zero bytes (memfd_create(2)); lives as long as anyone holds it.

    Nobody can change its size (fcntl(2), file sealing): whoever has it mapped would die of that.
    """
    fd = os.memfd_create(name, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, SIZE_SEALS)
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
