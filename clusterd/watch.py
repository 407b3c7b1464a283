"""The program of the group `watch`: sees files change and has the master reload.

`python -P -m clusterd.watch MASTER DELAY DIR…`, the master's pid and milliseconds of silence. It is
run like any program (a keeper ends it, and it dies with the master); the master hears of a change
as of any wish to reload, by SIGHUP, which needs no runtime directory and coalesces.
"""

import os
import sys
from collections.abc import Sequence

import watchfiles

from clusterd.kernel.process import hang_up

# What an application is made of. Not what it writes: a database or a log that lies beside the
# code must not reload it for ever.
MADE_OF = (".py", ".pyx", ".html", ".htm", ".jinja", ".jinja2", ".j2", ".mako", ".toml", ".env")
NOT_OURS = frozenset({"__pycache__", "node_modules", "site-packages", "venv", "env"})
READY = "watching"  # what its first line begins with


def counts(path: str, roots: Sequence[str]) -> bool:
    """Whether a change of this file is one of the application.

    What is hidden or installed is not, as seen from the directory that is watched: the way to
    that may have any names.
    """
    for root in roots:
        if path.startswith(root.rstrip("/") + "/"):
            *directories, name = path[len(root.rstrip("/")) + 1 :].split("/")
            passable = not any(part in NOT_OURS or part.startswith(".") for part in directories)
            hidden = name.startswith(".") and name != ".env"
            return passable and not hidden and name.endswith(MADE_OF)
    return False


class Begun:
    """Asked by the watcher once it watches, and between its looks: never stops it."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._line: str | None = f"{READY} {', '.join(roots)}"

    def is_set(self) -> bool:
        if self._line is not None:
            print(self._line, flush=True)
            self._line = None
        return False


def main(args: Sequence[str]) -> int:
    """Watch until we are ended."""
    master, delay, roots = int(args[0]), int(args[1]), [os.path.realpath(one) for one in args[2:]]
    # A change is told one to two steps after the last: half of the delay each.
    step = max(1, delay // 2)
    changes = watchfiles.watch(
        *roots,
        watch_filter=lambda _, path: counts(path, roots),
        step=step,
        debounce=max(delay * 20, 1000),  # files that keep changing are not waited for any longer
        stop_event=Begun(roots),
        ignore_permission_denied=True,
    )
    try:
        for _changed in changes:  # the master says what comes of it
            hang_up(master)
    except (OSError, RuntimeError) as error:  # the system lets us watch no more, for one
        print(f"cannot watch {', '.join(roots)}: {error}", flush=True)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
