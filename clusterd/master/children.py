"""Starting processes of ours with the limits of their group: at once, or when they are told."""

import socket

from clusterd.config.running import LimitSettings
from clusterd.core.errors import ConfigError
from clusterd.ipc.channel import Channel
from clusterd.ipc.messages import Failed
from clusterd.kernel.child import Ahead, argv
from clusterd.kernel.limited import has_rights_to_lose
from clusterd.master.cluster import Cluster


def start(cluster: Cluster, role: str, end: socket.socket, limits: LimitSettings) -> int:
    """Start a child that speaks through `end`; its pid. Raises OSError.

    What the settings ask of it and it cannot have comes through the channel, as from a zygote.
    """
    at_once = wanted_at_once(limits)
    words, keep = argv(role, end, at_once), [end.fileno()]
    if at_once is None:
        return cluster.kernel.spawn(words, keep, cluster.directory)
    return cluster.kernel.spawn_limited(
        words, keep, cluster.directory, at_once, lambda error: report(end, error)
    )


def wanted_at_once(limits: LimitSettings) -> LimitSettings | None:
    """Return the limits that a child must have from the beginning, or None."""
    return limits if has_rights_to_lose(limits.user) else None


def fits(ahead: Ahead, limits: LimitSettings) -> bool:
    """Return whether a zygote that was started ahead has what a group's zygote must have."""
    return ahead.limits == wanted_at_once(limits)


def report(end: socket.socket, error: ConfigError) -> None:
    """Say in a child, through its end of the channel, what it cannot have."""
    Channel(end).send(Failed("limits", error.message, remedy=error.remedy))
