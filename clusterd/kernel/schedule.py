"""How much of the CPU a process was given, and how long it waited for one.

Both are of its main thread, which is that of the event loop. On a busy machine, and below a CPU
quota, a process that is ready to run waits; that time is not its fault.
"""

import os

_TICK = 1.0 / os.sysconf("SC_CLK_TCK")


def waited(pid: int) -> float:
    """Seconds that the main thread has been ready to run, and did not run, since it started.

    Field 2 of /proc/PID/schedstat, nanoseconds (sched-stats in the kernel's documentation). A wait
    counts once it is over. 0 where there is no such process, or the kernel keeps no such account.
    """
    try:
        with open(f"/proc/{pid}/schedstat", "rb") as file:
            return int(file.read().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


def used(pid: int) -> float:
    """Seconds of CPU that all threads of a process have used, by ticks of 10 ms; 0 for none.

    Fields 14 and 15 of its stat (proc(5)), counted after the name, which may hold anything.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        return (int(fields[11]) + int(fields[12])) * _TICK
    except (OSError, IndexError, ValueError):
        return 0.0


class Meter:
    """How long our own main thread has waited. The file stays open: it is read at each beat."""

    def __init__(self) -> None:
        try:
            self._fd = os.open("/proc/self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
        except OSError:  # the kernel keeps no account
            self._fd = -1

    def waited(self) -> float:
        """Seconds, since our process started; 0 where that cannot be known."""
        if self._fd < 0:
            return 0.0
        try:
            return int(os.pread(self._fd, 80, 0).split()[1]) / 1e9
        except (OSError, IndexError, ValueError):
            return 0.0
