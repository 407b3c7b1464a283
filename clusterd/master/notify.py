"""What the service manager is told, and when: systemd's notify protocol, sd_notify(3).

Words follow from what the cluster looks like and from what happened since they were last said, so
nothing here has to be called at the right moment. Nobody is waited for, and nothing raises.
"""

import contextlib
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import inf

from clusterd.core.events import Event, Kind
from clusterd.fleet.goal import Mode
from clusterd.fleet.lifecycle import Phase
from clusterd.master.cluster import Cluster
from clusterd.master.ending import tell_sockets
from clusterd.master.group import Group
from clusterd.master.store import Store

SECOND = 1_000_000  # in the protocol's microseconds
AGAIN = 0.1  # seconds until what the manager's queue had no room for is sent again
HEALTHY = 30.0  # seconds of serving after which earlier restarts no longer delay the next one
SPARE = 10.0  # seconds on top of the longest that the next step may take
MOST_STATUS = 300  # characters of STATUS=


class Line:
    """$NOTIFY_SOCKET. What does not get through is kept until it does."""

    def __init__(self, place: str) -> None:
        self._place = "\0" + place[1:] if place.startswith("@") else place
        self._sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._sock.setblocking(False)
        self._unsent: list[str] = []

    @property
    def is_behind(self) -> bool:
        """Is something left to send?"""
        return bool(self._unsent)

    def say(self, *texts: str) -> None:
        """Send texts, each a datagram of its own, after those that are still to be sent."""
        self._unsent += texts
        while self._unsent and self.send(self._unsent[0]):
            del self._unsent[0]

    def send(self, text: str, fd: int | None = None) -> bool:
        """Send now or not at all: False where there was no room."""
        extra = [] if fd is None else [(socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack("i", fd))]
        try:
            self._sock.sendmsg([text.encode("utf-8", "replace")], extra, 0, self._place)
        except BlockingIOError:
            return False
        except OSError:
            pass  # the manager is gone, or never was: nobody is interested
        return True

    def close(self) -> None:
        self._sock.close()


@dataclass(frozen=True, slots=True)
class View:
    """The cluster, as far as it concerns a service manager."""

    ready: bool  # it has been, once
    rolling: bool
    stopping: bool
    counts: str  # how many workers there are, in words
    patience: float  # seconds that the next step may take
    healthy: bool = True  # every group has a worker that is ready


class Teller:
    """Decides what is to be said. Pure: no socket, and the clock is an argument."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ready = self._reloading = self._stopping = False
        self._asked = False  # a reload began, or was refused, and nobody was told yet
        self._remark = ""  # what became of the last reload
        self._status = ""
        self._until = -inf  # until when the manager was told to have patience
        self.reset_at = inf  # when to say that earlier restarts no longer count

    def hear(self, event: Event) -> None:
        """Something happened."""
        hear = HEARD.get(event.kind)
        if hear is not None:
            hear(self, event)

    def hung_up(self, event: Event) -> None:
        self._asked |= event.fields.get("signal") == "SIGHUP"

    def refused(self, event: Event) -> None:
        self._asked = True
        self._remark = f"reload refused: {event.fields['reason']}"

    def began(self, event: Event) -> None:
        self._asked = True

    def failed(self, event: Event) -> None:
        number, reason = event.fields["generation"], event.fields["reason"]
        self._remark = f"generation {number} did not come up: {reason}"

    def finished(self, _event: Event) -> None:
        self._remark = ""

    def say(self, view: View, now: float) -> list[str]:
        """The datagrams that are due now, in order."""
        said: list[str] = []
        if view.stopping and not self._stopping:
            self._stopping, self._until = True, -inf
            said.append("STOPPING=1")
        if view.ready and not self._ready and not view.stopping:
            self._ready, self._asked = True, False
            self.reset_at = now + HEALTHY
            said.append(f"READY=1\nMAINPID={self._pid}")
        if self._ready and not self._stopping:
            said += self._reload(view, now)
        said += self._more_time(view, now)
        said += self._reset(view, now)
        status = self._words(view)
        if status != self._status:
            self._status = status
            said.append(f"STATUS={status}")
        return said

    def _reload(self, view: View, now: float) -> list[str]:
        """RELOADING=1 for every request, however it came, and READY=1 when the last is over."""
        said = []
        if self._asked:
            self._asked, self._reloading, self._until = False, True, -inf
            # systemd takes it for the answer to its signal if the time is later than that.
            said.append(f"RELOADING=1\nMONOTONIC_USEC={round(now * SECOND)}")
        if self._reloading and not view.rolling:
            self._reloading = False
            said.append("READY=1")
        return said

    def _more_time(self, view: View, now: float) -> list[str]:
        """EXTEND_TIMEOUT_USEC, said whenever something happens: the next step may take so long."""
        if self._ready and not self._reloading and not self._stopping:
            self._until = -inf
            return []
        until = now + view.patience
        if until < self._until + 1:
            return []
        self._until = until
        return [f"EXTEND_TIMEOUT_USEC={round(view.patience * SECOND)}"]

    def _reset(self, view: View, now: float) -> list[str]:
        """Say RESTART_RESET=1 (systemd 258; ignored before), once, after a while of serving.

        Otherwise systemd counts restarts for ever (RestartSteps=), and the one after some weeks
        would wait as long as in a crash loop.
        """
        if view.stopping:
            self.reset_at = inf
        if now < self.reset_at:
            return []
        self.reset_at = inf if view.healthy else now + HEALTHY
        return ["RESTART_RESET=1"] if view.healthy else []

    def _words(self, view: View) -> str:
        if view.stopping:
            text = f"stopping; {view.counts}"
        elif not self._ready:
            text = f"starting; {view.counts}"
        elif self._reloading:
            text = f"reloading; {view.counts}"
        else:
            text = f"{view.counts}; {self._remark}" if self._remark else view.counts
        return " ".join(text.split())[:MOST_STATUS]


HEARD: dict[Kind, Callable[[Teller, Event], None]] = {
    Kind.SIGNALLED: Teller.hung_up,
    Kind.RELOAD_REFUSED: Teller.refused,
    Kind.ROLLOUT_STARTED: Teller.began,
    Kind.ROLLOUT_FAILED: Teller.failed,
    Kind.ROLLOUT_FINISHED: Teller.finished,
}


class Manager:
    """The service manager that started us, as the loop sees it: it is told at the end of a turn."""

    def __init__(self, cluster: Cluster, line: Line, watchdog: float, store: Store | None) -> None:
        self._cluster = cluster
        self._line = line
        self._teller = Teller(cluster.pid)
        self._watchdog = watchdog / 2  # seconds; inf: nobody watches
        self._barks = 0.0 if watchdog < inf else inf  # when the next sign of life is due
        self._store = store
        self._seen = -1  # the last event of the journal that was looked at
        cluster.journal.listen(self._teller.hear)

    @property
    def watches(self) -> bool:
        """Does it want signs of life?"""
        return self._watchdog < inf

    @property
    def due(self) -> float:
        """When it wants another turn, in the loop's time; inf: only when something happens."""
        soon = self._cluster.kernel.now() + AGAIN if self._line.is_behind else inf
        return min(soon, self._barks, self._teller.reset_at)

    def turn(self) -> None:
        """Say what is to be said."""
        now, last = self._cluster.kernel.now(), self._cluster.journal.last
        if now >= self._barks:
            self._line.send("WATCHDOG=1")
            self._barks = now + self._watchdog
        if last != self._seen or now >= self._teller.reset_at:
            self._seen = last
            self._line.say(*self._teller.say(look(self._cluster), now))
            if self._store is not None and self._store.settle(self._cluster):
                tell_sockets(self._cluster)
        elif self._line.is_behind:
            self._line.say()

    def stopped(self) -> None:
        """The loop is over; what must not be found by the next start is taken back."""
        if self._store is not None:
            self._store.leave()
        self._line.close()


def connect(
    cluster: Cluster, environ: Mapping[str, str], useless: Iterable[str] = ()
) -> Manager | None:
    """Who waits to hear of us, by what the environment says; None: nobody.

    `useless` is what it keeps for us in vain. Sockets are given to it before any zygote is told
    which files to remove.
    """
    place = environ.get("NOTIFY_SOCKET", "")
    if place[:1] not in ("/", "@") or len(place) < 2:
        return None
    line = Line(place)
    room = environ.get("FDSTORE", "")  # descriptors that systemd keeps for us, systemd.exec(5)
    store = Store(line.send, int(room)) if room.isdecimal() and int(room) else None
    if store is not None:
        store.forget(useless)
        store.settle(cluster)
    return Manager(cluster, line, watchdog(environ, cluster.pid), store)


def watchdog(environ: Mapping[str, str], pid: int) -> float:
    """Seconds between signs of life at most, if they are wanted of this process; else inf."""
    told, whose = environ.get("WATCHDOG_USEC", ""), environ.get("WATCHDOG_PID", str(pid))
    with contextlib.suppress(ValueError):
        if whose == str(pid) and int(told) > 0:
            return int(told) / SECOND
    return inf


def look(cluster: Cluster) -> View:
    """What concerns a service manager."""
    groups = list(cluster.groups.values())
    shown = [count(group) for group in cluster.wanted]
    if len(shown) > 1:
        shown = [
            f"{group.name} {words}" for group, words in zip(cluster.wanted, shown, strict=True)
        ]
    return View(
        ready=all(map(came_up, groups)),
        rolling=any(group.goal.candidate is not None or group.again for group in groups),
        stopping=cluster.stopping,
        counts=", ".join(shown),
        patience=max((step(group) for group in groups if not group.over), default=0.0) + SPARE,
        healthy=all(group.roster.count(Phase.READY) for group in cluster.wanted),
    )


def came_up(group: Group) -> bool:
    """Did a group come up once? A program that keeps failing must not keep others from serving:

    systemd would end them all when the time for a start is over.
    """
    return group.announced or (group.is_command and bool(group.restarts))


def count(group: Group) -> str:
    """How many of a group are ready."""
    goal, ready = group.goal, group.roster.count(Phase.READY)
    if goal.mode is Mode.STOPPING:
        return f"{len(group.roster.workers)} workers left"
    words = f"{min(ready, goal.size)} of {goal.size} workers ready, generation {goal.stable}"
    return f"paused, {words}" if goal.mode is Mode.PAUSED else words


def step(group: Group) -> float:
    """The longest that one step of a start, a roll or a drain may take."""
    patience = group.patience
    if group.goal.mode is Mode.STOPPING:
        return patience.graceful + patience.overtime + patience.dismissal
    return max(patience.startup, patience.graceful) + patience.overtime + patience.min_ready
