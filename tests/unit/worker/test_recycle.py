"""Recycling: when a worker asks to be replaced, and that it asks once."""

import logging

import pytest

from clusterd.config.running import VitalsSettings
from clusterd.ipc.scoreboard import Cell, Scoreboard, Stage
from clusterd.kernel.usage import Usage
from clusterd.worker.recycle import EVERY, IN_A_ROW, Limits, Recycling, verdict

MIB = 2**20


def vitals(requests: int = 0, jitter: int = 0, age: float = 0.0, memory: int = 0) -> VitalsSettings:
    return VitalsSettings(
        max_requests=requests, max_requests_jitter=jitter, max_age=age, max_memory=memory
    )


@pytest.mark.parametrize(
    ("limits", "requests", "age", "heavy", "why"),
    [
        (Limits(), 10**9, 1e9, [], ""),
        (Limits(requests=100), 99, 1e9, [], ""),
        (Limits(requests=100), 100, 0, [], "max_requests: 100 served"),
        (Limits(requests=100), 140, 0, [], "max_requests: 140 served, its limit was 100"),
        (Limits(age=60), 10**9, 59.9, [], ""),
        (Limits(age=60), 0, 60, [], "max_age: 1m00s old"),
        (Limits(memory=MIB), 10**9, 1e9, [2 * MIB] * (IN_A_ROW - 1), ""),
        (Limits(memory=MIB), 0, 0, [2 * MIB] * IN_A_ROW, "max_memory: 2 MiB, 2 MiB, 2 MiB in a"),
        (Limits(100, 60, MIB), 100, 60, [2 * MIB] * IN_A_ROW, "max_requests"),
    ],
)
def test_a_worker_is_to_go_when_a_limit_is_reached(
    limits: Limits, requests: int, age: float, heavy: list[int], why: str
) -> None:
    assert verdict(limits, requests, age, heavy).startswith(why)
    assert bool(verdict(limits, requests, age, heavy)) == bool(why)


@pytest.mark.parametrize(
    ("given", "chance", "limits"),
    [
        (vitals(), 1.0, Limits()),
        (vitals(1000), 0.0, Limits(1000)),
        (vitals(1000), 1.0, Limits(1100)),  # a tenth, where nobody says how much
        (vitals(1000, jitter=500), 0.5, Limits(1250)),
        (vitals(jitter=500), 1.0, Limits()),  # of a limit that there is not
        (vitals(age=3600), 0.5, Limits(age=3780)),
        (vitals(memory=MIB), 1.0, Limits(memory=MIB)),
    ],
)
def test_chance_lengthens_a_life_so_that_workers_do_not_go_together(
    given: VitalsSettings, chance: float, limits: Limits
) -> None:
    assert Limits.drawn(given, lambda: chance) == limits


class Life:
    """A worker's row, and what it asked."""

    def __init__(self, board: Scoreboard, limits: Limits, *sizes: int | OSError) -> None:
        self.row = board.row(0)
        self.row[Cell.PHASE] = Stage.READY
        self.asked: list[str] = []
        self.sizes = list(sizes)
        self.looks = 0
        self.recycling = Recycling(limits, self.row, 1000.0, self.asked.append, self.measure)

    def measure(self) -> Usage:
        self.looks += 1
        size = self.sizes.pop(0)
        if isinstance(size, OSError):
            raise size
        return Usage(size, 2 * size, 3 * size)

    def beat(self, times: int = 1, now: float = 1001.0) -> None:
        for _ in range(times):
            self.recycling.look(now)


def test_it_asks_once_and_serves_on(board: Scoreboard) -> None:
    life = Life(board, Limits(requests=100))
    life.row[Cell.REQUESTS] = 99
    life.beat()
    assert not life.asked
    life.row[Cell.REQUESTS] = 500
    life.beat(10)
    assert life.asked == ["max_requests: 500 served, its limit was 100"]


@pytest.mark.parametrize("stage", [Stage.BOOTING, Stage.DRAINING])
def test_who_boots_or_drains_does_not_ask(board: Scoreboard, stage: Stage) -> None:
    life = Life(board, Limits(age=1))
    life.row[Cell.PHASE] = stage
    life.beat(now=2000.0)
    assert not life.asked


def test_memory_is_looked_at_now_and_then_and_only_where_it_is_limited(board: Scoreboard) -> None:
    life = Life(board, Limits(memory=10 * MIB), MIB)
    life.beat(EVERY - 1)
    assert life.looks == 0
    life.beat()
    assert life.looks == 1
    assert life.row[Cell.MEMORY] == MIB

    other = Life(board, Limits(requests=10**9))
    other.beat(100 * EVERY)
    assert other.looks == 0


def test_only_growth_that_stays_is_a_leak(board: Scoreboard) -> None:
    over, under = 11 * MIB, 9 * MIB
    life = Life(board, Limits(memory=10 * MIB), over, over, under, over, over, over + MIB)
    life.beat(5 * EVERY)
    assert not life.asked, "a large answer, then what it took was given back"
    life.beat(EVERY)
    assert life.asked == ["max_memory: 11 MiB, 11 MiB, 12 MiB in a row, the limit is 10 MiB"]
    life.beat(10 * EVERY)
    assert life.looks == 6, "who has asked looks no more"


def test_memory_that_cannot_be_read_is_said_once(
    board: Scoreboard, caplog: pytest.LogCaptureFixture
) -> None:
    life = Life(board, Limits(memory=MIB), PermissionError(13, "Permission denied"))
    with caplog.at_level(logging.WARNING, "clusterd.worker"):
        life.beat(10 * EVERY)
    assert [record.getMessage() for record in caplog.records] == [
        "max_memory is without effect: memory cannot be read: [Errno 13] Permission denied"
    ]
    assert not life.asked
