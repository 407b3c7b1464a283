"""One turn: the generators drive one side under one load, while the server is looked at."""

import contextlib
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Protocol

from clusterd.bench.crew import Crew
from clusterd.bench.doubts import doubts
from clusterd.bench.errors import ServerFailed, Unreachable
from clusterd.bench.gathering import (
    DESERTED,
    Gathering,
    deserted,
    sum_ends,
    whole_intervals,
)
from clusterd.bench.insight import Insight, TreeInsight
from clusterd.bench.interval import INTERVAL
from clusterd.bench.load import Load, Target
from clusterd.bench.places import Places
from clusterd.bench.results import Event, Moment, Side, Turn
from clusterd.bench.samples import Samples, ends
from clusterd.bench.server import Server
from clusterd.bench.warmup import cut

DIED = "died"
CONNECT_LIMIT = 30.0  # seconds
END_LIMIT = 5.0  # seconds after its end that a generator has to say so
_OFTEN = 0.05  # seconds between two steps of the chaos, at least


class Chaos(Protocol):
    """What is done to the server meanwhile; times in seconds after the start."""

    def due(self) -> float:
        """When it wants to be called next; inf: never."""

    def step(self, at: float) -> list[Event]:
        """Do what is due, without waiting for what comes of it."""


def take(
    side: Side,
    round_: int,
    load: Load,
    target: Target,
    *,
    server: Server | None = None,
    processes: int = 1,
    places: Places = Places(),  # noqa: B008 - frozen
    insight: Insight | None = None,
    chaos: Chaos | None = None,
    watch: Callable[[Moment], None] = lambda _: None,
    seed: int = 0,
) -> Turn:
    """Connect, drive, and say what was seen. `watch` is called with each moment as it ends.

    Raises Unreachable, ServerFailed or GeneratorFailed where nothing could be measured. Once it is
    driving, a server that dies and a KeyboardInterrupt end the turn, which is partial then.
    """
    with Crew(target, load, processes, places.generators, seed=seed) as crew:
        _connect(crew, side, load, server)
        samples = _samples(server, insight)
        course = _Course(crew, load, server, samples, chaos, watch)
        turn = Turn(side.name, round_, load)
        course.run(turn)
    turn.warmup = _warmup(course.gathering, course.ended)
    course.gathering.sum_up(turn, course.ended)
    sum_ends(turn, course.said)
    if samples is not None:
        # What was used for all answers that count, also those that came after the end.
        over = max((end.over for end in course.said), default=0.0)
        end = course.start + max(over, course.ended)
        turn.server = samples.between(course.start + turn.warmup * INTERVAL, end)
    shared = places.shared and (server is not None or _is_here(target))
    turn.generator = replace(turn.generator, cpus=places.generators, shared=shared)
    turn.doubts = [*turn.doubts, *doubts(turn)]
    return turn


def _connect(crew: Crew, side: Side, load: Load, server: Server | None) -> None:
    """That its server is gone says more than that it cannot be reached."""
    why: Unreachable | None = None
    try:
        crew.connect(max(CONNECT_LIMIT, load.timeout))
    except Unreachable as error:
        why = error
    if server is not None and (how := server.ended()):
        raise ServerFailed(f"{side.name} {how} before the load began", server.quoted()) from why
    if why is not None:
        raise why


def _samples(server: Server | None, insight: Insight | None) -> Samples | None:
    if server is None:
        return None
    tree = server.tree()
    samples = Samples(tree, insight or TreeInsight(server.pid, tree))
    samples.take()
    return samples


def _warmup(gathering: Gathering, ended: float) -> int:
    """Intervals to cut off. Half of them at least stay."""
    moments = whole_intervals(gathering.moments, ended)
    return min(cut(moments), len(moments) // 2)


def _is_here(target: Target) -> bool:
    """Whether it is an address of this machine: one that we could serve on ourselves."""
    if target.unix:
        return True
    with contextlib.suppress(OSError, UnicodeError):
        for family, kind, _, _, address in socket.getaddrinfo(
            target.host, None, type=socket.SOCK_STREAM
        ):
            with contextlib.suppress(OSError), socket.socket(family, kind) as sock:
                sock.bind((address[0], 0))
                return True
    return False


@dataclass(slots=True)
class _Times:
    """What is to be done when, in seconds after the start."""

    looks: list[float]
    step: float = 0.0  # no step of the chaos before


class _Course:
    """From `go` to the end."""

    def __init__(
        self,
        crew: Crew,
        load: Load,
        server: Server | None,
        samples: Samples | None,
        chaos: Chaos | None,
        watch: Callable[[Moment], None],
    ) -> None:
        self.gathering = Gathering(len(crew.pids))
        self.start = 0.0  # time.monotonic()
        self.ended = load.duration  # seconds after the start
        self.said = crew.ends
        self._crew = crew
        self._load = load
        self._server = server
        self._samples = samples
        self._chaos = chaos
        self._watch = watch
        self._times = _Times(list(ends(load.duration, INTERVAL)))

    def run(self, turn: Turn) -> None:
        """Until all generators have ended, or must."""
        self.start = self._crew.go()
        try:
            self._drive(turn)
        except KeyboardInterrupt:
            turn.partial = True
        if turn.partial:
            self._crew.finish()
            self._hear_the_end()
            self.ended = max((end.seconds for end in self._crew.ends), default=self._at())
            self.ended = max(0.0, min(self.ended, self._load.duration))
        if self._samples is not None:
            self._samples.take(last=True)
        for failure in self._crew.failures:
            turn.partial = True
            turn.doubts.append(failure)
        self.said = self._crew.ends

    def _at(self) -> float:
        return time.monotonic() - self.start

    def _drive(self, turn: Turn) -> None:
        while not self._crew.done:
            at = self._at()
            if at > self._load.duration + self._load.timeout + END_LIMIT:
                turn.partial = True
                turn.doubts.append("a generator process did not end when it should have")
                return
            self._look(at)
            self._do(at, turn)
            if self._server is not None and (how := self._server.ended()):
                said = f"the server {how}\n{self._server.quoted()}"
                turn.events.append(Event(at, DIED, said))
                turn.partial = True
                return
            self._hear(self._next() - self._at())
            if self._server is None and deserted(self.gathering.moments):
                since = max(0.0, self._at() - DESERTED)
                turn.events.append(Event(since, DIED, "nobody listened there any more"))
                turn.partial = True
                return

    def _next(self) -> float:
        """When something is to be done, at the latest an interval from now."""
        found = self._at() + INTERVAL
        if self._times.looks:
            found = min(found, self._times.looks[0])
        if self._chaos is not None and self._at() < self._load.duration:
            found = min(found, max(self._chaos.due(), self._times.step))
        return found

    def _look(self, at: float) -> None:
        """Once for all times that have passed."""
        looks = self._times.looks
        if not looks or at < looks[0]:
            return
        while looks and looks[0] <= at:
            looks.pop(0)
        if self._samples is not None:
            self._samples.take()
        if self._server is not None:
            self._server.shorten()

    def _do(self, at: float, turn: Turn) -> None:
        """What the chaos wants, while there is load."""
        if self._chaos is None or not self._times.step <= at < self._load.duration:
            return
        if self._chaos.due() <= at:
            turn.events.extend(self._chaos.step(at))
            self._times.step = at + _OFTEN

    def _hear(self, timeout: float) -> None:
        for index, interval in self._crew.intervals(max(0.0, min(timeout, INTERVAL))):
            self.gathering.add(index, interval)
        for index in self._crew.over:
            self.gathering.over(index)
        for moment in self.gathering.whole():
            self._watch(moment)

    def _hear_the_end(self) -> None:
        """What they have seen until we stopped them."""
        deadline = time.monotonic() + END_LIMIT
        while not self._crew.done and (left := deadline - time.monotonic()) > 0:
            self._hear(left)
        for index in range(self.gathering.processes):
            self.gathering.over(index)  # what the others have seen counts without it
        self.gathering.whole()
