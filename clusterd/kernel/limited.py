"""Starting an interpreter of ours that has limits and less rights from its first instruction on.

The interpreter imports `site`, and runs the lines of `.pth` files, before any code of ours. So its
process is another user before it executes it, and root's rights are not there to be misused.
"""

import os
import signal
import socket
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import PurePath

from clusterd.core.errors import ConfigError
from clusterd.core.exits import Exit
from clusterd.kernel import privileges
from clusterd.kernel.child import DEFAULTS, Ahead, argv, environment, keep_only
from clusterd.kernel.fork import fork_into
from clusterd.kernel.privileges import Limits
from clusterd.kernel.process import open_standard_streams

Report = Callable[[socket.socket, ConfigError], object]  # by the child's end of its channel


def has_rights_to_lose(user: str) -> bool:
    """Return whether a child must take its limits on before it executes the interpreter.

    Otherwise it may do so when it is told of them. Nothing is looked up: that may take long.
    """
    return bool(user) and os.geteuid() == 0


def start_limited(
    command: Sequence[str],
    keep: Iterable[int],
    limits: Limits,
    failed: Callable[[ConfigError], object],
) -> int:
    """Start a process that has limits and less rights before its program begins; its pid.

    Raises OSError where there is no process. What else goes wrong is for `failed`, which is called
    in the child: to look a user up may take long, and the master must not wait for that.
    """

    def body() -> int:
        # Those of the master may be more than limit_nofile allows, and to look a user up takes one.
        keep_only(*kept)
        try:
            user = privileges.becomes(limits.user)
            privileges.apply(limits)
            refuse_closed(command[0], limits.user)
            for number in DEFAULTS:  # exec leaves ignored signals ignored
                if signal.getsignal(number) is signal.SIG_IGN:
                    signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, ())
            for fd in kept:
                os.set_inheritable(fd, True)
            os.execve(command[0], list(command), environment(user))
        except ConfigError as error:
            failed(error)
        except OSError as error:
            failed(ConfigError(f"{command[0]} cannot be executed: {error.strerror}"))
        return Exit.CONFIG

    kept = list(keep)
    return fork_into(body)


def take_on(limits: Limits, holds_key: bool = False) -> None:
    """Take limits on as a child does that is started with them, in a process that runs already.
    Raises ConfigError."""
    user, was_root = privileges.becomes(limits.user), os.geteuid() == 0
    privileges.apply(limits)
    refuse_closed(sys.executable, limits.user)
    if user is not None:
        theirs = environment(user)
        os.environ.clear()
        os.environ.update(theirs)
    privileges.hide_memory(limits, was_root and os.geteuid() != 0, holds_key)


def refuse_closed(interpreter: str, user: str) -> None:
    """Raise ConfigError where this process may not read the interpreter, or clusterd itself."""
    for what, path in (
        ("the interpreter", interpreter),
        ("the standard library", os.path.dirname(os.__file__)),
        ("clusterd itself", os.path.dirname(os.path.dirname(__file__))),
        ("clusterd itself", __file__),
    ):
        if not os.access(path, os.R_OK | os.X_OK if os.path.isdir(path) else os.R_OK):
            there = closed_part(os.path.realpath(path))
            raise ConfigError(
                f"user: {user} may not enter or read {there}, where {what} lies ({path})",
                f"Let {user} read it, or install clusterd and its Python elsewhere, e.g. in /opt.",
            )


def closed_part(path: str) -> str:
    """Return the first directory on the way to a path that we may not enter, else the path."""
    ways = [*reversed(PurePath(path).parents)]
    return next((str(way) for way in ways if not os.access(way, os.X_OK)), path)


def start_ahead(limits: Limits, report: Report) -> Ahead | None:
    """Start the first zygote, as `kernel.child` does, where it is known which user it becomes."""
    open_standard_streams()
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    command = argv("zygote", theirs, limits)
    with theirs:
        try:
            pid = start_limited(command, [theirs.fileno()], limits, partial(report, theirs))
        except OSError:
            ours.close()
            return None
        return Ahead(pid, ours, limits=limits)
