"""Heartbeats of siblings, as a worker sees them in the rows."""

import pytest

from clusterd.ipc.scoreboard import USED, Cell, Scoreboard, Stage
from clusterd.worker.neighbours import Neighbours

LIMIT = 8.0


@pytest.fixture
def rows(board: Scoreboard) -> Scoreboard:
    """Five rows in use: 0 drains, 1 to 3 are ready, 4 is free. It is second 100."""
    board.header[USED] = 5
    for row in range(4):
        board.row(row)[Cell.HEARTBEAT] = 99_500_000
        board.row(row)[Cell.PHASE] = Stage.READY
    board.row(0)[Cell.PHASE] = Stage.DRAINING
    return board


def test_all_well(rows: Scoreboard) -> None:
    assert Neighbours(rows, 2).silent(100.0, LIMIT) == []


def test_the_first_of_those_that_are_well_tells_and_once(rows: Scoreboard) -> None:
    rows.row(1)[Cell.HEARTBEAT] = 91_000_000
    rows.row(0)[Cell.HEARTBEAT] = 90_000_000  # it drains: none of our business
    neighbours = Neighbours(rows, 2)
    assert Neighbours(rows, 3).silent(100.0, LIMIT) == []
    assert neighbours.silent(100.0, LIMIT) == [1]
    assert neighbours.silent(101.0, LIMIT) == []


def test_silent_again_is_told_again(rows: Scoreboard) -> None:
    neighbours = Neighbours(rows, 0)
    rows.row(3)[Cell.HEARTBEAT] = 91_000_000
    assert neighbours.silent(100.0, LIMIT) == [3]
    for row in range(3):
        rows.row(row)[Cell.HEARTBEAT] = 120_000_000
    rows.row(3)[Cell.HEARTBEAT] = 111_000_000
    assert neighbours.silent(120.5, LIMIT) == [3]


def test_a_worker_that_was_stopped_itself_misses_nobody(rows: Scoreboard) -> None:
    """All hearts stood still while all were frozen: only who has beaten since may tell."""
    assert Neighbours(rows, 1).silent(9999.0, LIMIT) == []
