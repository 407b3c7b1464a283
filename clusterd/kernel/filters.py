"""Closing a listening socket without resetting anyone: first nothing new, then empty the queue."""

import contextlib
import ctypes
import socket
import struct

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = (
    26,
    27,
)  # socket(7); the same on all of Linux but for two old architectures

# Classic BPF, four instructions over the TCP header: a segment with SYN is dropped, all others
# pass, so that handshakes under way complete and end in the accept queue. A client that is
# dropped sends its SYN again in a second and then finds the port closed, or the successor.
_DROP_SYN = b"".join(
    struct.pack("HBBI", *instruction)
    for instruction in (
        (0x30, 0, 0, 13),  # ldb [13]: the byte of flags (RFC 9293 §3.1)
        (0x45, 0, 1, 0x02),  # jset #SYN
        (0x06, 0, 0, 0),  # ret #0: drop
        (0x06, 0, 0, 0xFFFFFFFF),  # ret #-1: pass all of it
    )
)


def refuse_newcomers(listener: socket.socket) -> None:
    """Let no new connection into a listener's queue; what is queued can still be accepted.

    The state is the socket's, so it holds for every process that shares it. Raises OSError.
    A Unix listener that is shut down for reading refuses newcomers and then answers accept with
    EINVAL once its queue is empty.
    """
    if listener.family == socket.AF_UNIX:
        listener.shutdown(socket.SHUT_RD)
        return
    code = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    program = struct.pack("HxxxxxxP", len(_DROP_SYN) // 8, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


def welcome_newcomers(listener: socket.socket) -> None:
    """Take back `refuse_newcomers`, for TCP. Who was dropped comes in with its next SYN."""
    with contextlib.suppress(FileNotFoundError):  # no filter is there
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)
