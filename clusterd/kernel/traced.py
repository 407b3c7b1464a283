"""Ends that the kernel does not report: those of children that another process traces.

The end of a traced process is reported to its tracer (ptrace(2)). Its parent gets neither SIGCHLD
nor a status until the tracer has waited for it, or has ended. A tracer can even hold it up at its
exit (PTRACE_O_TRACEEXIT), where no SIGKILL has an effect any more. An application that was broken
into can start such a tracer, and have another process trace that one. So a child that must end is
looked at. Its tracers are killed where they were started below us. Two that trace each other hold
each other up at their exits, which nothing ends: a child that they hold is given up. Any other
tracer is a debugger of the operator's: it is waited for, but for a zombie, which has ended whether
it can be reaped or not.
"""

import contextlib
import os
import signal
from math import inf

from clusterd.kernel import descent, process

LOOK = 1.0  # seconds until a child that must end is looked at, and between two looks
HOPELESS = 5.0  # seconds after SIGKILL until a child that tracers of its own hold is given up
LONGEST = 64  # tracers of tracers that are looked at


class Expected:
    """Children whose end is expected, and which the kernel has not reported yet."""

    def __init__(self) -> None:
        self._looks: dict[int, float] = {}  # by pid: when to look
        self._killed: dict[int, float] = {}  # by pid: when it was first sent SIGKILL

    def add(self, pid: int, now: float, killed: bool) -> None:
        """Expect the end of a child. `killed`: it was sent SIGKILL, so it will end."""
        self._looks.setdefault(pid, now + LOOK)
        if killed:
            self._killed.setdefault(pid, now)

    def forget(self, pid: int) -> None:
        """Forget a child that was reaped."""
        self._looks.pop(pid, None)
        self._killed.pop(pid, None)

    @property
    def due(self) -> float:
        """Return when to look, or infinity where no end is expected."""
        return min(self._looks.values(), default=inf)

    def ended(self, now: float) -> list[tuple[int, int]]:
        """Return the children that have ended, each with its wait status, and those that are given
        up. Kill their tracers."""
        found = []
        for pid in [pid for pid, look in self._looks.items() if look <= now]:
            is_zombie = process.doing(pid) == "Z"
            if is_zombie:
                found.append((pid, process.exit_status(pid)))
            is_held = (is_zombie or pid in self._killed) and _kill_tracers(pid)
            if is_zombie or pid not in self._killed:  # that one only closed its channel
                self.forget(pid)
            elif is_held and self._killed[pid] + HOPELESS <= now:
                found.append((pid, signal.SIGKILL))
                self.forget(pid)
            else:
                self._looks[pid] = now + LOOK
        return found


def own_tracer(pid: int) -> int:
    """Return the process that traces a child, if it was started below us; 0 for none."""
    tracer = process.tracer_of(pid)
    return tracer if tracer and descent.is_below_us(tracer) else 0


def _kill_tracers(pid: int) -> bool:
    """Kill the tracer of a child, the one that traces that, and so on, as far as they were started
    below us; return whether there was one."""
    seen: list[int] = []
    while len(seen) < LONGEST and (tracer := own_tracer(pid)) and tracer not in seen:
        _kill_tracer(pid, tracer)
        seen.append(tracer)
        pid = tracer
    return bool(seen)


def _kill_tracer(pid: int, tracer: int) -> None:
    with contextlib.suppress(OSError):  # it has ended, or is another user's
        fd = os.pidfd_open(tracer)
        try:
            if own_tracer(pid) == tracer:  # from now on the descriptor means no other process
                signal.pidfd_send_signal(fd, signal.SIGKILL)
        finally:
            os.close(fd)
