"""The process's heap, as its C library keeps it."""

import ctypes

_LIBC = ctypes.CDLL(None)


def trim() -> None:
    """Return memory that is free, also between what is not, to the system (malloc_trim(3)).

    Do nothing where the C library has no such function, as musl.
    """
    release = getattr(_LIBC, "malloc_trim", None)
    if release is not None:
        release(0)
