"""Our listening sockets in systemd's keeping, so that one who is killed finds them again.

sd_notify(3), FDSTORE=1. Level-triggered: what systemd has is compared with what listens.
"""

from collections.abc import Callable, Iterable

from clusterd.master.activation import label
from clusterd.master.cluster import Cluster
from clusterd.master.listener import Listener

Send = Callable[[str, int | None], bool]


class Store:
    """What systemd keeps for us."""

    def __init__(self, send: Send, room: int) -> None:
        self._send = send
        self._room = room
        self._kept: dict[str, bool] = {}  # by label; is it a file's?

    def settle(self, cluster: Cluster) -> bool:
        """Have systemd keep what listens now, and nothing else. Did that change anything?"""
        before = set(self._kept)
        now = {
            name: one
            for group in cluster.groups.values()
            for one in group.sockets
            if not one.inherited and (name := label(one.name, one.inode))
        }
        for name in [name for name in self._kept if name not in now]:
            self._remove(name)
        for name, one in now.items():
            if name not in self._kept and len(self._kept) < self._room:
                self._keep(name, one)
        return before != set(self._kept)

    def _keep(self, name: str, one: Listener) -> None:
        if self._send(f"FDSTORE=1\nFDNAME={name}", one.sock.fileno()):
            self._kept[name] = bool(one.path)
            one.kept = True

    def _remove(self, name: str) -> None:
        if self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", None):
            del self._kept[name]

    def forget(self, names: Iterable[str]) -> None:
        """Have systemd drop what an earlier life of ours left and this one has no use for."""
        for name in names:
            self._send(f"FDSTOREREMOVE=1\nFDNAME={name}", None)

    def leave(self) -> None:
        """We stop. Ports stay: if this is a restart, the next one goes on with their queues, and
        if it is not, systemd closes them now. Socket files have refused everybody for good."""
        for name in [name for name, of_file in self._kept.items() if of_file]:
            self._remove(name)
