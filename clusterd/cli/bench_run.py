"""Carries out what `bench_plan` made of the command line, and reports what came of it."""

import contextlib
import datetime
import functools
import io
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

from clusterd.bench import crew, ladders, rounds, spin
from clusterd.bench.chaos import Chaos, occasions
from clusterd.bench.insight import Insight, TreeInsight
from clusterd.bench.load import Load, Target
from clusterd.bench.places import cores, places
from clusterd.bench.progress import Progress
from clusterd.bench.results import Report, Side, Spin, Turn
from clusterd.bench.server import Server
from clusterd.bench.turn import take
from clusterd.cli import bench_cluster, bench_report
from clusterd.cli.bench_plan import Asked
from clusterd.core.exits import Exit
from clusterd.core.units import show_seconds

DIED = "died"  # the event of a server that ended by itself


class Interrupts:
    """SIGINT and SIGTERM as KeyboardInterrupt, remembered: what is under way ends in order."""

    def __init__(self) -> None:
        self.signal = 0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupts":
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._came)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _came(self, number: int, _frame: FrameType | None) -> None:
        self.signal = number
        raise KeyboardInterrupt

    @property
    def came(self) -> bool:
        """Whether one came."""
        return bool(self.signal)


def run(asked: Asked) -> int:
    """All of a run, up to its exit status."""
    bench_report.must_be_writable(asked)
    with Interrupts() as interrupts:
        measuring = Measuring(asked)
        played = measuring.play(interrupts)
        report = measuring.report(played)
    if not report.turns:
        if played.failures:
            raise played.failures[0][1]
        bench_report.say("nothing was measured")
        return 128 + (interrupts.signal or signal.SIGINT)
    code = bench_report.finish(asked, report)
    for side, error in played.failures:
        bench_report.say(_of(side, str(error)))
    return 128 + interrupts.signal if interrupts.came else max(code, trouble(asked, report, played))


def _of(side: str, text: str) -> str:
    """What happened to a side, which is named once."""
    return text if text.startswith(side) else f"{side}: {text}"


def trouble(asked: Asked, report: Report, played: rounds.Played) -> int:
    """1 where something could not be measured as it was asked; each such turn is told of."""
    found = [
        _of(turn.side, event.text.strip() or DIED)
        for turn in report.turns
        for event in turn.events
        if event.kind == DIED
    ]
    # Searches and ladders go on until nothing is answered; that is no trouble.
    if isinstance(asked.plan, ladders.Fixed) and not report.interrupted:
        found += [
            _of(turn.side, _silent(turn))
            for turn in report.turns
            if not turn.requests and not any(event.kind == DIED for event in turn.events)
        ]
    for line in dict.fromkeys(found):
        bench_report.say(line)
    cut_short = any(turn.partial for turn in report.turns)
    return Exit.FAILED if found or cut_short or played.failures else Exit.OK


def _silent(turn: Turn) -> str:
    """What a turn without any answer met instead."""
    if not turn.errors:
        return "nothing was answered"
    kind = max(turn.errors, key=lambda one: turn.errors[one])
    text = turn.texts.get(kind, "")
    return f"nothing was answered, and what failed most was: {kind}" + (
        f" ({text})" if text else ""
    )


class Measuring:
    """What the turns of a run have in common."""

    def __init__(self, asked: Asked) -> None:
        self._asked = asked
        self._most = max(side.workers for side in asked.sides)
        ours = self._most or (1 if asked.cluster else 0)
        self._places = places(cores(), ours, asked.generators or 1)
        self._cpus = len(self._places.generators or os.sched_getaffinity(0))
        self._progress = Progress(sys.stderr or io.StringIO(), asked.turns)
        self._generators = asked.generators
        self._spins: list[Spin] = []
        for side in asked.sides:
            if side.command:
                side.cpus = self._places.server

    def play(self, interrupts: Interrupts) -> rounds.Played:
        """All turns."""
        contestants = [
            rounds.Contestant(side, functools.partial(self._serving, side), self._asked.plan)
            for side in self._asked.sides
        ]
        self._progress.say(self._outlook())
        try:
            return rounds.play(
                contestants,
                self._asked.rounds,
                stopped=lambda: interrupts.came,
                between=self._between,
                done=self._progress.end,
            )
        finally:
            self._progress.close()

    def _outlook(self) -> str:
        """What is about to happen, and for how long."""
        asked = self._asked
        names = ", ".join(side.name for side in asked.sides)
        if not asked.turns:
            return f"{names}: turns of {show_seconds(asked.load.duration)}; Ctrl-C ends it early"
        lasts = asked.turns * asked.load.duration
        return f"{names}: at least {show_seconds(lasts)}; Ctrl-C ends it early"

    def _between(self, number: int) -> None:
        if self._most > 1:
            self._spins.append(spin.measure(self._most, self._places.server))

    @contextlib.contextmanager
    def _serving(self, side: Side) -> Iterator[rounds.Take]:
        """A side that serves, as what takes its turns."""
        asked = self._asked
        if not side.command:
            assert asked.url is not None
            url = asked.url
            yield lambda number, load: self._turn(side, number, load, url)
            return
        ours = asked.cluster if asked.cluster and side.command == asked.cluster.command else None
        server = Server(
            side,
            side.command,
            words={"app": asked.target},
            env=ours.env if ours else {},
            scheme=ours.scheme if ours else "http",
            path=asked.load.requests[0].path,
            cpus=self._places.server,
        )
        with server:
            insight: Insight = (
                bench_cluster.Insight(server.folder)
                if ours
                else TreeInsight(server.pid, server.tree())
            )
            yield lambda number, load: self._turn(
                side, number, load, server.target(), server, insight
            )

    def _turn(
        self,
        side: Side,
        number: int,
        load: Load,
        target: Target,
        server: Server | None = None,
        insight: Insight | None = None,
    ) -> Turn:
        """One turn; again with more generators where they, and not the server, were the limit."""
        processes = self._generators or crew.processes(load, self._cpus)
        while True:
            self._progress.begin(side.name, number, load)
            chaos = self._chaos(load, insight) if server else None
            turn = take(
                side,
                number,
                load,
                target,
                server=server,
                processes=processes,
                places=self._places,
                insight=insight,
                chaos=chaos,
                watch=self._progress.seen,
            )
            if isinstance(insight, bench_cluster.Insight):
                insight.mend()
            if chaos is not None and not turn.partial:
                turn.doubts += chaos.unfinished()
            wanted = crew.more(turn, self._cpus)
            if self._asked.generators or turn.partial or wanted <= processes:
                return turn
            self._progress.say(f"{processes} generators were too few: once more with {wanted}")
            processes = self._generators = wanted

    def _chaos(self, load: Load, insight: Insight | None) -> Chaos | None:
        if not self._asked.havoc or insight is None:
            return None
        deploy = insight if isinstance(insight, bench_cluster.Insight) else None
        return Chaos(occasions(self._asked.havoc, load.duration), insight, deploy)

    def report(self, played: rounds.Played) -> Report:
        """What there is to tell of it."""
        asked = self._asked
        report = Report(
            asked.target,
            datetime.datetime.now().astimezone().isoformat(timespec="seconds"),
            bench_report.versions(asked),
            bench_report.machine(),
            asked.settings,
            asked.sides,
            asked.load.requests,
            played.turns,
            spin.merged(self._spins),
            notes=[*asked.notes],
            interrupted=played.interrupted,
        )
        report.notes += [_of(side, error.message) for side, error in played.failures]
        if isinstance(asked.plan, ladders.Highest):
            text = ", ".join(condition.text for condition in asked.slo)
            searches = [
                ladders.searched(text, side.name, asked.plan, played.of(side.name, asked.rounds))
                for side in asked.sides
            ]
            report.searches = [search for search in searches if search is not None]
        return report
