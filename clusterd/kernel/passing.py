"""Descriptors that another process sends with its messages: take none, and never wait for one.

A packet that is received or dropped closes the descriptors in it, and the last close may block for
as long as their sender chose: a TCP socket with SO_LINGER (socket(7)), seen on Linux 6.18. Nothing
of that may happen in the master. So it looks before it receives, and where there are descriptors it
leaves the packet where it is and has another process close the socket.
"""

import contextlib
import os
import socket
import sys

from clusterd.kernel import child

SO_PASSRIGHTS = 83  # Linux 6.16 (asm-generic/socket.h); Python has no name for it
PIECE = 64 * 1024  # bytes that are looked at and dropped at once
MOST_PIECES = 4096  # that are dropped before a socket is closed
CREDENTIALS = socket.CMSG_SPACE(3 * 4)  # pid, uid, gid: struct ucred, unix(7)
_left: list[socket.socket] = []  # that no process could be started for


class Descriptors(Exception):
    """The next packet carries descriptors."""


def refuse(sock: socket.socket) -> None:
    """Have the kernel refuse descriptors on their way to this socket, where it can.

    Connections that a listener accepts inherit that (Linux 6.16).
    """
    with contextlib.suppress(OSError):  # an older kernel
        sock.setsockopt(socket.SOL_SOCKET, SO_PASSRIGHTS, 0)


def receive(sock: socket.socket, most: int) -> tuple[bytes, bytes, bool]:
    """Return bytes or a packet, its sender's credentials if they are asked for, and whether it was
    cut off at `most` bytes. Raises Descriptors where there are some, and BlockingIOError.

    What was looked at is what is received: nobody else reads this socket, and no more is asked for
    than was there.
    """
    peek = socket.MSG_PEEK | socket.MSG_DONTWAIT
    # Room for credentials alone, and none where none come: a descriptor would fit there.
    room = CREDENTIALS if sock.getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) else 0
    try:
        data, ancillary, flags, _ = sock.recvmsg(most, room, peek)
    except ConnectionResetError:
        # It left with something of ours unread. The kernel says so once, and before it hands out
        # what the peer had sent: its last words are still to be had.
        data, ancillary, flags, _ = sock.recvmsg(most, room, peek)
    if flags & socket.MSG_CTRUNC:
        raise Descriptors
    sock.recv(max(1, len(data)), socket.MSG_DONTWAIT)
    credentials = ancillary[0][2] if ancillary else b""
    return data, credentials, bool(flags & socket.MSG_TRUNC)


def let_go(sock: socket.socket) -> None:
    """Close a Unix socket without waiting for descriptors that may be in it unread."""
    with contextlib.suppress(OSError):
        sock.shutdown(socket.SHUT_RD)  # no more can come
        if sock.type == socket.SOCK_SEQPACKET:
            # An empty packet has credentials then, and the end of all packets has none.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    if _is_empty(sock):
        sock.close()
    else:
        _left.append(sock)
    while _left:
        try:
            _close_elsewhere(_left[-1])
        except OSError:  # no process to be had: with the next one
            return
        _left.pop()


def _close_elsewhere(sock: socket.socket) -> None:
    """Have another process be the last that closes this socket. Raises OSError.

    A process that ends does not linger. It inherits the socket, and ends once the pipe does: not
    before we have closed our copy (seen: it had ended by then, and the close was ours after all).
    The master reaps it as any child.
    """
    read, write = os.pipe()
    try:
        wait = f"import os; os.read({read}, 1)"
        child.start((sys.executable, "-I", "-S", "-c", wait), [sock.fileno(), read])
        sock.close()
    finally:
        os.close(read)
        os.close(write)


def _is_empty(sock: socket.socket) -> bool:
    """Drop what is unread; False where that may carry descriptors."""
    try:
        for _ in range(MOST_PIECES):
            data, credentials, _cut = receive(sock, PIECE)
            if not data and not credentials:
                return True
    except BlockingIOError:
        return True
    except Descriptors:
        return False
    except OSError:  # closed already
        return True
    return False
