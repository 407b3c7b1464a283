"""Is it safe to fork workers from this process?

A thread does not exist in a forked child, and whatever lock it held stays locked there for ever;
an epoll or io_uring descriptor would be shared between all children.
"""

import os
from pathlib import Path

from clusterd.kernel.fork import fork_into

_SHARED_BY_FORK = {
    "anon_inode:[eventpoll]": "an event loop",
    "anon_inode:[io_uring]": "an io_uring",
}


def unsafe_to_fork() -> str:
    """Why workers must not be forked from here, or ''. Forks once to find out.

    Libraries that know about fork (OpenBLAS, say) stop their threads before it and start them
    again when they are needed: only threads that survive one trial fork count.
    """
    if _threads():
        os.waitpid(fork_into(lambda: 0), 0)
    if threads := _threads():
        return f"the import left {_named(threads)} running"
    if found := _shared_descriptors():
        return f"the import left {found} open"
    return ""


def _threads() -> list[str]:
    """Names of all native threads but the main one."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        if int(task.name) != os.getpid():
            try:
                names.append((task / "comm").read_text().strip())
            except OSError:
                continue  # it has just ended
    return sorted(names)


def _named(threads: list[str]) -> str:
    if len(threads) == 1:
        return f"the thread {threads[0]!r}"
    shown = ", ".join(repr(name) for name in dict.fromkeys(threads[:4]))
    return f"{len(threads)} threads ({shown})"


def _shared_descriptors() -> str:
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # the descriptor of this very listing
        if target in _SHARED_BY_FORK:
            return _SHARED_BY_FORK[target]
    return ""
