"""One message a packet over `SOCK_SEQPACKET`, descriptors alongside."""

import array
import dataclasses
import json
import os
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from clusterd.core.errors import Bug
from clusterd.ipc.budget import PIECES, Budget
from clusterd.ipc.decoding import FROM_WORKERS, FROM_ZYGOTES, Malformed, decode
from clusterd.ipc.messages import WIRE, Message
from clusterd.kernel import passing

LIMIT = 64 * 1024  # bytes a packet; a socketpair's default buffer holds three such
MAX_FDS = 253  # SCM_MAX_FD, unix(7)
CUT = socket.MSG_TRUNC | socket.MSG_CTRUNC
FD_SPACE = socket.CMSG_SPACE(MAX_FDS * 4)


class Foreign(Bug):
    """A message of another version of clusterd: we do not know its name or its fields."""


class Closed:
    """What `receive` answers once the other end is closed."""


CLOSED = Closed()


def encode(message: Message) -> bytes:
    """The packet of a message; raises Bug where it would not fit."""
    fields = [type(message).__name__, dataclasses.asdict(message)]
    body = json.dumps(fields, ensure_ascii=False).encode("utf-8", "backslashreplace")
    if len(body) >= LIMIT:
        raise Bug(f"a {type(message).__name__} of {len(body)} bytes does not fit a packet")
    return body


class Channel:
    """Both ends speak `Message`s. EOF means that the peer is gone.

    Sending never blocks: `send` answers False when the packet did not go (buffer full, or the
    peer is gone). State is sent again by whoever holds it; news is dropped.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock

    @classmethod
    def pair(cls) -> tuple[Self, socket.socket]:
        """A channel, and the socket to give to the other process."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        return cls(ours), theirs

    @classmethod
    def of(cls, fd: int) -> Self:
        """The channel over an inherited or received descriptor, which it owns from now on."""
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        return self.sock.fileno()

    def close(self) -> None:
        self.sock.close()

    def send(self, message: Message, fds: Sequence[int] = ()) -> bool:
        """Send without blocking; False when it did not go."""
        body = encode(message)
        flags = socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL
        try:
            if fds:
                # Not `socket.send_fds`: it forgets the flags (3.11-3.13), and would block.
                rights = array.array("i", fds)
                self.sock.sendmsg([body], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)], flags)
            else:
                self.sock.send(body, flags)
        except (BlockingIOError, ConnectionError, OSError):
            return False
        return True

    def receive(self, block: bool = True) -> tuple[Message, list[int]] | Closed | None:
        """The next message and its descriptors (close-on-exec); CLOSED at EOF; None: none now.

        `socket.recv_fds` would hand out inheritable descriptors, hence our own `recvmsg`.
        """
        flags = socket.MSG_CMSG_CLOEXEC | (0 if block else socket.MSG_DONTWAIT)
        try:
            try:
                body, ancillary, seen, _ = self.sock.recvmsg(LIMIT, FD_SPACE, flags)
            except ConnectionResetError:
                # It left with something of ours unread. The kernel says so once, and before it
                # hands out what the peer had sent: its last words are still to be had.
                body, ancillary, seen, _ = self.sock.recvmsg(LIMIT, FD_SPACE, flags)
        except BlockingIOError:
            return None
        except ConnectionError:
            return CLOSED
        fds = [
            fd
            for level, kind, data in ancillary
            if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS)
            for fd in memoryview(data[: len(data) - len(data) % 4]).cast("i")
        ]
        if seen & CUT:
            close_all(fds)
            raise Bug("a message was cut short")
        if not body:
            close_all(fds)
            return CLOSED
        try:
            return _decode(body), fds
        except Bug:
            close_all(fds)
            raise


def _decode(body: bytes) -> Message:
    """Return the message in a packet. Raises Foreign, or Bug where it is none of clusterd's."""
    try:
        kind, fields = json.loads(body)
    except (ValueError, TypeError, RecursionError) as error:
        raise Bug(f"what came is no message: {body[:100]!r}") from error
    if not isinstance(kind, str) or not isinstance(fields, dict):
        raise Bug(f"what came is no message: {body[:100]!r}")
    try:
        return WIRE[kind](**fields)
    except (KeyError, TypeError) as error:
        raise Foreign(f"another version of clusterd sent {kind}: {body[:100]!r}") from error


CREDENTIALS = struct.Struct("3i")  # pid, uid, gid: struct ucred, unix(7)


@dataclass(frozen=True, slots=True)
class Heard:
    """A message to the master. `sender`: the pid of its sender, as the kernel says; 0 for none
    that the master can see. `size`: bytes."""

    message: Message
    sender: int
    size: int


class Breach(Exception):
    """A worker or zygote did what none of ours does. `sender`: its pid, as `Heard` has it.

    `is_foreign`: another version of clusterd may do that.
    """

    def __init__(self, reason: str, sender: int = 0, is_foreign: bool = False) -> None:
        super().__init__(reason)
        self.sender = sender
        self.is_foreign = is_foreign


class MasterChannel(Channel):
    """The master's end. At the other one, code of the application may do whatever it likes.

    So no descriptor is taken, the kernel says who sent a message, each message is checked, and
    `budget` says how many may come. `pieces` is the budget of the worker's dump pipe.
    """

    def __init__(self, sock: socket.socket) -> None:
        super().__init__(sock)
        self.budget = Budget()
        self.pieces = Budget(PIECES)
        if sock.fileno() >= 0:  # else it was closed before an upgrade in place
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
            passing.refuse(sock)

    def close(self) -> None:
        passing.let_go(self.sock)

    def hear(self, from_worker: bool) -> Heard | Closed | None:
        """The next message of a worker or zygote; CLOSED at EOF; None: none now.

        Raises Breach.
        """
        try:
            body, credentials, is_cut = passing.receive(self.sock, LIMIT)
        except BlockingIOError:
            return None
        except passing.Descriptors:
            raise Breach("it sent descriptors") from None
        except ConnectionError:
            return CLOSED
        if not credentials:
            return CLOSED
        sender, _uid, _gid = CREDENTIALS.unpack(credentials)
        if is_cut:
            raise Breach(f"it sent a message of more than {LIMIT} bytes", sender)
        try:
            message = decode(body, FROM_WORKERS if from_worker else FROM_ZYGOTES)
        except Malformed as error:
            raise Breach(str(error), sender, error.is_foreign) from error
        return Heard(message, sender, len(body))


def close_all(fds: Sequence[int]) -> None:
    """Close descriptors that came with a message and are not wanted."""
    for fd in fds:
        os.close(fd)
