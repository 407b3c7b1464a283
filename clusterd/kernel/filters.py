"""Closing a listening socket without resetting anyone: first nothing new, then empty the queue.

A TCP listener is closed to newcomers by a limit on the TTL of what comes in, or where the system
has no such limit by a filter. Either drops the first segment (SYN) of a new connection: its client
sends it again in a second, and then finds the port closed, or the successor.
"""

import contextlib
import ctypes
import socket
import struct

# ip(7), ipv6(7): segments with a smaller TTL (hop limit) than this are dropped. Systems send with
# 64 or 128, so 255 drops all but what a neighbour on the same link sends with 255 on purpose.
# It needs no right (BPF filters were seen to want CAP_NET_ADMIN, on Linux 6.18).
_IP_MINTTL, _IPV6_MINHOPCOUNT = 21, 73
_HIGHEST_TTL = 255

_SO_ATTACH_FILTER, _SO_DETACH_FILTER = (
    26,
    27,
)  # socket(7); the same on all of Linux but for two old architectures

# Classic BPF, four instructions over the TCP header: a segment with SYN is dropped, all others
# pass, so that handshakes under way complete and end in the accept queue.
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
    Connections whose handshake ends after this inherit the limit: see `admit`.
    A Unix listener that is shut down for reading refuses newcomers. It is readable for ever, and
    once its queue is empty a non-blocking accept ends with EAGAIN, a blocking one with EINVAL.
    """
    if listener.family == socket.AF_UNIX:
        listener.shutdown(socket.SHUT_RD)
        return
    try:
        _limit_ttl(listener, _HIGHEST_TTL)
    except OSError:  # a sandbox with a network stack of its own, say
        _limit_ttl_quietly(listener, 0)  # of two options the first may have been taken
        _drop_syn(listener)


def welcome_newcomers(listener: socket.socket) -> None:
    """Take back `refuse_newcomers`, for TCP. Who was dropped comes in with its next SYN."""
    _limit_ttl_quietly(listener, 0)
    with contextlib.suppress(OSError):  # no filter is there
        listener.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)


def admit(fd: int) -> None:
    """Have a connection receive whatever TTL its segments have.

    For one that was accepted from a listener that may have been closed to newcomers before its
    handshake was complete. What was dropped meanwhile its client sends again.
    """
    try:
        copy = socket.socket(fileno=fd)
    except OSError:  # it is no socket: that is found out where it is used
        return
    if copy.family != socket.AF_UNIX:
        _limit_ttl_quietly(copy, 0)
    copy.detach()


def _limit_ttl(sock: socket.socket, limit: int) -> None:
    """Set the limit of both families where a socket may take both. Raises OSError."""
    sock.setsockopt(socket.IPPROTO_IP, _IP_MINTTL, limit)
    if sock.family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_MINHOPCOUNT, limit)


def _limit_ttl_quietly(sock: socket.socket, limit: int) -> None:
    with contextlib.suppress(OSError):
        _limit_ttl(sock, limit)


def _drop_syn(listener: socket.socket) -> None:
    code = ctypes.create_string_buffer(_DROP_SYN, len(_DROP_SYN))
    program = struct.pack("HxxxxxxP", len(_DROP_SYN) // 8, ctypes.addressof(code))
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)
