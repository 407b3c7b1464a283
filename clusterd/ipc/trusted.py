"""Whether what listens at a control socket may be a master of ours.

Imported by `clusterd status` before anything else, so it imports almost nothing.
"""

import os
import socket

from clusterd.kernel.peers import peer_of

ROOT = 0


def stranger(sock: socket.socket, path: str) -> int | None:
    """Return the user of a process that is not to be trusted as a master, or None.

    `sock` is connected to what listens at the path.
    """
    try:
        owner = os.stat(os.path.dirname(path) or ".").st_uid
    except OSError:
        owner = None  # removed by now
    _, uid = peer_of(sock)
    return None if is_trusted(uid, os.geteuid(), owner) else uid


def is_trusted(uid: int, ours: int, owner: int | None) -> bool:
    """Return whether a process of a user is believed to be a master.

    Root's is, our own, and that of the user that the directory belongs to. Any other user may have
    put a socket of this name there, where all may write.
    """
    return uid in (ROOT, ours, owner)
