"""How often the kernel has ended processes of ours for want of memory.

A process that is killed so dies of SIGKILL like any other; only these counters tell.
"""

from dataclasses import dataclass
from pathlib import Path, PurePosixPath


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


def pressure(root: Path = Path("/")) -> str:
    """Return how short memory is, in words, or '' while there is enough of it.

    The kernel counts how long processes wait for memory ("some" of memory.pressure of our cgroup,
    else of /proc/pressure/memory, Documentation/accounting/psi.rst). Where it does not, what is
    left is looked at: MemAvailable, which counts what can be reclaimed at once. Never raises.
    """
    text = _read(root / "proc/pressure/memory")
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        if number == "0":
            own = PurePosixPath(rest.partition(":")[2].lstrip("/"))
            places = (root / "sys/fs/cgroup" / part for part in (own, *own.parents))
            text = next(filter(None, (_read(one / "memory.pressure") for one in places)), text)
    if text:
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
