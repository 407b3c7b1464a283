"""The threads of a process: which there are, how much each has run, and a signal to one of them."""

import ctypes
import os
import sys

_LIBC = ctypes.CDLL(None, use_errno=True)
_TICK = 1.0 / os.sysconf("SC_CLK_TCK")
# faulthandler may find the interpreter between two frames, and crashes there before 3.12.8 and
# 3.13.1 (CPython's gh-123967). Measured: one dump in 100 to 9,000 of a thread that runs; none of
# 50,000 on 3.11. One that waits, or is in C, stands at a frame.
CAN_DUMP_RUNNING = not (3, 12) <= sys.version_info < (3, 12, 8) and not (
    (3, 13) <= sys.version_info < (3, 13, 1)
)
_NUMBERS = {"x86_64": 234, "aarch64": 131}  # of tgkill(2), for a libc without it (musl)


def of(pid: int) -> list[int]:
    """The ids of a process's threads, the main one (its id is the pid) first; none once gone."""
    try:
        return sorted((int(name) for name in os.listdir(f"/proc/{pid}/task")), key=pid.__ne__)
    except OSError:
        return []


def ran(thread: int) -> float:
    """CPU seconds that a thread of this process has used, by ticks of 10 ms; 0 for one gone.

    Fields 14 and 15 of its stat (proc(5)), counted after the name, which may hold anything.
    """
    try:
        with open(f"/proc/self/task/{thread}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) * _TICK


def kill(pid: int, thread: int, number: int) -> bool:
    """Send a signal to one thread (tgkill(2)); whether it could be."""
    if hasattr(_LIBC, "tgkill"):
        return bool(_LIBC.tgkill(pid, thread, number) == 0)
    call = _NUMBERS.get(os.uname().machine)
    return call is not None and bool(_LIBC.syscall(call, pid, thread, number) == 0)
