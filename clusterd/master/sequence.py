"""The order in which groups start and stop: each after those that it names, and before them."""

from clusterd.fleet.goal import Mode
from clusterd.master.cluster import Cluster
from clusterd.master.ending import remove_group, stop_group
from clusterd.master.group import Group


def waits(group: Group) -> bool:
    """Is it to start, and not yet?"""
    if group.announced or group.roster.zygotes or group.goal.mode is not Mode.SERVING:
        return False
    groups = group.cluster.groups
    return any(not groups[name].announced for name in group.config.fleet.after if name in groups)


def must_outlive(group: Group) -> bool:
    """Is somebody there that it must not leave before?

    Whoever named it in `after`; and what is our own (the endpoint that says we drain) goes last.
    """
    others = (one for one in group.cluster.groups.values() if one is not group and not one.over)
    return any(
        group.name in one.config.fleet.after or (group.is_internal and not one.is_internal)
        for one in others
    )


def settle(cluster: Cluster) -> None:
    """Stop those whose turn it is; forget those that the settings no longer name."""
    for group in list(cluster.groups.values()):
        if cluster.stopping:
            if group.goal.mode is not Mode.STOPPING and not must_outlive(group):
                stop_group(group)
        elif group.over:
            remove_group(group)
