"""Who goes first: the decision, and whom it leaves out."""

import pytest

from clusterd.ipc.scoreboard import NOBODY, Cell, Scoreboard
from clusterd.worker.gate import PATIENCE, STALE, Gate, holds_back

NOW = 100.0


class Clock:
    """Time as the test wants it."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def gate(board: Scoreboard, clock: Clock) -> Gate:
    """The gate of row 0, at 10 connections at most."""
    return Gate(board, 0, 10, clock)


def sibling(board: Scoreboard, row: int, connections: int, beat: float = NOW) -> None:
    board.gate[row] = connections
    board.row(row)[Cell.HEARTBEAT] = int(beat * 1e6)


@pytest.mark.parametrize(
    ("mine", "least", "held"),
    [
        (0, 0, False),
        (3, 0, False),  # few connections: a difference says little
        (4, 0, True),
        (7, 4, True),
        (5, 4, True),  # many: one more is one too many
        (4, 4, False),
        (25, 25, False),
    ],
)
def test_holds_back_where_clearly_busier(mine: int, least: int, held: bool) -> None:
    assert held is holds_back(mine, least)


def test_yields_to_a_less_busy_sibling(gate: Gate, board: Scoreboard) -> None:
    gate.show(4)
    sibling(board, 1, 0)

    assert gate.yields(4)
    assert not gate.yields(3)


def test_alone_yields_to_nobody(gate: Gate) -> None:
    """Free rows hold NOBODY, and our own is no reason to wait."""
    gate.show(9)

    assert not gate.yields(9)


def test_who_does_not_accept_is_not_waited_for(gate: Gate, board: Scoreboard) -> None:
    gate.show(5)
    sibling(board, 1, NOBODY)
    sibling(board, 2, 5)

    assert not gate.yields(5)


def test_a_row_without_a_heartbeat_is_ignored_until_it_beats(
    gate: Gate, board: Scoreboard, clock: Clock
) -> None:
    """A stopped worker keeps its cell: others take its share. Once it goes on, it counts again."""
    gate.show(8)
    sibling(board, 1, 0, beat=NOW - STALE / 1e6 - 1)
    sibling(board, 2, 8)

    assert not gate.yields(8)
    clock.now += 1
    sibling(board, 1, 0, beat=clock.now)
    sibling(board, 2, 8, beat=clock.now)
    assert gate.yields(8)


def test_a_stale_row_hides_no_other(gate: Gate, board: Scoreboard) -> None:
    gate.show(8)
    sibling(board, 1, 0, beat=0)
    sibling(board, 2, 2)

    assert gate.yields(8)


def test_a_sibling_that_takes_nothing_is_not_waited_for_long(
    gate: Gate, board: Scoreboard, clock: Clock
) -> None:
    """It is blocked in a call, or has just been killed; its heartbeat is still fresh."""
    gate.show(8)
    sibling(board, 1, 0)

    waited = 0
    while gate.yields(8):
        clock.now += 0.001
        waited += 1
    assert waited == pytest.approx(PATIENCE * 1000, abs=1)
    assert not gate.yields(8)
    sibling(board, 1, 0, beat=clock.now + 0.5)
    clock.now += 0.5
    assert gate.yields(8)


def test_a_doubted_sibling_that_takes_one_counts_again_at_once(
    gate: Gate, board: Scoreboard, clock: Clock
) -> None:
    """On a crowded machine it may just have had to wait for its turn."""
    gate.show(8)
    sibling(board, 1, 0)
    while gate.yields(8):
        clock.now += 0.001

    board.gate[1] = 1
    assert gate.yields(8)


def test_a_sibling_that_takes_its_share_is_waited_for(
    gate: Gate, board: Scoreboard, clock: Clock
) -> None:
    """Its connections come and go, so that its number alone would look as if it slept."""
    gate.show(8)
    sibling(board, 1, 0)

    for _ in range(int(PATIENCE * 3000)):
        assert gate.yields(8)
        clock.now += 0.001
        board.row(1)[Cell.ACCEPTED] += 1


def test_waits_far_apart_are_not_one_long_wait(gate: Gate, board: Scoreboard, clock: Clock) -> None:
    gate.show(8)
    for _ in range(5):
        sibling(board, 1, 0, beat=clock.now)
        assert gate.yields(8)
        clock.now += 10 * PATIENCE


def test_at_the_cap_yields_while_a_sibling_has_room(gate: Gate, board: Scoreboard) -> None:
    """Even to one that is hardly less busy; when all are full, nobody waits for nobody."""
    gate.show(10)
    sibling(board, 1, 9)
    assert gate.yields(10)

    sibling(board, 1, 10)
    assert not gate.yields(10)


def test_shut_says_nobody(gate: Gate, board: Scoreboard) -> None:
    gate.show(3)
    assert board.gate[0] == 3

    gate.shut()
    assert not gate.is_open
    assert board.gate[0] == NOBODY
