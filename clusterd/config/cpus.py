"""How many CPUs this process may really use: its affinity, cut down by the cgroup's quota."""

import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath


def available_cpus(root: Path = Path("/"), affinity: int | None = None) -> int:
    """min(CPU affinity, cgroup quota rounded up), at least 1. `root` is where /proc and /sys lie.

    A container with a quota of 1.5 CPUs on 64 cores gets 2 here, not 64.
    """
    if affinity is None:
        affinity = len(os.sched_getaffinity(0))
    quotas = [math.ceil(quota) for quota in _quotas(root)]
    return max(1, min([affinity, *quotas]))


def _quotas(root: Path) -> Iterator[float]:
    """The quotas, in CPUs, of our cgroup and all cgroups around it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        number, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if number == "0" and not controllers:
            yield from _walk(root / "sys/fs/cgroup", path, _quota_v2)
        elif "cpu" in controllers.split(","):
            for mount in ("cpu", "cpu,cpuacct"):
                yield from _walk(root / "sys/fs/cgroup" / mount, path, _quota_v1)


def _walk(mount: Path, path: str, quota: Callable[[Path], float | None]) -> Iterator[float]:
    """Ask our cgroup and each ancestor: the tightest counts.

    Without a cgroup namespace a container's path leads nowhere under its own mount; the mount's
    root, which is always asked too, is then the container's cgroup.
    """
    own = PurePosixPath(path.lstrip("/"))
    for part in (own, *own.parents):
        if (cpus := quota(mount / part)) is not None:
            yield cpus


def _quota_v2(group: Path) -> float | None:
    quota, _, period = _read(group / "cpu.max").partition(" ")
    return _ratio(quota, period)


def _quota_v1(group: Path) -> float | None:
    return _ratio(_read(group / "cpu.cfs_quota_us"), _read(group / "cpu.cfs_period_us"))


def _ratio(quota: str, period: str) -> float | None:
    """CPUs, or None for no limit: `max`, -1, or a file that is not there."""
    try:
        cpus = int(quota) / int(period)
    except (ValueError, ZeroDivisionError):
        return None
    return cpus if cpus > 0 else None


def _read(path: Path) -> str:
    try:
        return path.read_text("ascii", "replace").strip()
    except OSError:
        return ""
