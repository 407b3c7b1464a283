"""Who holds a port: asked of /proc once, when binding has failed and we are about to say so."""

import os
from pathlib import Path

_LISTEN = "0A"  # the state of a listening socket in /proc/net/tcp, proc(5)


def holder_of(port: int) -> str:
    """`name (pid N)` of a process that listens on a TCP port, or '' where it cannot be known."""
    inodes = _listening_inodes(port)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and _has_socket(entry, inodes):
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue  # it has just ended
            return f"{name} (pid {entry.name})"
    return ""


def _listening_inodes(port: int) -> set[str]:
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            local, state, inode = (line.split()[i] for i in (1, 3, 9))
            if state == _LISTEN and int(local.rpartition(":")[2], 16) == port:
                inodes.add(f"socket:[{inode}]")
    return inodes


def _has_socket(process: Path, inodes: set[str]) -> bool:
    try:
        return any(os.readlink(fd) in inodes for fd in (process / "fd").iterdir())
    except OSError:
        return False  # another user's, or it has just ended
