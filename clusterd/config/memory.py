"""How much memory this process may really use: the machine's, cut down by the cgroup's limit."""

import contextlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from clusterd.core.units import MIB

SHARE = 4  # a quarter of the memory is for what workers hold for clients; the rest is the app's
LEAST = 64 * MIB  # bytes for each worker at least: four WebSocket messages of the default limit


def memory_limit(root: Path = Path("/")) -> int:
    """Return the tightest memory.max of our cgroup and those around it, in bytes; 0 for none."""
    return min(_limits(root), default=0)


def available_memory(root: Path = Path("/")) -> int:
    """Return the bytes that the cgroup allows, at most those of the machine; 0 for not known."""
    sizes = [memory_limit(root), _machine(root)]
    return min((size for size in sizes if size), default=0)


def memory_budget(workers: int, root: Path = Path("/")) -> int:
    """Return the bytes that each of so many workers may hold for clients, by default."""
    return max(LEAST, available_memory(root) // SHARE // max(1, workers))


def _machine(root: Path) -> int:
    """Return MemTotal of /proc/meminfo (proc(5)), which counts kibibytes."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text("ascii", "replace").splitlines():
            if line.startswith("MemTotal:"):
                return int(line.split()[1]) * 1024
    return 0


def _limits(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text().splitlines():
            number, _, rest = line.partition(":")
            controllers, _, path = rest.partition(":")
            if number != "0" and "memory" not in controllers.split(","):
                continue
            mount = "sys/fs/cgroup" if number == "0" else "sys/fs/cgroup/memory"
            name = "memory.max" if number == "0" else "memory.limit_in_bytes"
            own = PurePosixPath(path.lstrip("/"))
            for part in (own, *own.parents):
                with contextlib.suppress(OSError, ValueError):
                    limit = int((root / mount / part / name).read_text())
                    if limit < 2**60:  # version 1 writes a huge number for none
                        yield limit
