"""One listening socket that the master owns: made, locked where it is a file, closed."""

import contextlib
import errno
import os
import select
import socket
import stat
from dataclasses import dataclass, replace

from clusterd.config.address import Address, Fd, Tcp, Unix
from clusterd.core.errors import BindError
from clusterd.core.plain import Descriptor
from clusterd.kernel.filters import refuse_newcomers
from clusterd.master import socket_file
from clusterd.master.activation import Luggage, Passed, address_of, revive
from clusterd.master.holder import holder_of

SO_REUSEPORT = socket.SO_REUSEPORT
# A minute of silence, then six probes (tcp(7)): gone is who answers none within two minutes.
KEEP_ALIVE = {socket.TCP_KEEPIDLE: 60, socket.TCP_KEEPINTVL: 10, socket.TCP_KEEPCNT: 6}


@dataclass(slots=True)
class Listener:
    """A socket and its name, as events, `status` and messages use it.

    `slot` is None for a socket that all workers share, else it is served by that slot's worker.
    """

    name: str
    sock: socket.socket
    slot: int | None = None
    inherited: bool = False  # somebody else's (systemd's, say): it outlives us, as it is
    path: str = ""  # of a Unix socket, with its inode and the lock beside it
    inode: int = 0
    lock: Descriptor = -1
    unserved: bool = False  # a Unix socket, closed to newcomers: connections may wait in its queue
    dropped: bool = False  # the settings no longer name it; closed when its queue was handed on
    kept: bool = False  # by systemd for our next life: its file is to stay should we be killed

    def refuse_newcomers(self) -> None:
        """Have the queue only empty from now on. Raises OSError where the system does not."""
        # A Unix socket that is shut down looks as if connections waited, for ever.
        self.unserved = bool(self.path) and self.is_waited_for()
        refuse_newcomers(self.sock)

    def is_waited_for(self) -> bool:
        """Return whether connections wait in the queue that the last copy's close would reset."""
        if self.unserved:
            return True
        poll = select.poll()
        poll.register(self.sock, select.POLLIN | select.POLLRDHUP)
        return any(events == select.POLLIN for _, events in poll.poll(0))

    def close(self) -> None:
        """Close our copy; a socket file that is still ours goes, and then its lock."""
        self.sock.close()
        if not self.path:
            return
        with contextlib.suppress(OSError):
            if os.stat(self.path).st_ino == self.inode:
                os.unlink(self.path)
        socket_file.unlock_path(self.path, self.lock)


def listen(
    address: Address, backlog: int, luggage: Luggage | None = None, held_files: bool = False
) -> list[Listener]:
    """Bind and listen; a host name may give several. Raises BindError or ConfigError.

    What is in the luggage, bound to that address already, is taken from there. With `held_files`
    a Unix socket is bound and does not listen yet: whoever connects is refused.
    """
    luggage = luggage or Luggage()
    match address:
        case Fd():
            return _inherited(address, luggage)
        case Unix():
            passed = _passed_unix(address, backlog, luggage)
            return [passed or _unix(address, None if held_files else backlog)]
        case Tcp():
            return _tcp(address, backlog, luggage)


def _inherited(address: Fd, luggage: Luggage) -> list[Listener]:
    if found := luggage.named(address):
        names = [str(address_of(one.sock, address.tls)) for one in found]
        return [Listener(n, o.sock, inherited=True) for n, o in zip(names, found, strict=True)]
    if address.name:
        raise BindError(
            f"{address}: we were started with no socket of this name",
            f"write FileDescriptorName={address.name} into the socket unit",
        )
    return [_by_number(address)]


def _by_number(address: Fd) -> Listener:
    """A descriptor that whoever started us left open, without systemd's protocol."""
    try:
        if not stat.S_ISSOCK(os.fstat(address.number).st_mode):
            raise BindError(f"{address} is no socket")
        sock = socket.socket(fileno=os.dup(address.number))
    except (OSError, OverflowError) as error:
        raise BindError(f"{address} is no socket that we were started with: {error}") from error
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise BindError(f"{address} is a socket, but it does not listen")
    sock.setblocking(False)
    return Listener(str(address), sock, inherited=True)


def _tcp(address: Tcp, backlog: int, luggage: Luggage) -> list[Listener]:
    targets = _resolved(address)
    made: list[Listener] = []
    port = address.port
    try:
        for family, host in targets:
            passed = luggage.tcp(family, host, port)
            made.append(
                adopt(passed, backlog)
                if passed
                else _tcp_socket(family, host, port, backlog, only=len(targets) > 1)
            )
            port = made[0].sock.getsockname()[1]  # port 0: the same one for every family
            made[-1].name = str(Tcp(host, port, address.tls))
    except BindError:
        for listener in made:
            listener.close()
        raise
    return made


def _resolved(address: Tcp) -> list[tuple[socket.AddressFamily, str]]:
    """Return each family and host that an address means. Raises BindError."""
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except (OSError, UnicodeError) as error:  # a label of more than 63 bytes is the latter
        raise BindError(f"the host of {address} is not known: {error}") from error
    return list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))


def adopt(passed: Passed, backlog: int) -> Listener:
    """Listen on what we were started with: somebody else's, or our own from an earlier life."""
    if not passed.listener:
        return Listener(passed.listener, passed.sock, inherited=True)
    revive(passed)
    passed.sock.listen(backlog)  # the setting may have changed since
    return Listener(passed.listener, passed.sock, passed.slot, kept=True)


def _passed_unix(address: Unix, backlog: int, luggage: Luggage) -> Listener | None:
    """A socket that we were started with, and for one of ours its file and the lock beside it."""
    path = os.path.abspath(address.path)
    passed = luggage.unix(path)
    if passed is None:
        return None
    if not passed.listener:
        return Listener(f"unix:{path}", passed.sock, inherited=True)
    owners = socket_file.owners_of(address)
    lock = socket_file.lock_path(path)
    with contextlib.suppress(OSError), socket_file.pinned(path) as pin:
        if os.stat(pin).st_ino == passed.inode and revive(passed):
            socket_file.permit(pin, address, owners)
            passed.sock.listen(backlog)
            name, inode = f"unix:{path}", socket_file.record(pin, lock)
            return Listener(name, passed.sock, path=path, inode=inode, lock=lock, kept=True)
    socket_file.unlock_path(path, lock)
    luggage.drop(passed)
    return None


def attempt(address: Tcp) -> None:
    """Bind as `listen` would, and let go; nothing listens meanwhile. Raises BindError."""
    targets = _resolved(address)
    for family, host in targets:
        _tcp_socket(family, host, address.port, None, only=len(targets) > 1).close()


def _tcp_socket(
    family: socket.AddressFamily, host: str, port: int, backlog: int | None, only: bool
) -> Listener:
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        _prepare(sock)
        if only and family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((host, port))
        if backlog is not None:
            sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise _refused(str(Tcp(host, port)), host, port, error) from error
    sock.setblocking(False)
    return Listener(str(Tcp(host, sock.getsockname()[1])), sock)


def _refused(name: str, host: str, port: int, error: OSError) -> BindError:
    if error.errno == errno.EADDRINUSE:
        who = holder_of(port)
        return BindError(
            f"{name} is in use{f' by {who}' if who else ''}",
            "stop that process, or choose another address with --bind",
        )
    if error.errno == errno.EACCES:
        return BindError(
            f"{name} is not allowed: ports below 1024 need CAP_NET_BIND_SERVICE",
            "take a higher port, or give that capability: AmbientCapabilities= in a systemd unit,\n"
            "--cap-add NET_BIND_SERVICE for a container, or net.ipv4.ip_unprivileged_port_start",
        )
    if error.errno == errno.EADDRNOTAVAIL:
        return BindError(f"{name} cannot be had: {host} is no address of this machine")
    return BindError(f"{name} cannot be bound: {error.strerror}")


def _prepare(sock: socket.socket) -> None:
    """Before it is bound. What is said of keep-alive its connections inherit: a client that is gone
    without a word is found out also where nothing is sent, as by an app that waits for an event."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in KEEP_ALIVE.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def sibling(first: Listener, slot: int, backlog: int, luggage: Luggage | None = None) -> Listener:
    """A further socket on the same port, for one slot (SO_REUSEPORT, socket(7)).

    The option goes onto the first socket only after it was bound: set before, a second instance
    of clusterd could silently bind the port as well.
    """
    first.sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
    name, where = f"{first.name.partition('#')[0]}#{slot}", first.sock.getsockname()
    if passed := luggage and luggage.tcp(first.sock.family, where[0], where[1], slot):
        return replace(adopt(passed, backlog), name=name, slot=slot)
    sock = socket.socket(first.sock.family, socket.SOCK_STREAM)
    try:
        _prepare(sock)
        sock.setsockopt(socket.SOL_SOCKET, SO_REUSEPORT, 1)
        if first.sock.family == socket.AF_INET6:
            only = first.sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        sock.bind(where)
        sock.listen(backlog)
    except OSError as error:
        sock.close()
        raise BindError(f"a socket of slot {slot} on {first.name}: {error.strerror}") from error
    sock.setblocking(False)
    return Listener(name, sock, slot)


def _unix(address: Unix, backlog: int | None) -> Listener:
    path = os.path.abspath(address.path)
    owners = socket_file.owners_of(address)
    lock = socket_file.lock_path(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    made = Listener(f"unix:{path}", sock, path=path, lock=lock)
    try:
        socket_file.remove_stale(path, lock)
        began = socket_file.touch(lock)
        sock.bind(path)
        with socket_file.pinned(path) as name:  # before listen: nobody can connect before it holds
            made.inode = socket_file.inode_of(name, began)
            socket_file.permit(name, address, owners)
            socket_file.record(name, lock)
        if backlog is not None:
            sock.listen(backlog)
    except (OSError, BindError) as error:
        made.close()  # without an inode, the file at the path is not known to be ours, and stays
        if isinstance(error, BindError):
            raise
        raise BindError(f"{address} cannot be bound: {error.strerror}") from error
    sock.setblocking(False)
    return made
