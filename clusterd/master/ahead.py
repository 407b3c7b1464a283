"""In development, a zygote that was started before anybody saves: the next reload is sooner.

It has loaded what is ours and nothing of the application's, and waits to be told what to import.
Elsewhere it would only cost memory, and what is installed may be upgraded under it.
"""

import contextlib

from clusterd.kernel.child import AHEAD, Ahead
from clusterd.master import children
from clusterd.master.cluster import Cluster


def renew(cluster: Cluster) -> None:
    """Have one for the next reload. Called when nothing else is to be imported: after the start,
    and after each rollout. One that dies is not missed until then."""
    wanted = any(group.config.dev.reload for group in cluster.wanted)
    if not wanted or cluster.stopping or cluster.ahead is not None:
        return
    limits = cluster.main.config.limits
    with contextlib.suppress(OSError):  # then the reload starts its own, or says why not
        ours, theirs = cluster.kernel.pair()
        with theirs:
            try:
                pid = children.start(cluster, AHEAD, theirs, limits)
            except OSError:
                ours.close()
                raise
        cluster.ahead = Ahead(pid, ours, limits=children.wanted_at_once(limits))


def drop(cluster: Cluster) -> None:
    """We are through: it must not outlive us."""
    if cluster.ahead is not None:
        cluster.ahead.end()
        cluster.ahead = None
