"""Siblings whose hearts have stopped, seen in their rows.

A worker that stands still is told of by its own timer, and one that was stopped by the kernel. But
one in an uninterruptible sleep (a dead file server, say) or frozen alone is told of by neither: the
signal waits with it. So each worker glances at the others' heartbeats, which are one column, and
one of them tells the master, who looks for himself.
"""

from clusterd.ipc.scoreboard import HEADER, ROWS, USED, WIDTH, Cell, Scoreboard, Stage

FIRST = HEADER + ROWS + Cell.HEARTBEAT


class Neighbours:
    """What one worker sees of its siblings."""

    def __init__(self, board: Scoreboard, row: int) -> None:
        self._board = board
        self._row = row
        self._told: set[tuple[int, int]] = set()  # row and heartbeat

    def silent(self, now: float, limit: float) -> list[int]:
        """Rows of ready workers that have not shown a heartbeat for `limit` seconds, each once.

        Only the first of those that are well says so: the others need not.
        """
        end = HEADER + ROWS + self._board.header[USED] * WIDTH
        beats = self._board.cells[FIRST:end:WIDTH].tolist()
        edge = int((now - limit) * 1e6)
        late = [row for row, beat in enumerate(beats) if 0 < beat < edge]
        if not late:
            if self._told:
                self._told.clear()
            return []
        well = next((row for row, beat in enumerate(beats) if beat >= edge), -1)
        if well != self._row:
            return []
        found = [row for row in late if (row, beats[row]) not in self._told]
        self._told.update((row, beats[row]) for row in found)
        return [row for row in found if self._board.row(row)[Cell.PHASE] == Stage.READY]
