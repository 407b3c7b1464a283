"""Who else may look at the cluster: the admin endpoint, where it has given up our rights.

It may ask what changes nothing, and so may others who are that user: the other workers, mostly.
"""

import os
import stat

from clusterd.core.events import Kind
from clusterd.kernel.privileges import Identity, identity
from clusterd.master.cluster import Cluster
from clusterd.master.socket_file import pinned

ADMIN = "admin"


def reader(cluster: Cluster) -> Identity | None:
    """Who the admin endpoint is; None where there is none, or it is who we are."""
    group = cluster.groups.get(ADMIN)
    if group is None or not group.config.limits.user:
        return None
    found = identity(group.config.limits.user)
    return None if found.uid in (0, os.geteuid()) else found


def let_in(cluster: Cluster, path: str, who: Identity | None, is_new: bool) -> None:
    """Open the control socket to the reader's group, or to nobody but who we are. `is_new`: its
    directory is of our making. Raises OSError.

    SO_PEERCRED still tells who of that group is let in, and what he may ask.
    """
    _open(path, who, 0o600, 0o660)
    directory = os.path.dirname(path)
    if is_new:
        _open(directory, who, 0o700, 0o710)
    if who is None:
        return
    while directory != "/" and may_enter(directory, who):
        directory = os.path.dirname(directory)
    if directory != "/":
        cluster.note(
            Kind.TROUBLE,
            reason=f"the admin endpoint, as {who.name}, cannot enter {directory}, "
            "where the control socket lies",
            next="it answers 503; let others enter that directory, or set runtime_dir",
        )


def _open(path: str, who: Identity | None, closed: int, opened: int) -> None:
    """Give a path the group and the mode that the reader needs, or those it has without one."""
    with pinned(path) as name:
        os.chown(name, -1, os.getegid() if who is None else who.gid)
        os.chmod(name, closed if who is None else opened)


def may_enter(directory: str, who: Identity) -> bool:
    """Whether a user may look for a name in it, path_resolution(7)."""
    found = os.stat(directory)
    if found.st_uid == who.uid:
        return bool(found.st_mode & stat.S_IXUSR)
    if found.st_gid == who.gid:
        return bool(found.st_mode & stat.S_IXGRP)
    return bool(found.st_mode & stat.S_IXOTH)
