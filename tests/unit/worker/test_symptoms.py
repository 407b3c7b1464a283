"""What a worker can tell of itself: stalled, and busy. With made-up times and real threads."""

import dataclasses
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from clusterd.app.exchange import STREAMING, WAITING
from clusterd.worker.symptoms import Busy, Stalled, call_chain, is_same_call


@dataclasses.dataclass(frozen=True)
class Request:
    began: float
    stage: int = WAITING
    complete: bool = True


def test_two_requests_that_wait_while_nothing_is_answered_are_a_stall() -> None:
    stalled = Stalled()
    running = [Request(10.0), Request(12.0), Request(30.0)]
    assert stalled.look(9.0, 5, []) == 0.0
    assert stalled.look(20.0, 5, running) == 8.0  # since the second of them
    assert stalled.look(50.0, 5, running) == 38.0


def test_any_answer_is_progress() -> None:
    stalled = Stalled()
    running = [Request(10.0), Request(12.0)]
    stalled.look(15.0, 5, running)
    assert stalled.look(40.0, 6, running) == 0.0
    assert stalled.look(41.0, 6, running) == 1.0


@pytest.mark.parametrize(
    "other", [Request(11.0, stage=STREAMING), Request(11.0, complete=False)], ids=str
)
def test_one_alone_may_take_its_time_and_streams_do_not_count(other: Request) -> None:
    """Long answers that have begun, WebSockets, and bodies that still come."""
    stalled = Stalled()
    stalled.look(9.0, 0, [])
    assert stalled.look(1000.0, 0, [Request(10.0), other]) == 0.0
    assert stalled.look(1000.0, 0, [other] * 5) == 0.0


class Spy:
    """A thread in a call, or that turns to another each time it is told to."""

    def __init__(self) -> None:
        self.go, self.there = threading.Semaphore(0), threading.Semaphore(0)
        self.over = False
        self.thread = threading.Thread(target=self._work, name="spy", daemon=True)
        self.thread.start()
        self.there.acquire()

    def _work(self) -> None:
        while not self.over:
            self._call()

    def _call(self) -> None:
        self.there.release()
        self.go.acquire()

    def another_call(self) -> None:
        self.go.release()
        self.there.acquire()

    def end(self) -> None:
        self.over = True
        self.go.release()
        self.thread.join()


@pytest.fixture
def spy() -> Iterator[Spy]:
    made = Spy()
    yield made
    made.end()


class Clocks:
    """CPU time: of the process, of the loop's thread, and of the spy."""

    def __init__(self, spy: Spy) -> None:
        self.spy = spy
        self.now = 100.0
        self.spent = self.own = self.ran = 0.0
        self.busy = Busy(
            lambda: self.spent,
            lambda: self.own,
            lambda thread: self.ran if thread == spy.thread.native_id else 0.0,
        )

    def beat(self, other: float, by_spy: float | None = None, late: float = 0.006) -> float:
        """A second in which other threads used so much CPU."""
        self.now += 1.0
        self.spent += other + 0.1
        self.own += 0.1
        self.ran += other if by_spy is None else by_spy
        return self.busy.look(self.now, late)


def test_a_thread_that_burns_in_one_call_keeps_the_interpreter_busy(spy: Spy) -> None:
    clocks = Clocks(spy)
    clocks.beat(0.0, late=0.0)
    ages = [clocks.beat(0.9) for _ in range(4)]
    assert ages == [0.0, 1.0, 2.0, 3.0]  # the first beat says what call it is
    assert clocks.busy.culprit == "spy"


@pytest.mark.parametrize(
    "beat",
    [
        lambda clocks: clocks.beat(0.9, late=0.0),  # it lets go of the interpreter: numpy, zlib
        lambda clocks: clocks.beat(0.1),  # late for some other reason
        lambda clocks: clocks.beat(0.9, by_spy=0.0),  # it is others, who turn to other calls
    ],
    ids=["not late", "idle", "others"],
)
def test_other_threads_that_work_are_no_trouble(spy: Spy, beat: Callable[[Clocks], float]) -> None:
    clocks = Clocks(spy)
    assert [beat(clocks) for _ in range(5)] == [0.0] * 5


def test_one_beat_in_time_is_chance_and_two_are_the_end_of_it(spy: Spy) -> None:
    clocks = Clocks(spy)
    for _ in range(4):
        clocks.beat(0.9)
    assert clocks.beat(0.9, late=0.0) > 0.0
    assert clocks.beat(0.9) == 4.0
    assert clocks.beat(0.9, late=0.0) > 0.0
    assert clocks.beat(0.9, late=0.0) == 0.0


def test_a_call_is_the_same_only_while_it_lasts(spy: Spy) -> None:
    """The bottom of a pool's thread is always the same: that is not the call."""
    before = call_chain(sys._current_frames()[spy.thread.ident or 0])
    assert before[0].f_code.co_name == "_work"
    again = call_chain(sys._current_frames()[spy.thread.ident or 0])
    assert is_same_call(before, again)
    assert not is_same_call([], again)


def test_a_pools_thread_between_two_jobs_is_in_two_calls() -> None:
    there, go = threading.Semaphore(0), threading.Semaphore(0)

    def job() -> None:
        there.release()
        go.acquire()

    seen = []
    with ThreadPoolExecutor(1) as pool:
        for _ in range(2):
            done = pool.submit(job)
            there.acquire()
            (thread,) = pool._threads
            seen.append(call_chain(sys._current_frames()[thread.ident or 0]))
            go.release()
            done.result()
    assert [chain[0].f_code.co_name for chain in seen] == ["job", "job"]
    assert not is_same_call(*seen)
