"""Recycling: when a worker asks to be replaced, and that it asks once."""

import logging

import pytest

from clusterd.core.recycling import Limits
from clusterd.ipc.scoreboard import Cell, Scoreboard, Stage
from clusterd.kernel.usage import Usage
from clusterd.worker.recycle import EVERY, Recycling

MIB = 2**20


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
