"""How often the kernel has ended processes of ours for want of memory.

A process that is killed so dies of SIGKILL like any other; only these counters tell.
"""

import os
import select
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Self


@dataclass(frozen=True, slots=True)
class Killings:
    """What was counted up to now."""

    kills: int = 0  # processes ended for want of memory
    hits: int = 0  # times the limit of our cgroup was run into, where that is counted
    ours: bool = False  # the counts are those of our cgroup; else of the whole machine


def killings(root: Path = Path("/")) -> Killings:
    """The counters of our memory cgroup, or where there is none those of the machine.

    Version 2: memory.events counts the cgroup and those below it, in `oom_kill` the processes
    ended by any OOM killer, also that of the machine or of a cgroup above, and in `oom` the times
    that the cgroup's own limit was the reason (Documentation/admin-guide/cgroup-v2.rst).
    Version 1: memory.oom_control counts `oom_kill` (Linux 4.13). The machine's: /proc/vmstat.
    The kernel counts before it sends the signal, so a death that was seen is counted. Never
    raises: what cannot be read counts nothing.
    """
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            found = _nearest(root / "sys/fs/cgroup", path, "memory.events")
        elif "memory" in controllers.split(","):
            found = _nearest(root / "sys/fs/cgroup/memory", path, "memory.oom_control")
        else:
            continue
        if "oom_kill" in found:
            return Killings(found["oom_kill"], found.get("oom", 0), ours=True)
    return Killings(_numbers(root / "proc/vmstat").get("oom_kill", 0))


WAITED = 10.0  # % of the last 10 s in which a process waited for memory: more is pressure
LEFT = 5.0  # % of memory that is left: less is pressure, where the kernel does not tell of waiting


# WAITED, of 2 s: the shortest window, and the step of windows, that needs no right (Linux 6.5).
# The kernel overwrites the last byte with a NUL (psi_write).
TRIGGER = b"some 200000 2000000\0"


class PressureEvent:
    """Something to wait for: readable when processes begin to wait for memory, at most every 2 s.

    The kernel has a trigger wake with POLLPRI (Documentation/accounting/psi.rst), for which
    `selectors` cannot ask: an epoll descriptor that does is itself readable then. One report
    consumes the event, so that nothing has to be read.
    """

    def __init__(self, trigger: int) -> None:
        self._trigger = trigger
        self._epoll = select.epoll()
        try:
            self._epoll.register(trigger, select.EPOLLPRI)
        except OSError:
            self._epoll.close()
            raise

    @classmethod
    def create(cls, root: Path = Path("/")) -> Self | None:
        """Return one for our cgroup, else for the machine; None where the kernel has neither.

        A cgroup's file may be read-only here; the machine's time counts all processes. Before
        Linux 6.5 a trigger needs CAP_SYS_RESOURCE.
        """
        for place in (*_own_pressure(root), root / "proc/pressure/memory"):
            try:
                trigger = os.open(place, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                os.write(trigger, TRIGGER)
                return cls(trigger)
            except OSError:
                os.close(trigger)
        return None

    def fileno(self) -> int:
        return self._epoll.fileno()

    @property
    def broken(self) -> bool:
        """Return whether the trigger is gone with its cgroup: it would be readable for ever."""
        gone = select.EPOLLERR | select.EPOLLHUP
        return any(events & gone for _, events in self._epoll.poll(0))

    def close(self) -> None:
        """Take the trigger away."""
        self._epoll.close()
        os.close(self._trigger)


def pressure(root: Path = Path("/")) -> str:
    """Return how short memory is, in words, or '' while there is enough of it.

    The kernel counts how long processes wait for memory ("some" of memory.pressure of our cgroup,
    else of /proc/pressure/memory, Documentation/accounting/psi.rst). Where it does not, what is
    left is looked at: MemAvailable, which counts what can be reclaimed at once. Never raises.
    """
    places = (*_own_pressure(root), root / "proc/pressure/memory")
    if text := next(filter(None, map(_read, places)), ""):
        waited = _waited(text)
        return f"processes waited for memory {waited:.0f} % of the time" if waited > WAITED else ""
    sizes = {
        name: int(size.split()[0])
        for name, _, size in (
            line.partition(":") for line in _read(root / "proc/meminfo").splitlines()
        )
        if size.split()[:1] and size.split()[0].isdigit()
    }
    if not {"MemTotal", "MemAvailable"} <= sizes.keys() or not sizes["MemTotal"]:
        return ""
    left = 100 * sizes["MemAvailable"] / sizes["MemTotal"]
    return f"{left:.0f} % of memory is left" if left < LEFT else ""


def _own_pressure(root: Path) -> list[Path]:
    """Return where memory.pressure of our cgroup (version 2) may be, the nearest first."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        if number == "0":
            own = PurePosixPath(rest.partition(":")[2].lstrip("/"))
            parts = (own, *own.parents)
            return [root / "sys/fs/cgroup" / part / "memory.pressure" for part in parts]
    return []


def _waited(text: str) -> float:
    """Return avg10 of the line "some avg10=0.00 avg60=0.00 …"."""
    some = next((line for line in text.splitlines() if line.startswith("some ")), "")
    found = dict(word.partition("=")[::2] for word in some.split()[1:])
    try:
        return float(found.get("avg10", 0.0))
    except ValueError:
        return 0.0


def _nearest(mount: Path, path: str, name: str) -> dict[str, int]:
    """The counters of our cgroup, or of the nearest above it that has any.

    Without a cgroup namespace a container's path leads nowhere under its own mount; the mount's
    root is then the container's cgroup.
    """
    own = PurePosixPath(path.lstrip("/"))
    for part in (own, *own.parents):
        if numbers := _numbers(mount / part / name):
            return numbers
    return {}


def _numbers(file: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    pairs = (line.split() for line in _read(file).splitlines())
    return {pair[0]: int(pair[1]) for pair in pairs if len(pair) == 2 and pair[1].isdigit()}


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace")
    except OSError:
        return ""
