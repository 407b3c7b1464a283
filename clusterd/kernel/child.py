"""Starting a fresh interpreter of ours, and what it inherits: one descriptor and no more.

As our user: `kernel.limited` starts one that is to have less rights.
"""

import os
import signal
import socket
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from clusterd.kernel.process import open_standard_streams

if TYPE_CHECKING:
    from clusterd.kernel.privileges import Identity, Limits

MASTERS = ("NOTIFY_SOCKET", "LISTEN_", "WATCHDOG_", "FDSTORE")
SUDO = "SUDO_"  # what sudo(8) says of the user who called it
# How that user wanted programs to be started. From root itself (a Dockerfile, a unit) they are
# passed on: who gave rights up gains nothing by them, and applications need them.
LOADERS = ("PYTHON", "LD_")
LIMITED = "limited"  # the last word of a command line: limits are taken on, rights given up
DEFAULTS = signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}
AHEAD = "ahead"  # the role of a zygote that has time before it is told what to import


@dataclass(slots=True)
class Ahead:
    """A zygote that was started before anybody knew what it is to import."""

    pid: int
    sock: socket.socket
    taken: bool = False  # by the master, which answers for it from then on
    limits: "Limits | None" = None  # that it was started with; None: it takes them on when told

    def __enter__(self) -> Self:
        return self

    def died(self) -> None:
        """It was reaped before anybody took it."""
        self.taken = True
        self.sock.close()

    def __exit__(self, *_: object) -> None:
        """End it where the command failed before it was of use."""
        self.end()

    def end(self) -> None:
        """Nobody has a use for it."""
        if not self.taken:
            self.taken = True
            self.sock.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)


def argv(role: str, end: socket.socket, limits: "Limits | None" = None) -> list[str]:
    """The command line of a child that speaks through `end`.

    `-P`: the current directory is no place to import from, unless `--app-dir` says so. `limits`:
    those that it is started with.
    """
    words = [sys.executable, "-P", "-m", "clusterd.child", role, str(end.fileno())]
    return words if limits is None else [*words, LIMITED]


def environment(user: "Identity | None" = None) -> dict[str, str]:
    """Return our environment for a child, which may be another user.

    What speaks of this very process stays here: sd_notify(3), sd_listen_fds(3). Another user gets
    its own home and shell, nothing of sudo's, and where sudo started us no loader's variables.
    """
    ours = {name: value for name, value in os.environ.items() if not name.startswith(MASTERS)}
    if user is None:
        return ours
    kept = (SUDO, *LOADERS) if f"{SUDO}UID" in ours else (SUDO,)
    theirs = {name: value for name, value in ours.items() if not name.startswith(kept)}
    theirs.pop("MAIL", None)
    return theirs | {
        "USER": user.name, "LOGNAME": user.name, "HOME": user.home, "SHELL": user.shell,
    }  # fmt: skip


def start(command: Sequence[str], keep: Iterable[int], output: int = -1) -> int:
    """Start a process that inherits `keep`; its pid. Raises OSError.

    What it writes goes where ours goes, or to `output`. A descriptor duplicated onto itself stays
    open in the child (posix_spawn, glibc 2.29).
    """
    passed = [(fd, fd) for fd in keep]
    if output >= 0:
        passed = [pair for pair in passed if pair[0] > 2] + [(output, 1), (output, 2)]
    return os.posix_spawn(
        command[0],
        list(command),
        environment(),
        file_actions=[(os.POSIX_SPAWN_DUP2, fd, to) for fd, to in passed],
        setsigmask=(),
        setsigdef=DEFAULTS,
    )


def start_ahead() -> Ahead | None:
    """Start the first zygote, to load what it needs while the master does the same.

    On two cores that takes 0.2 s off a start (measured). None where the system has no process
    to give: then the master tries again when it needs one.
    """
    open_standard_streams()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        try:
            return Ahead(start(argv("zygote", theirs), [theirs.fileno()]), ours)
        except OSError:
            ours.close()
            return None


def keep_only(*fds: int) -> None:
    """Close what we inherited beside the standard streams and these descriptors.

    A socket that the master was started with, say, would stay open here after its death.
    """
    low = 3
    for fd in sorted(fds):
        os.closerange(low, fd)
        low = max(low, fd + 1)
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
