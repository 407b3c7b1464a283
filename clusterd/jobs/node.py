"""Which node this process runs on: the processes whose pids and deaths it can judge."""

import os

from clusterd.jobs.records import Owner
from clusterd.kernel.process import boot_id, pid_namespace, start_ticks


def node() -> str:
    """Return what processes have in common that see each other's pids. Raises OSError.

    Two containers may share a host name and a boot; a machine that booted again has other pids.
    """
    return f"{boot_id()}-{pid_namespace()}"


def owner(group: str = "", slot: int = -1, generation: int = 0) -> Owner:
    """Return this process as the owner of jobs. Raises OSError."""
    pid = os.getpid()
    return Owner(node(), pid, start_ticks(pid), group, slot, generation)
