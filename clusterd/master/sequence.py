"""The order in which groups start and stop: each after those that it names, and before them."""

from clusterd.fleet.goal import Mode
from clusterd.master.cluster import Cluster
from clusterd.master.ending import remove_group, stop_group
from clusterd.master.group import Group


def waits(group: Group) -> bool:
    """Is it to start, and not yet? (A pause does not start it either.)

    The newest settings say after whom: a reload may take back what it waits for in vain.
    """
    if group.announced or group.roster.zygotes or group.goal.mode is Mode.STOPPING:
        return False
    groups, newest = group.cluster.groups, group.goal.candidate or group.goal.stable
    after = group.configs[newest].fleet.after
    return any(not groups[name].announced for name in after if name in groups)


def must_outlive(group: Group) -> bool:
    """Is somebody there that it must not leave before?

    Whoever named it in `after`; and what is our own (the endpoint that says we drain) goes last.
    """
    others = (one for one in group.cluster.groups.values() if one is not group and not one.over)
    return any(
        group.name in one.config.fleet.after or (group.is_internal and not one.is_internal)
        for one in others
    )


def leavers(cluster: Cluster) -> list[Group]:
    """Those whose turn it is to stop.

    Groups may have come to wait for each other, where one has newer settings than another whose
    rollout failed: then there is no order among those that are left.
    """
    groups = cluster.groups.values()
    left = [group for group in groups if group.goal.mode is not Mode.STOPPING]
    free = [group for group in left if not must_outlive(group)]
    underway = any(group.goal.mode is Mode.STOPPING and not group.over for group in groups)
    return free if free or underway else left


def settle(cluster: Cluster) -> None:
    """Stop those whose turn it is; forget those that the settings no longer name."""
    if cluster.stopping:
        for group in leavers(cluster):
            stop_group(group)
        return
    for group in list(cluster.groups.values()):
        if group.over:
            remove_group(group)
