"""Becoming another program in place: same pid, same children, and the descriptors that are named.

Signals are held back meanwhile. Those that come stay pending over execve(2), as does the mask;
handlers do not, so whoever comes after installs its own and then lets go.
"""

import os
import signal
from collections.abc import Iterable, Sequence
from typing import NoReturn


def hold_signals() -> list[int]:
    """Block every signal; the mask as it was, for `release_signals`."""
    return sorted(signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()))


def release_signals(mask: Iterable[int]) -> None:
    """Have the mask as it was; what is pending is delivered now."""
    signal.pthread_sigmask(signal.SIG_SETMASK, set(mask))


def become(command: Sequence[str], keep: Iterable[int]) -> NoReturn:
    """Execute a command in this process; beside `keep` only what is not close-on-exec stays open.

    Raises OSError where it cannot be done, and then nothing has changed.
    """
    passed: list[int] = []
    try:
        for fd in keep:
            if not os.get_inheritable(fd):  # standard streams are, for good
                passed.append(fd)
                os.set_inheritable(fd, True)
        os.execve(command[0], list(command), os.environ)
    finally:  # it returns only if it fails
        for fd in passed:
            os.set_inheritable(fd, False)
