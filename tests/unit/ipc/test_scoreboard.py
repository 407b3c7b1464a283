"""The scoreboard: whole cells in rows that do not touch, read by everyone who maps it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clusterd.core.errors import Bug
from clusterd.ipc.scoreboard import (
    BUCKETS,
    NOBODY,
    ROWS,
    SLOTTED,
    TOTALS,
    WIDTH,
    Cell,
    Scoreboard,
    is_known,
    layout,
)


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    os.close(made.fd)


def test_a_fresh_board_has_nobody_to_yield_to(board: Scoreboard) -> None:
    assert len(board.gate) == ROWS
    assert min(board.gate) == NOBODY
    assert not any(board.header)
    assert not any(board.row(0))


def test_rows_neither_touch_each_other_nor_the_gate_nor_the_header(board: Scoreboard) -> None:
    for number in (0, 1, 2, ROWS - 1):
        board.row(number)[:] = memoryview(bytes([number % 255 + 1]) * 8 * WIDTH).cast("Q")
    for number in (0, 1, 2, ROWS - 1):
        assert set(board.row(number).tobytes()) == {number % 255 + 1}
    assert set(board.gate) == {NOBODY}
    assert not any(board.header)
    assert not any(board.row(3))


@pytest.mark.parametrize(
    ("other", "fits"),
    [
        ({}, True),
        ({"rows": ROWS - 1}, False),
        ({"heartbeat": Cell.HEARTBEAT + 1}, False),
        ({"a_cell_that_we_do_not_have": WIDTH - 1}, False),
    ],
)
def test_a_board_of_another_version_is_known_by_its_layout(
    other: dict[str, int], fits: bool
) -> None:
    assert is_known(layout() | other) == fits


def test_a_board_that_lacks_a_cell_of_ours_is_one_of_a_master_that_does_not_read_it() -> None:
    assert is_known({name: place for name, place in layout().items() if name != "held"})


@pytest.mark.parametrize("number", [-1, ROWS])
def test_there_are_no_rows_beyond_the_last(board: Scoreboard, number: int) -> None:
    with pytest.raises(Bug, match="no row"):
        board.row(number)


def test_the_cells_fit_a_row_and_none_is_used_twice() -> None:
    cells = [int(cell) for cell in Cell if cell is not Cell.LATENCY]
    cells += range(Cell.LATENCY, Cell.LATENCY + BUCKETS)
    assert len(set(cells)) == len(cells)
    assert max(cells) < WIDTH


def test_totals_are_every_count_that_only_grows() -> None:
    """A new cell must be told apart: a total is folded when its process dies, a state is not."""
    states = {
        Cell.PID, Cell.START_TICKS, Cell.SLOT, Cell.GENERATION, Cell.PHASE, Cell.HEARTBEAT,
        Cell.LOOP_LAG, Cell.CONNECTIONS, Cell.IN_FLIGHT, Cell.OLDEST_REQUEST, Cell.MEMORY,
        Cell.COMMAND, Cell.SEATS, Cell.WAITED, Cell.HELD, Cell.SPOOLED,
    }  # fmt: skip
    folded = {*TOTALS, *SLOTTED}
    assert {int(cell) for cell in Cell} - states <= folded
    assert not states & folded
    assert len(set(TOTALS)) == len(TOTALS)
    assert set(range(Cell.LATENCY, Cell.LATENCY + BUCKETS)) <= set(TOTALS)


def test_clearing_frees_one_row_and_no_other(board: Scoreboard) -> None:
    for number in (4, 5):
        board.row(number)[Cell.REQUESTS] = 9
        board.gate[number] = 1
    board.clear(4)
    assert not any(board.row(4))
    assert board.gate[4] == NOBODY
    assert (board.row(5)[Cell.REQUESTS], board.gate[5]) == (9, 1)


def test_another_process_sees_and_writes_the_same_cells(board: Scoreboard) -> None:
    board.row(7)[Cell.REQUESTS] = 2**63 + 5
    code = (
        "from clusterd.ipc.scoreboard import *\n"
        f"board = Scoreboard({board.fd})\n"
        "board.gate[7] = 3\n"
        "print(board.row(7)[Cell.REQUESTS])"
    )
    told = subprocess.run(
        [sys.executable, "-c", code], pass_fds=[board.fd], capture_output=True, check=True
    )
    assert int(told.stdout) == 2**63 + 5
    assert board.gate[7] == 3


def test_nobody_can_take_the_memory_away_from_the_others() -> None:
    """Who reads a mapping whose file became shorter dies of SIGBUS (mmap(2)): so would the master.

    Workers have the descriptor, and may be somebody with fewer rights.
    """
    board = Scoreboard.create()
    try:
        for size in (0, 1 << 24):
            with pytest.raises(PermissionError):
                os.ftruncate(board.fd, size)
        board.row(0)[Cell.PID] = 7  # written it can be as before
    finally:
        os.close(board.fd)
