"""What is done to a server on purpose while it is driven: kills, reloads, a deploy that is broken.

The schedule is known before the start, and pure. `Chaos` goes through it as time passes, by what
`insight` can do; it never waits, so whoever drives the load calls it between two looks at that.
"""

import math
import os
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from clusterd.bench.results import Event
from clusterd.core.errors import ClusterdError

KILL, RELOAD, BROKEN, RECOVERED = "kill", "reload", "broken deploy", "recovered"


@dataclass(frozen=True, slots=True)
class Havoc:
    """What to do, and how often, in seconds; 0 is never."""

    kill_every: float = 0.0
    reload_every: float = 0.0
    broken_deploy: bool = False

    def __bool__(self) -> bool:
        return bool(self.kill_every or self.reload_every or self.broken_deploy)


class Occasion(NamedTuple):
    """One thing to do, `at` seconds after the start."""

    at: float
    kind: str


def occasions(havoc: Havoc, duration: float) -> list[Occasion]:
    """All of a turn, in their order. Each kind begins one period after the start, the broken
    deploy after a third of it, so that there is something before and behind each."""
    found = [Occasion(at, KILL) for at in _every(havoc.kill_every, duration)]
    found += [Occasion(at, RELOAD) for at in _every(havoc.reload_every, duration)]
    if havoc.broken_deploy:
        found.append(Occasion(duration / 3, BROKEN))
    return sorted(found)


def _every(period: float, duration: float) -> list[float]:
    if not period:
        return []
    return [period * number for number in range(1, math.ceil(duration / period))]


class Hands(Protocol):
    """What of `insight` is needed here."""

    def workers(self) -> list[int]:
        """Pids of those that serve."""

    def reload(self) -> None:
        """Begin to roll in new code."""


class Deploy(Protocol):
    """A way to make the server's next code a broken one, for servers that have such a way."""

    def begin(self) -> None:
        """From now on the application cannot be imported; roll it in."""

    def verdict(self) -> str | None:
        """What became of it; None while it goes on. Once it is over, the code is whole again."""


def _kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


class Chaos:
    """Goes through the occasions of one turn."""

    def __init__(
        self,
        todo: Sequence[Occasion],
        hands: Hands,
        deploy: Deploy | None = None,
        kill: Callable[[int], None] = _kill,
    ) -> None:
        self._todo = list(todo)
        self._hands = hands
        self._deploy = deploy
        self._kill = kill
        self._killed: list[tuple[float, int]] = []  # whose successors are not there yet
        self._whole = 0  # workers that there should be
        self._turns = 0  # kills so far: each hits another worker
        self._deploying = False

    def due(self) -> float:
        """When `step` has something to do, in seconds after the start; inf: nothing is left."""
        if self._killed or self._deploying:
            return 0.0
        return self._todo[0].at if self._todo else math.inf

    def step(self, at: float) -> list[Event]:
        """Do what is due `at` seconds after the start, and say what happened."""
        events: list[Event] = []
        try:
            self._look(at, events)
            while self._todo and self._todo[0].at <= at:
                kind = self._todo.pop(0).kind
                {KILL: self._do_kill, RELOAD: self._do_reload, BROKEN: self._do_break}[kind](
                    at, events
                )
        except (ClusterdError, OSError) as error:
            events.append(Event(at, "refused", str(error).splitlines()[0]))
        return events

    def unfinished(self) -> list[str]:
        """What the turn's end came before: doubts about it."""
        found = []
        if self._killed:
            found.append("a worker that was killed had no successor yet when it ended")
        if self._deploying:
            found.append(
                "the broken deploy was still under way when it ended: a longer --duration shows "
                "what becomes of it"
            )
        return found

    def _do_kill(self, at: float, events: list[Event]) -> None:
        workers = sorted(self._hands.workers())
        if not workers:
            events.append(Event(at, "refused", "there was no worker to kill"))
            return
        self._whole = max(self._whole, len(workers))
        pid = workers[self._turns % len(workers)]
        self._turns += 1
        try:
            self._kill(pid)
        except ProcessLookupError:
            events.append(Event(at, "refused", f"worker {pid} had gone before it was killed"))
            return
        self._killed.append((at, pid))
        events.append(Event(at, KILL, f"worker {pid} of {len(workers)}"))

    def _do_reload(self, at: float, events: list[Event]) -> None:
        if self._deploying:
            return  # it would be taken for the broken one's
        self._hands.reload()
        events.append(Event(at, RELOAD))

    def _do_break(self, at: float, events: list[Event]) -> None:
        if self._deploy is None:
            events.append(Event(at, "refused", "this server's code cannot be broken from outside"))
            return
        self._deploying = True
        events.append(Event(at, BROKEN, "its import raises"))
        self._deploy.begin()

    def _look(self, at: float, events: list[Event]) -> None:
        """Whether what was broken is whole again."""
        if self._killed:
            workers = self._hands.workers()
            since, pid = self._killed[0]
            if pid not in workers and len(workers) >= self._whole:
                self._killed.clear()
                events.append(Event(at, RECOVERED, f"{at - since:.2f} s after the kill"))
        if self._deploying and self._deploy is not None:
            verdict = self._deploy.verdict()
            if verdict is not None:
                self._deploying = False
                events.append(Event(at, RECOVERED, verdict))
