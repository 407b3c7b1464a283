"""The locks of programs that must never run twice: files in the runtime directory.

Each keeper is given the file opened anew, since flock(2) belongs to the open file, and may not be
allowed to open it itself: it runs as its group's user. Other users can neither open nor hold it.
"""

import contextlib
import fcntl
import os

from clusterd.kernel import memory, own_files
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group

SUFFIX = ".singleton"
NONE = -1


def open_lock(group: Group, generation: int, slot: int) -> int:
    """Return a lock's file, opened anew for one keeper; NONE where its program needs none.

    Raises OSError, also where the file is another user's.
    """
    settings = group.configs[generation].command
    if not group.is_command or (settings.overlap and not settings.singleton):
        return NONE
    name = group.name if settings.singleton else f"{group.name}#{slot}"
    locks = group.cluster.locks
    if name not in locks:
        locks[name] = _make(group.cluster, name)
    return os.open(f"/proc/self/fd/{locks[name]}", os.O_RDWR | os.O_CLOEXEC)


def _make(cluster: Cluster, name: str) -> int:
    """Open the file, whether a master before us has left it or not. Raises OSError."""
    path = _path(cluster, name)
    if not path:  # no successor could find it
        return memory.store("clusterd-lock", b"")
    lock = os.open(path, os.O_RDWR | os.O_CREAT | own_files.SAFELY, 0o600)
    if reason := own_files.judge(os.fstat(lock), path):
        os.close(lock)
        raise OSError(f"{path} cannot be used as a lock: {reason}")
    return lock


def _path(cluster: Cluster, name: str) -> str:
    """Return where the lock lies, beside the control socket; '' where there is none."""
    if not cluster.control_file:
        return ""
    directory = os.path.dirname(cluster.control_file[0][0])
    return os.path.join(directory, f"{cluster.config.place.name}.{name}{SUFFIX}")


def remove(cluster: Cluster) -> None:
    """Remove the files of locks that are free. The control socket's lock keeps successors away."""
    for name, lock in cluster.locks.items():
        with contextlib.suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if (path := _path(cluster, name)) and os.path.samestat(os.stat(path), os.fstat(lock)):
                os.unlink(path)
        os.close(lock)
    cluster.locks.clear()
