"""The process's heap, as its C library keeps it."""

import ctypes

_LIBC = ctypes.CDLL(None)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
# Bytes of a buffer that the kernel is asked for by itself, as mallopt(3) has it to begin with.
# glibc raises that to the size of whatever is freed, up to 32 MiB.
APART = 64 * 1024
TOGETHER = 4 * 1024 * 1024  # and what it comes to in a process with buffers of megabytes


def trim() -> None:
    """Return memory that is free, also between what is not, to the system (malloc_trim(3)).

    Do nothing where the C library has no such function, as musl.
    """
    release = getattr(_LIBC, "malloc_trim", None)
    if release is not None:
        release(0)


def keep_apart(size: int) -> None:
    """Have buffers of so many bytes and more in mappings of their own from now on (mallopt(3)).

    They leave no holes, and grow without being copied; but each costs its page faults anew. Do
    nothing where the C library has no such function, as musl.
    """
    set_option = getattr(_LIBC, "mallopt", None)
    if set_option is not None:
        set_option(_MMAP_THRESHOLD, size)
        set_option(_TRIM_THRESHOLD, 2 * size)
