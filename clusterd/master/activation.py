"""Sockets that we were started with: systemd's (socket activation), or our own from before a crash.

The protocol is sd_listen_fds(3): descriptors from 3 on, counted by $LISTEN_FDS and named by
$LISTEN_FDNAMES. What `store` had systemd keep for us carries a name that only we give.
"""

import os
import select
import socket
import stat
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from dataclasses import dataclass

from clusterd.config.address import Address, Fd, Tcp, Unix, is_name
from clusterd.kernel.filters import welcome_newcomers

FIRST = 3  # SD_LISTEN_FDS_START
OURS = "clusterd="  # what the names of our own begin with
LONGEST = 255  # bytes of a name
PLAIN = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-@#[]")


@dataclass(slots=True)
class Passed:
    """A listening socket, its number and name, and for one of ours what it was to us."""

    sock: socket.socket
    number: int
    name: str
    listener: str = ""  # our own name of it, or "": somebody else's
    inode: int = 0  # of its file, if it is one of ours and has one

    @property
    def address(self) -> Address:
        """What it is bound to."""
        return address_of(self.sock, True)

    @property
    def slot(self) -> int | None:
        """The slot that it is for, with `--balance reuseport`."""
        _, mark, slot = self.listener.partition("#")
        return int(slot) if mark and slot.isdecimal() else None


class Luggage:
    """What was passed and nobody has claimed yet."""

    def __init__(self, passed: Sequence[Passed] = ()) -> None:
        self._passed = list(passed)
        self.useless: list[str] = []  # names of our own that turned out to be of no use
        self.binds = _binds(passed)  # what to listen on where nobody says: as texts for `bind`

    def __iter__(self) -> Iterator[Passed]:
        return iter(self._passed)

    def tcp(self, family: int, host: str, port: int, slot: int | None = None) -> Passed | None:
        """The socket that is bound to an address; with `slot`, that slot's.

        One on all addresses of IPv6 that also takes IPv4, as `ListenStream=8000` makes it, is as
        good as 0.0.0.0.
        """

        def fits(one: Passed) -> bool:
            if one.sock.family not in (socket.AF_INET, socket.AF_INET6):
                return False
            if one.slot != slot and (slot or one.slot):
                return False
            where = one.sock.getsockname()
            if where[:2] == (host, port):
                return one.sock.family == family
            return host == "0.0.0.0" and where[:2] == ("::", port) and _takes_both(one.sock)

        return self._claim(fits)

    def unix(self, path: str) -> Passed | None:
        """The socket that is bound to a path, whatever links it is reached by."""
        real = os.path.realpath(path)

        def fits(one: Passed) -> bool:
            if one.sock.family != socket.AF_UNIX:
                return False
            where = one.sock.getsockname()
            return isinstance(where, str) and where != "" and os.path.realpath(where) == real

        return self._claim(fits)

    def named(self, address: Fd) -> list[Passed]:
        """All sockets of a name, or the one with a number."""
        found = []
        while one := self._claim(
            lambda one: one.name == address.name if address.name else one.number == address.number
        ):
            found.append(one)
        return found

    def _claim(self, fits: Callable[[Passed], bool]) -> Passed | None:
        found = next((one for one in self._passed if fits(one)), None)
        if found is not None:
            self._passed.remove(found)
        return found

    def drop(self, one: Passed) -> None:
        """What was claimed is of no use after all."""
        one.sock.close()
        if one.listener:
            self.useless.append(one.name)

    def discard(self) -> None:
        """Close what nobody claimed."""
        for one in self._passed:
            self.drop(one)
        self._passed.clear()


def take(environ: MutableMapping[str, str], pid: int) -> Luggage:
    """What was passed to this very process. The variables go, as they mean nobody else."""
    count, whose = environ.get("LISTEN_FDS", ""), environ.get("LISTEN_PID", "")
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    if whose != str(pid) or not count.isdecimal():
        return Luggage()
    for variable in [name for name in environ if name.startswith("LISTEN_")]:
        del environ[variable]
    found = []
    for index in range(int(count)):
        name = names[index] if index < len(names) and names[index] else "unknown"
        one = _taken(FIRST + index, name)
        if one is not None:
            found.append(one)
    return Luggage(found)


def _taken(number: int, name: str) -> Passed | None:
    """A descriptor as a listening socket, or None: then it is none. Nobody inherits it from us."""
    try:
        os.set_inheritable(number, False)
        if not stat.S_ISSOCK(os.fstat(number).st_mode):
            return None
        sock = socket.socket(fileno=number)
    except OSError:
        return None
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or sock.type != socket.SOCK_STREAM:
        sock.detach()
        return None
    sock.setblocking(False)
    listener, inode = read_label(name) or ("", 0)
    return Passed(sock, number, name, listener, inode)


def revive(one: Passed) -> bool:
    """Make a socket of ours take connections again; False where that cannot be.

    We may have been killed while we stopped, when newcomers were refused already.
    """
    if one.sock.family != socket.AF_UNIX:
        welcome_newcomers(one.sock)
        return True
    poll = select.poll()
    poll.register(one.sock, select.POLLRDHUP)
    return not any(events & select.POLLRDHUP for _, events in poll.poll(0))


def _takes_both(sock: socket.socket) -> bool:
    return not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)


def _binds(passed: Sequence[Passed]) -> tuple[str, ...]:
    """A text for each name that somebody else gave, or a number where it cannot be written."""
    texts = [
        str(Fd(name=one.name) if is_name(one.name) else Fd(one.number))
        for one in passed
        if not one.listener
    ]
    return tuple(dict.fromkeys(texts))


def address_of(sock: socket.socket, tls: bool) -> Address:
    """What a passed socket is bound to, to name it by."""
    where = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Unix(os.fsdecode(where) or "unnamed")
    return Tcp(where[0], where[1], tls)


def label(listener: str, inode: int) -> str | None:
    """The name under which systemd keeps a socket of ours; None: it would be too long."""
    text = f"{listener};{inode}" if inode else listener
    safe = "".join(chr(b) if b in PLAIN else f"%{b:02X}" for b in os.fsencode(text))
    return OURS + safe if len(OURS + safe) <= LONGEST else None


def read_label(name: str) -> tuple[str, int] | None:
    """The listener's name and inode that a label was made from; None: it is no label of ours."""
    if not name.startswith(OURS):
        return None
    head, *rest = name.removeprefix(OURS).encode().split(b"%")
    try:
        text = os.fsdecode(head + b"".join(bytes([int(p[:2], 16)]) + p[2:] for p in rest))
    except ValueError:
        return None
    listener, _, inode = text.partition(";")
    return listener, int(inode) if inode.isdecimal() else 0
