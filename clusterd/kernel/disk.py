"""What a file lies on: which file system, disk or memory, and how much room is left there."""

import ctypes
import os

_LIBC = ctypes.CDLL(None, use_errno=True)
# File systems that keep their files in memory (statfs(2), f_type).
TMPFS, RAMFS = 0x01021994, 0x858458F6
_LARGEST = 256  # bytes; a struct statfs has 120 at most
# f_type is its first member: a long, but on s390x.
_F_TYPE = ctypes.c_uint if os.uname().machine == "s390x" else ctypes.c_long


def file_system(file: int | str) -> int:
    """Return the type of the file system (statfs(2), f_type) that a descriptor or path is on.

    Python's own `os.statvfs` does not have it. The type is signed on some machines, so only its
    lower 32 bits are returned. Raises OSError.
    """
    about = ctypes.create_string_buffer(_LARGEST)
    failed = (
        _LIBC.fstatfs(file, about)
        if isinstance(file, int)
        else _LIBC.statfs(os.fsencode(file), about)
    )
    if failed:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), file)
    return _F_TYPE.from_buffer(about).value & 0xFFFFFFFF


def is_in_memory(fd: int) -> bool:
    """Return whether an open file takes memory instead of disk; False where that is not known."""
    try:
        return file_system(fd) in (TMPFS, RAMFS)
    except OSError:
        return False


def free_space(fd: int) -> int:
    """Return how many bytes a user without rights may still write where an open file lies."""
    about = os.fstatvfs(fd)
    return about.f_bavail * about.f_frsize
