"""With a socket a slot, a socket whose own worker is missing is served by another.

The arrangement is computed from what is, each turn, and only differences are sent.
"""

from collections.abc import Iterable

from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.ipc.channel import MAX_FDS
from clusterd.ipc.messages import Cover, Uncover
from clusterd.master.group import Group
from clusterd.master.sockets import batched
from clusterd.master.vitals import STANDING


def share(orphans: Iterable[int], ready: list[int]) -> dict[int, int]:
    """Which slot's worker serves which orphaned slot: spread evenly, the same every time. Pure."""
    return {orphan: ready[i % len(ready)] for i, orphan in enumerate(sorted(orphans))}


def arrange(group: Group) -> None:
    """Have every per-slot socket served by somebody."""
    owned = {one.slot for one in group.sockets if one.slot is not None}
    if not owned or group.goal.mode is not Mode.SERVING:
        return
    working = (w for w in group.roster.live() if w.condition not in STANDING)
    ready = {w.slot: w for w in working if w.phase is Phase.READY}
    if not ready:
        return
    stands_in = share(owned - ready.keys(), sorted(ready))
    names: dict[int, set[str]] = {worker.row: set() for worker in ready.values()}
    for one in group.sockets:
        if one.slot in stands_in and not one.dropped:
            names[ready[stands_in[one.slot]].row].add(one.name)
    fds = {one.name: one.sock.fileno() for one in group.sockets}
    for row, wanted in names.items():
        have = group.covers.get(row, set())
        channel = group.handles[row].channel
        for new in batched(sorted(wanted - have), MAX_FDS):
            if channel.send(Cover(new), [fds[name] for name in new]):
                have.update(new)
        old = sorted(have - wanted)
        if old and channel.send(Uncover(old)):
            have.difference_update(old)
        group.covers[row] = have  # what did not get through is sent again, next turn
