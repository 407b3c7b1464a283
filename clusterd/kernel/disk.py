"""What an open file lies on: a disk or memory, and how much room is left there."""

import ctypes
import os
import sys

_LIBC = ctypes.CDLL(None)
# File systems that keep their files in memory (statfs(2), f_type).
TMPFS, RAMFS = 0x01021994, 0x858458F6
LARGEST = 256  # bytes; a struct statfs has 120 at most


def is_in_memory(fd: int) -> bool:
    """Return whether an open file takes memory instead of disk; False where that is not known.

    Python's own `os.fstatvfs` does not have the type of the file system.
    """
    found = ctypes.create_string_buffer(LARGEST)  # of noughts, which a call that fails leaves
    _LIBC.fstatfs(fd, found)
    # f_type is the first member. It has four bytes on s390x and eight on the other machines with
    # 64 bits, which have the four that matter first.
    return int.from_bytes(found.raw[:4], sys.byteorder) in (TMPFS, RAMFS)


def free_space(fd: int) -> int:
    """Return how many bytes a user without rights may still write where an open file lies."""
    about = os.fstatvfs(fd)
    return about.f_bavail * about.f_frsize
