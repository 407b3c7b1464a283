"""Tell which process is at the other end of a Unix socket: the kernel's word, not the peer's.

Imported by `clusterd status` before anything else, so it imports almost nothing.
"""

import socket
import struct

_PEERCRED = struct.Struct("3i")  # struct ucred: pid, uid, gid; SO_PEERCRED, unix(7)


def peer_of(sock: socket.socket) -> tuple[int, int]:
    """Return the pid and the user of the process that connected or, at the end that did, of the
    process that called listen(2). Raises OSError."""
    packed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEERCRED.size)
    pid, uid, _ = _PEERCRED.unpack(packed)
    return pid, uid
