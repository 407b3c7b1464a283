"""Whether what listens at a control socket may be a master of ours.

Imported by `clusterd status` before anything else, so it imports almost nothing.
"""

import os
import socket
import stat

from clusterd.kernel.peers import peer_of

ROOT = 0
OTHERS = stat.S_IWGRP | stat.S_IWOTH


def stranger(sock: socket.socket, path: str) -> int | None:
    """Return the user of a process that is not to be trusted as a master, or None.

    `sock` is connected to what listens at the path.
    """
    _, uid = peer_of(sock)
    try:
        directory = os.stat(os.path.dirname(path) or ".")
    except OSError:  # removed by now
        return None if is_trusted(uid, os.geteuid(), None) else uid
    if is_trusted(uid, os.geteuid(), directory.st_uid) or _made_by_its_owner(path, directory):
        return None
    return uid


def _made_by_its_owner(path: str, directory: os.stat_result) -> bool:
    """Return whether the owner of a directory, and no other user, can have made a socket in it.

    The owner has another number than the process where systemd maps users: RuntimeDirectory= of a
    service with DynamicUser= belongs to nobody outside of it (seen with systemd 257).
    """
    try:
        made_by = os.lstat(path).st_uid
    except OSError:
        return False
    owner = directory.st_uid
    return made_by == owner and owner != ROOT and not directory.st_mode & OTHERS


def is_trusted(uid: int, ours: int, owner: int | None) -> bool:
    """Return whether a process of a user is believed to be a master.

    Root's is, our own, and that of the user that the directory belongs to. Any other user may have
    put a socket of this name there, where all may write.
    """
    return uid in (ROOT, ours, owner)
