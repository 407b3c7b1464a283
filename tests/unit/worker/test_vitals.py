"""A worker's look at itself: the timer, what is told and how often. No real time."""

import asyncio
import dataclasses
import sys
from collections.abc import Iterator
from types import FunctionType

import pytest

from clusterd.config.running import VitalsSettings
from clusterd.core.vitals import Condition, Marks, Verdict
from clusterd.ipc.messages import Dumped, Leaving, Message, Unwell
from clusterd.ipc.scoreboard import Stage
from clusterd.kernel.signals import FAULT_SIGNAL, LOOK_SIGNAL
from clusterd.worker.vitals import Episode, Vitals, beat_for
from tests.unit.worker.test_symptoms import Request

MARKS = Marks(5.0, 30.0, 300.0)
R, N, L = Verdict.REPORT, Verdict.NOTHING, Verdict.REPLACE


class FakeTimer:
    """Remembers for how long it was wound up, and whether it is there at all."""

    def __init__(self, number: int) -> None:
        assert number in (LOOK_SIGNAL, FAULT_SIGNAL)
        self.number = number
        self.armed: list[float] = []
        self.closed = False

    def arm(self, seconds: float) -> None:
        self.armed.append(seconds)

    def again(self) -> None:
        self.armed.append(self.armed[-1])

    def disarm(self) -> None:
        self.armed.clear()

    def close(self) -> None:
        self.closed = True


@dataclasses.dataclass
class FakeServer:
    answers: list[int]
    running: dict[Request, None]


class Bench:
    """One worker's vitals, and what it says."""

    def __init__(self, loop: asyncio.AbstractEventLoop, settings: VitalsSettings) -> None:
        self.said: list[Message] = []
        self.timers: list[FakeTimer] = []
        self.server = FakeServer([0] * 10, {})
        self.now = 1000.0
        self.waited = 0.0  # for a CPU, since the last beat
        self.missed: list[int] = []
        self.vitals = Vitals(
            loop,
            self.server,  # type: ignore[arg-type]  # as much of one as it looks at
            settings,
            1.0,
            lambda message, _keep: self.said.append(message),
            self,  # type: ignore[arg-type]
            self._timer,  # type: ignore[arg-type]
            lambda: self.waited,
        )

    def _timer(self, number: int) -> FakeTimer:
        self.timers.append(FakeTimer(number))
        return self.timers[-1]

    def silent(self, _now: float, limit: float) -> list[int]:
        """In place of the neighbours."""
        assert limit == 8.0  # three beats after a blocked one told of itself
        return self.missed

    def begin(self) -> "Bench":
        self.vitals.enter(Stage.BOOTING, self.now)
        assert not self.timers
        self.vitals.enter(Stage.READY, self.now)
        return self

    def beat(self, seconds: float = 1.0) -> None:
        self.now += seconds
        self.vitals.look(self.now)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


@pytest.fixture
def bench(loop: asyncio.AbstractEventLoop) -> Bench:
    return Bench(loop, VitalsSettings()).begin()


def test_the_timer_is_wound_up_at_each_beat_between_ready_and_drain(bench: Bench) -> None:
    bench.beat()
    timer, fault = bench.timers
    # A block begins half a period after a beat, on average: so the dump is 5 s later, ± 0.5.
    assert timer.armed == [pytest.approx(5.45)] * 2
    bench.vitals.enter(Stage.DRAINING, bench.now)
    assert fault.armed == [pytest.approx(5.5)] * 2  # if Python did not answer
    assert timer.closed
    assert fault.closed
    bench.beat(60.0)
    assert len(timer.armed) == 2
    assert not bench.said


def test_python_answers_the_signal_with_all_stacks_and_then_faulthandler_need_not(
    bench: Bench,
) -> None:
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    assert not bench.said
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    (told,) = bench.said
    assert isinstance(told, Dumped)
    assert "test_python_answers_the_signal" in told.text
    assert bench.timers[1].number == FAULT_SIGNAL
    assert not bench.timers[1].armed


def test_time_spent_waiting_for_a_cpu_does_not_count(bench: Bench) -> None:
    bench.waited = 4.0
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    timer, fault = bench.timers
    assert timer.armed[-1] == pytest.approx(4.0)
    assert fault.armed[-1] == pytest.approx(4.05)
    bench.waited = 7.0  # in those 4 s again 3
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    assert timer.armed[-1] == pytest.approx(3.0)
    for _ in range(2):
        bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    assert len(bench.said) == 1
    bench.beat()
    assert timer.armed[-1] == pytest.approx(5.45)  # as ever


def test_one_that_was_stopped_has_a_moment_to_beat(bench: Bench) -> None:
    """The signal waited with it, and comes first."""
    bench.beat()
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    bench.beat(3.0)
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    assert not bench.said
    assert [timer.armed[-1] for timer in bench.timers] == [0.05, 0.1]  # to look again
    bench.beat()
    assert [timer.armed[-1] for timer in bench.timers] == [pytest.approx(5.45), 5.5]


def test_where_no_timer_is_wound_up_it_answers_at_once(
    loop: asyncio.AbstractEventLoop,
) -> None:
    """Somebody wants to know where it starts up, or drains."""
    bench = Bench(loop, VitalsSettings())
    bench.vitals.on_look(LOOK_SIGNAL, sys._getframe())
    assert bench.said


def test_a_loop_at_rest_leaves_the_answer_to_faulthandler(bench: Bench) -> None:
    """A callback in C may hold it up, and Python would say that nothing does."""
    seen = []

    def run() -> None:
        seen.append(sys._getframe())

    names = {**globals(), "__name__": "clusterd.worker.main"}
    FunctionType(run.__code__, names, closure=run.__closure__)()
    bench.vitals.on_look(LOOK_SIGNAL, seen[0])
    bench.vitals.on_look(LOOK_SIGNAL, None)
    assert not bench.said
    assert bench.timers[1].armed


def test_nobody_looks_where_hang_dump_is_zero(loop: asyncio.AbstractEventLoop) -> None:
    bench = Bench(loop, VitalsSettings(hang_dump=0.0)).begin()
    bench.beat(60.0)
    assert not bench.timers
    assert not bench.said


def test_without_a_timer_the_worker_serves_all_the_same(
    loop: asyncio.AbstractEventLoop, caplog: pytest.LogCaptureFixture
) -> None:
    def none(_number: int) -> FakeTimer:
        raise OSError(11, "Resource temporarily unavailable")

    bench = Bench(loop, VitalsSettings())
    bench.vitals._make_timer = none  # type: ignore[assignment]
    bench.begin()
    bench.beat()
    assert "will not be noticed" in caplog.text


def test_a_loop_that_stood_still_says_so_when_it_turns_again(bench: Bench) -> None:
    bench.beat(4.9)
    assert not bench.said
    bench.beat(7.0)
    assert bench.said == [Unwell("recovered", "its event loop stood still for 7.0 s")]


def test_a_stall_is_reported_once_with_stacks_and_then_it_leaves(bench: Bench) -> None:
    bench.server.running = {Request(1000.0): None, Request(1000.5): None}
    for _ in range(200):
        bench.beat()
    (report,) = bench.said
    assert isinstance(report, Unwell)
    assert report.kind == "stalled"
    assert "while 2 requests waited" in report.reason
    assert "thread MainThread" in report.text
    for _ in range(200):
        bench.beat()
    assert len(bench.said) == 2
    assert isinstance(bench.said[1], Leaving)
    assert bench.said[1].reason.startswith("stalled")


def test_none_is_replaced_without_a_word_why(loop: asyncio.AbstractEventLoop) -> None:
    """Where a stall is not to be reported before (hang_timeout is 0), its stacks still are."""
    bench = Bench(loop, VitalsSettings(hang_timeout=0.0)).begin()
    bench.server.running = {Request(1000.0): None, Request(1000.5): None}
    for _ in range(400):
        bench.beat()
    report, leaving = bench.said
    assert isinstance(report, Unwell)
    assert "thread MainThread" in report.text
    assert isinstance(leaving, Leaving)


def test_a_stall_that_ends_is_told_too(bench: Bench) -> None:
    bench.server.running = {Request(1000.0): None, Request(1000.5): None}
    for _ in range(40):
        bench.beat()
    bench.server.answers[2] += 1
    bench.beat()
    assert [type(each) for each in bench.said] == [Unwell, Unwell]
    assert bench.said[1] == Unwell("recovered", "it was stalled for 39.0 s")


def test_a_silent_sibling_is_told_of(bench: Bench) -> None:
    bench.missed = [3]
    for _ in range(9):
        bench.beat()
    assert bench.said == [Unwell("silent", "it shows no heartbeat", row=3)]  # looked at the ninth


def test_after_a_freeze_siblings_have_time_to_show_that_they_live(bench: Bench) -> None:
    bench.missed = [3]
    for _ in range(100):
        bench.beat(2.1)  # late each time
    assert not bench.said
    for _ in range(8):
        bench.beat()
    assert not bench.said
    for _ in range(3):
        bench.beat()
    assert bench.said


def test_what_ended_by_itself_is_told_again_only_if_it_lasts_twice_as_long() -> None:
    episode = Episode(Condition.STALLED, MARKS)
    assert [episode.look(age) for age in (29.0, 30.0, 31.0, 40.0)] == [N, R, N, N]
    assert episode.look(0.0) is N
    assert episode.lasted == 40.0
    assert [episode.look(age) for age in (30.0, 79.0, 80.0)] == [N, N, R]
    assert [episode.look(age) for age in (299.0, 300.0, 301.0)] == [N, L, N]


@pytest.mark.parametrize(
    ("hang_dump", "beat"), [(0.0, 1.0), (5.0, 1.0), (60.0, 1.0), (1.0, 0.2), (0.01, 0.05)]
)
def test_the_pulse_is_as_quick_as_what_is_looked_for(hang_dump: float, beat: float) -> None:
    assert beat_for(hang_dump, 1.0) == beat
