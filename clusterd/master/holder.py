"""Which process has an address: asked of /proc once, when we are about to say that it is taken."""

import contextlib
import os
import pwd
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from clusterd.core.terminal import clean
from clusterd.kernel.peers import peer_of

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp, proc(5)
_TITLE = re.compile(r"clusterd: master (?:\[(?P<name>[^\]]*)\] )?(?P<what>.*)", re.DOTALL)
INIT = 1  # the pid of systemd
NAMELESS = "clusterd"  # the name of a cluster that was given none
LONGEST = 120  # characters of a command line


class Master(NamedTuple):
    """A cluster that runs, as its master's title in the process table tells."""

    pid: int
    uid: int
    name: str
    what: str  # the application or the program

    def __str__(self) -> str:
        return f"the cluster {self.name!r} ({self.what}, pid {self.pid})"


def holder_of(port: int) -> str:
    """Return which process listens on a TCP port, or '' where that cannot be known."""
    inodes = dict(_listening_inodes(port))
    found = holders_of(port)
    for pid in found:  # the workers of a cluster have its sockets, too
        if master := master_of(pid):
            return str(master)
    if found:
        return described(found[0])
    users = {user_name(uid) for uid in inodes.values() if uid != os.geteuid()}
    return f"a process of {' or '.join(sorted(users))}" if users else ""


def holders_of(port: int) -> list[int]:
    """Return the processes that have a listening socket of this port, as far as we may know."""
    inodes = {inode for inode, _ in _listening_inodes(port)}
    return [pid for pid in _processes() if _has_socket(pid, inodes)] if inodes else []


def owner_of(path: str) -> str:
    """Return which process listens on a Unix socket, or '' where none does."""
    pid = _listener_at(path)
    return str(master_of(pid) or described(pid)) if pid else ""


def may_be_control(path: str) -> bool:
    """Return whether a process listens at NAME.sock, and may be the master of a cluster NAME.

    Sockets of applications often lie beside it. They were made by a master of another name, or by
    systemd. A listener that cannot be asked may be anything: another user's, or one that accepts
    nothing at the moment.
    """
    pid = _listener_at(path)
    master = master_of(pid) if pid else None
    return has_control_at(master, path) if master else pid not in (None, INIT)


def has_control_at(master: Master, path: str) -> bool:
    """Return whether a socket of the master's at this path is its control socket, by its name."""
    return os.path.basename(path) == f"{master.name}.sock"


def _listener_at(path: str) -> int | None:
    """Return the pid of the process that listens on a Unix socket.

    None where no process does, and 0 where that cannot be known. Never waits.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.setblocking(False)
        try:
            sock.connect(path)
            pid, _ = peer_of(sock)
        except (PermissionError, BlockingIOError):
            return 0  # another user's, or its backlog is full
        except OSError:
            return None  # no such file, or its process has ended
    return pid


def masters() -> list[Master]:
    """Return the clusters that run on this machine, whichever user they are of."""
    return [master for pid in _processes() if (master := master_of(pid))]


def master_of(pid: int) -> Master | None:
    """Return the cluster whose master has this pid."""
    match = _TITLE.fullmatch(title_of(pid))
    if match is None:
        return None
    try:
        uid = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return None  # it has just ended
    return Master(pid, uid, match["name"] or NAMELESS, match["what"])


def control_of(master: Master) -> str:
    """Return the path of a cluster's control socket, or '' where that cannot be known.

    That of another user's cluster is known to root only.
    """
    try:
        inodes = {os.readlink(fd) for fd in Path(f"/proc/{master.pid}/fd").iterdir()}
        lines = Path(f"/proc/{master.pid}/net/unix").read_text().splitlines()[1:]
    except OSError:
        return ""
    for line in lines:
        words = line.split(maxsplit=7)  # proc(5): the inode, and the path if it has one
        if len(words) < 8 or f"socket:[{words[6]}]" not in inodes:
            continue
        if has_control_at(master, words[7]):
            return words[7] if os.path.exists(words[7]) else ""
    return ""


def described(pid: int) -> str:
    """Return `command line (pid N)`."""
    title = title_of(pid)
    if not title:
        with contextlib.suppress(OSError):
            # This is without arguments. Zombies have nothing else.
            title = Path(f"/proc/{pid}/comm").read_text("utf-8", "replace").strip()
    shown = title if len(title) <= LONGEST else f"{title[: LONGEST - 1]}…"
    return f"{shown or 'a process'} (pid {pid})"


def user_name(uid: int) -> str:
    """Return a user's name, or the number of one that has none."""
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def title_of(pid: int) -> str:
    """Return the command line, or what the process has put in its place; '' where it has none.

    /proc/PID/comm would have only the first 15 characters.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode("utf-8", "replace")
    except OSError:
        return ""
    return clean(" ".join(filter(None, words.split("\0"))).strip())


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def _listening_inodes(port: int) -> Iterator[tuple[str, int]]:
    """Yield the listening sockets of a port, and the user that each belongs to."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, state, uid, inode = (line.split()[i] for i in (1, 3, 7, 9))
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                yield f"socket:[{inode}]", int(uid)


def _has_socket(pid: int, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(fd) in inodes for fd in Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return False  # another user's, or it has just ended
