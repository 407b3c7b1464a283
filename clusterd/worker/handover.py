"""Handing idle keep-alive connections to a ready sibling, through one queue that all share.

The queue is a pair of `SOCK_SEQPACKET` sockets that every worker holds both ends of: who drains
writes a descriptor a packet, who is ready reads from it as from one more listener. The client
notices nothing: no FIN goes out, and what it sends meanwhile waits in the kernel's buffer.
"""

import os
import select
import socket
import struct

PACKET = b"c"  # a packet must carry a byte, or it would look like the end of the stream
FD = struct.Struct("i")
ROOM = socket.CMSG_SPACE(FD.size)


class Handover:
    """Both ends of the queue. Neither blocks; the pair is shared, so its flags are not touched."""

    def __init__(self, pair: tuple[socket.socket, socket.socket]) -> None:
        self.reader, self._writer = pair
        self._poll = select.poll()
        self._poll.register(self._writer, select.POLLOUT)
        self.closed = False

    def has_room(self) -> bool:
        """Whether a descriptor would go now; asked first, since a released one cannot go back."""
        return not self.closed and any(event & select.POLLOUT for _, event in self._poll.poll(0))

    def give(self, fd: int) -> bool:
        """Send a connection's descriptor; ours is closed when it went. False: it did not go."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, FD.pack(fd))]
        try:
            # Not `socket.send_fds`: it forgets the flags (seen in 3.11-3.13), and would block.
            self._writer.sendmsg([PACKET], rights, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:  # full after all, too many in flight (ETOOMANYREFS), or gone
            return False
        os.close(fd)
        return True

    def take(self) -> int:
        """The next connection's descriptor; raises BlockingIOError when none waits.

        Out of descriptors, the kernel would drop the one in the packet without a word (only
        MSG_CTRUNC tells): so one is tried first, and EMFILE is raised while all is well.
        """
        os.close(os.dup(self.reader.fileno()))
        flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
        body, ancillary, _, _ = self.reader.recvmsg(len(PACKET), ROOM, flags)
        for level, kind, data in ancillary:
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS) and len(data) == FD.size:
                return int(FD.unpack(data)[0])
        # No descriptor came: the sender's process was killed half-way, or ENFILE took it. At the
        # end of the stream (which cannot be, since we hold the other end) nothing is left.
        raise ConnectionAbortedError if body else BlockingIOError

    def close(self) -> None:
        self.closed = True
        self.reader.close()
        self._writer.close()
