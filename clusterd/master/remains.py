"""What is left of this cluster's last life: workers that drain since their master was killed.

They hold the listening sockets until they are through. A start that meets them waits, since they
leave by themselves; to end with "in use" would be a crash loop for whoever restarts us.
"""

import os
import re
import select
import time
from collections.abc import Iterable

from clusterd.config.address import Tcp, parse_bind
from clusterd.config.settings import Config
from clusterd.core.errors import BindError
from clusterd.core.events import Kind
from clusterd.kernel.process import open_pidfd, parent_of, start_ticks
from clusterd.master.cluster import Cluster
from clusterd.master.group import Group
from clusterd.master.holder import described, holders_of, master_of, title_of

# Seconds beyond the graceful timeout: a worker's exit handlers may take two, its undertaker kills
# it, and then what it has started.
OVERTIME = 8.0


def bind(cluster: Cluster, group: Group) -> None:
    """Bind what a group listens on, and wait for remains that have it. Raises BindError."""
    deadline = None
    while True:
        try:
            group.sockets.add(group.config.listen, group.config.fleet.workers)
            return
        except BindError:
            now = time.monotonic()
            left = remains(group.config)
            if not left or (deadline is not None and deadline <= now):
                raise
            if deadline is None:
                seconds = group.config.fleet.graceful_timeout + OVERTIME
                deadline = now + seconds
                named = ", ".join(described(pid) for pid in left)
                reason = f"workers of this cluster whose master has ended hold its port: {named}"
                following = f"waiting until they have left, for {seconds:g} s at most"
                group.note(Kind.TROUBLE, reason=reason, next=following)
            _wait(left, deadline - now)


def remains(config: Config) -> list[int]:
    """Return the workers without a master that hold a port of ours."""
    addresses = [parse_bind(text) for text in config.listen.bind]
    ports = {one.port for one in addresses if isinstance(one, Tcp) and one.port}
    title = re.compile(rf"{re.escape(config.place.name)}: (?:[^:]+: )?worker \d+ g\d+ ")
    found = {pid for port in ports for pid in holders_of(port)}
    return [
        pid
        for pid in sorted(found)
        if title.match(title_of(pid)) and master_of(parent_of(pid)) is None
    ]


def _wait(pids: Iterable[int], seconds: float) -> None:
    """Return when one of them has ended, or time is over."""
    poll = select.poll()
    pidfds = [fd for pid in pids if (fd := open_pidfd(pid, start_ticks(pid))) is not None]
    for fd in pidfds:
        poll.register(fd, select.POLLIN)  # readable once its process has ended: pidfd_open(2)
    if pidfds:
        poll.poll(seconds * 1000)
    for fd in pidfds:
        os.close(fd)
