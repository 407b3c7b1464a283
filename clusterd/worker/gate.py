"""The accept gate: let the least busy worker go first. No process sits in the data path.

A worker takes a connection unless it is clearly busier than the least busy one. "Clearly" was
measured: holding back at one busier from the start costs a quarter of the connections a second.
"""

import time
from collections.abc import Callable

from clusterd.ipc.scoreboard import HEADER, NOBODY, ROWS, USED, WIDTH, Cell, Scoreboard

FEW = 4  # below this many connections, a difference of as many says little
STALE = 2_500_000  # µs: a heartbeat comes every second, and one may be late
PATIENCE = 0.05  # s to yield to a sibling that takes nothing: blocked in a call, or just dead
CHAIN = 0.05  # s between two yields that belong to the same wait


def holds_back(mine: int, least: int) -> bool:
    """Whether a worker of so many connections lets the least busy one go first."""
    return mine >= least + (1 if least >= FEW else FEW)


class Gate:
    """One worker's view of the gate column; it writes its own cell and reads all."""

    __slots__ = (
        "_board",
        "_clock",
        "_column",
        "_doubted",
        "_header",
        "_row",
        "_since",
        "_yield_to",
        "_yielded",
        "cap",
        "is_open",
    )

    def __init__(
        self, board: Scoreboard, row: int, cap: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.cap = cap
        self.is_open = False
        self._board = board
        self._row = row
        self._clock = clock
        self._column = board.gate
        self._header = board.header
        self._doubted: dict[int, tuple[int, ...]] = {}  # row → what it showed when we gave it up
        self._yield_to = (-1, 0, 0)  # the row we wait for, what it had accepted and held then
        self._since = 0.0
        self._yielded = 0.0

    def show(self, mine: int) -> None:
        """We accept, and have so many connections."""
        self.is_open = True
        self._column[self._row] = mine

    def shut(self) -> None:
        """We do not accept: nobody should yield to us."""
        self.is_open = False
        self._column[self._row] = NOBODY

    def yields(self, mine: int) -> bool:
        """Whether to leave a waiting connection to a sibling, for now."""
        column = self._column[: self._header[USED]]
        if not self._doubted:
            least = min(column, default=mine)
            if mine < least + (1 if least >= FEW else FEW) and mine < self.cap:
                return False
        return self._yields_to_some(mine, column.tolist())

    def _yields_to_some(self, mine: int, column: list[int]) -> bool:
        """The same with care: is the one that we would yield to alive?"""
        now = self._clock()
        self._believe_again(now)
        while True:
            least, row = min(
                ((cell, row) for row, cell in enumerate(column) if row not in self._doubted),
                default=(mine, self._row),
            )
            if mine >= self.cap:
                if least >= self.cap:
                    return False  # all are full: yielding would help nobody
            elif not holds_back(mine, least):
                return False
            if self._is_awake(row, now):
                return True
            self._doubted[row] = self._signs(row)

    def _is_awake(self, row: int, now: float) -> bool:
        """False for a row without a fresh heartbeat, or that we waited for in vain.

        A worker that blocks its loop for long, yet not long enough to look stopped, would keep
        new connections waiting: after `PATIENCE` the others share them out.
        """
        if int(now * 1e6) - self._cell(row, Cell.HEARTBEAT) > STALE:
            return False
        waits_for = (row, self._cell(row, Cell.ACCEPTED), self._column[row])
        if waits_for != self._yield_to or now - self._yielded > CHAIN:
            self._yield_to, self._since = waits_for, now
        self._yielded = now
        return now - self._since < PATIENCE

    def _believe_again(self, now: float) -> None:
        """Rows that have shown a sign of life since we doubted them count again."""
        for row, signs in list(self._doubted.items()):
            beat = self._cell(row, Cell.HEARTBEAT)
            if self._signs(row) != signs and int(now * 1e6) - beat <= STALE:
                del self._doubted[row]

    def _signs(self, row: int) -> tuple[int, ...]:
        beat, accepted = self._cell(row, Cell.HEARTBEAT), self._cell(row, Cell.ACCEPTED)
        return beat, accepted, self._column[row]

    def _cell(self, row: int, cell: Cell) -> int:
        return self._board.cells[HEADER + ROWS + row * WIDTH + cell]
