"""A worker's vitals: at each beat it shows that its loop turns, and looks how it fares.

That it stands still it cannot tell: so it has the kernel do it. Each beat winds up two timers. The
first one's signal, should no other beat come in time, has a handler in Python, which tells the
master all stacks. Where Python does not run, in C or at a lock, the second goes off, whose signal
makes faulthandler write the stack of the loop's thread into the pipe that the master reads. The
master need not wake for workers that are well.
"""

import asyncio
from collections.abc import Callable
from types import FrameType

from clusterd.config.running import VitalsSettings
from clusterd.core.log import get_logger
from clusterd.core.vitals import Condition, Marks, Verdict, judge
from clusterd.ipc.messages import Dumped, Leaving, Message, Unwell
from clusterd.ipc.scoreboard import Stage
from clusterd.kernel.signals import FAULT_SIGNAL, LOOK_SIGNAL
from clusterd.kernel.timer import Timer
from clusterd.worker import dump
from clusterd.worker.birth import Birth
from clusterd.worker.neighbours import Neighbours
from clusterd.worker.pulse import Pulse
from clusterd.worker.server import Server
from clusterd.worker.symptoms import LATE, Busy, Stalled

logger = get_logger("clusterd.worker")

BEATS = 5  # in the time that is looked for, at least
SHORTEST = 0.05  # s between two beats
MEAN = 0.5  # of a period: when after a beat a block begins

SOON = 0.05  # s that Python has to answer before faulthandler does
LONGEST_NAME = 200  # characters of a thread's name: the master refuses reasons that are long
GLANCES = 3  # beats from one look at the siblings to the next
LATER = 3  # periods in which a sibling that is blocked has told of it itself

Say = Callable[[Message, bool], None]


def is_the_loop(frame: FrameType) -> bool:
    """Whether it is where the loop is run, and so nothing of Python runs in the loop."""
    is_run = frame.f_code.co_name == "run"
    return is_run and frame.f_globals.get("__name__") == "clusterd.worker.main"


def beat_for(hang_dump: float, usual: float) -> float:
    """Seconds between two beats: the usual, or less where that would not see what is looked for."""
    return min(usual, max(SHORTEST, hang_dump / BEATS)) if hang_dump else usual


def marks(vitals: VitalsSettings) -> Marks:
    """The settings, as the table wants them."""
    return Marks(vitals.hang_dump, vitals.hang_timeout, vitals.stall_timeout)


class Episode:
    """One condition, over and over: each verdict is told once while it lasts.

    What ended by itself was not worth much of a noise: it is told again only if it lasts twice as
    long. So an app whose clients wait for long on purpose is reported a few times in its life.
    """

    def __init__(self, condition: Condition, marks: Marks) -> None:
        self.condition = condition
        self.verdict = Verdict.NOTHING
        self.lasted = (
            0.0  # seconds that the one took that was reported, and is over since this look
        )
        self._marks = marks
        self._patience = 0.0  # age below which it is not reported
        self._age = 0.0

    def look(self, age: float) -> Verdict:
        """The verdict on a condition of this age, if it has become graver; else `NOTHING`."""
        self.lasted = 0.0
        if age < self._age:
            if self.verdict is not Verdict.NOTHING:
                self.lasted, self._patience = self._age, 2 * self._age
            self.verdict = Verdict.NOTHING
        self._age = age
        verdict = judge(self.condition, age, self._marks)
        if verdict is Verdict.REPORT and age < self._patience:
            verdict = Verdict.NOTHING
        if verdict <= self.verdict:
            return Verdict.NOTHING
        self.verdict = verdict
        return verdict


class Vitals:
    """One worker's, between ready and drain; before and after it nothing is judged."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        server: Server,
        settings: VitalsSettings,
        usual: float,
        say: Say,
        neighbours: Neighbours,
        make_timer: Callable[[int], Timer] = Timer,
        waited: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._waited = waited  # seconds since the last beat, for a CPU
        self._granted = 0.0  # of them, those by which the timers were put off
        self._loop = loop
        self._server = server
        self._say = say
        self._neighbours = neighbours
        self._marks = marks(settings)
        self.period = beat_for(settings.hang_dump, usual)
        self._make_timer = make_timer
        self._timers: list[Timer] = []  # for Python, and for faulthandler
        self._on = False
        self._beat = 0.0
        self._looked_at = -1.0  # the beat since which nothing happened when we were asked to look
        self._beats = 0
        self._is_unwell = False  # or was at the last beat
        self._steady_since = 0.0
        self._busy, self._stalled = Busy(), Stalled()
        self._episodes = {
            condition: Episode(condition, self._marks)
            for condition in (Condition.BUSY, Condition.STALLED)
        }
        self.has_left = False

    def enter(self, stage: Stage, now: float) -> None:
        """The worker is in another stage of its life."""
        if stage is Stage.READY and self._marks.dump:
            self._begin(now)
        elif self._on:
            self._end()

    def _begin(self, now: float) -> None:
        try:
            self._timers = [self._make_timer(LOOK_SIGNAL), self._make_timer(FAULT_SIGNAL)]
        except OSError as error:
            logger.warning("a blocked event loop will not be noticed: no timer: %s", error)
        self._on = True
        self._beat = self._steady_since = now
        self._wind_up()

    def _end(self) -> None:
        self._on = False
        for timer in self._timers:
            timer.close()
        self._timers = []

    def look(self, now: float) -> None:
        """At each beat."""
        if not self._on:
            return
        if self._looked_at == self._beat or self._granted:
            self._granted = 0.0
            self._wind_up()
        else:
            for timer in self._timers:
                timer.again()
        gap, self._beat = now - self._beat, now
        late = gap - self.period
        # In the cold, as in an idle worker, every line costs: most have nothing more to do.
        if late > LATE or self._server.running or self._is_unwell:
            self._examine(now, gap, late)
        self._beats += 1
        if self._beats % GLANCES == 0:
            self._look_around(now)

    def _examine(self, now: float, gap: float, late: float) -> None:
        if gap >= self._marks.dump:
            self._report("recovered", f"its event loop stood still for {gap:.1f} s")
        if late > self.period:
            self._steady_since = now
        server = self._server
        busy = self._busy.look(now, late)
        stalled = self._stalled.look(now, sum(server.answers), server.running)
        self._judge(Condition.BUSY, busy)
        self._judge(Condition.STALLED, stalled)
        self._is_unwell = self._busy.is_suspected or busy > 0.0 or stalled > 0.0

    def _look_around(self, now: float) -> None:
        """Miss a sibling only if our own heart has beaten all the time: else all were frozen."""
        limit = self._marks.dump + LATER * self.period
        if now - self._steady_since > limit:
            for row in self._neighbours.silent(now, limit):
                self._say(Unwell("silent", "it shows no heartbeat", row=row), True)

    def _wind_up(self) -> None:
        seconds = self._marks.dump + MEAN * self.period - SOON
        for timer in self._timers:
            timer.arm(seconds)
            seconds += SOON

    def on_look(self, _number: int, frame: FrameType | None) -> None:
        """From the handler itself: whatever holds up the loop is right below in the stack."""
        if frame is None or is_the_loop(frame):
            return  # at rest: our process was stopped, or a callback in C holds it up
        missing = self._waited() - self._granted
        if self._timers and missing > SOON:
            # So much of the time was not given to us: it does not count.
            self._granted += missing
            self._timers[0].arm(missing)
            self._timers[1].arm(missing + SOON)
            return
        if self._timers and self._looked_at != self._beat:
            # Our process may have been stopped, and goes on: then a beat comes before this again.
            self._looked_at = self._beat
            self._timers[0].arm(SOON)
            self._timers[1].arm(2 * SOON)
            return
        try:
            self._say(Dumped(dump.fit(dump.stacks(self._loop, frame))), False)
        except Exception:  # must not surface in what was interrupted; faulthandler follows
            return
        if self._timers:
            self._timers[1].disarm()

    def _judge(self, condition: Condition, age: float) -> None:
        episode = self._episodes[condition]
        before = episode.verdict
        verdict = episode.look(age)
        if episode.lasted:
            self._report("recovered", f"it was {condition} for {episode.lasted:.1f} s")
        if verdict is Verdict.REPORT:
            self._report(condition, self._describe(condition, age), with_stacks=True)
        elif verdict is Verdict.REPLACE and not self.has_left:
            self.has_left = True
            if before is Verdict.NOTHING:  # nobody was told yet, e.g. since hang_timeout is 0
                self._report(condition, self._describe(condition, age), with_stacks=True)
            self._say(Leaving(self._describe(condition, age)), True)

    def _describe(self, condition: Condition, age: float) -> str:
        if condition is Condition.BUSY:
            culprit = self._busy.culprit[:LONGEST_NAME]
            return f"busy: thread {culprit} has kept the interpreter to itself for {age:.1f} s"
        count = len(self._server.running)
        return f"stalled: no answer was completed for {age:.1f} s while {count} requests waited"

    def _report(self, kind: str, reason: str, with_stacks: bool = False) -> None:
        text = dump.fit(dump.stacks(self._loop)) if with_stacks else ""
        self._say(Unwell(kind, reason, text), True)


def attend(
    pulse: Pulse, loop: asyncio.AbstractEventLoop, server: Server, say: Say, birth: Birth
) -> Vitals:
    """Have a worker look at itself and its siblings at each beat. `say` tells the master."""
    neighbours = Neighbours(birth.board, birth.row)
    settings = server.config.vitals
    found = Vitals(loop, server, settings, pulse.period, say, neighbours, waited=pulse.waited)
    pulse.period = found.period
    pulse.every.append(found.look)
    return found
