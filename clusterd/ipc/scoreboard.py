"""The scoreboard: one shared mapping of 64-bit cells, a row a process, one writer a cell.

A cell is stored whole: `memoryview.cast("Q")` assigns through one aligned 8-byte copy, while
`struct.pack_into("<Q")` goes byte by byte (CPython, Modules/_struct.c), so that a reader could
see half a number. Rows are assigned by the master and belong to a *process*: during a roll a
slot has two. The gate's cells are a column of their own, so that the minimum over all used rows
is one slice and one C loop (2 µs for 64 rows).
"""

import enum
from collections.abc import Mapping

from clusterd.core.errors import Bug
from clusterd.kernel import memory

ROWS = 1024
NOBODY = 2**63  # a gate cell that nobody should yield to: free, draining, dead or not yet ready
BUCKETS = 32  # latency histogram: bucket i counts answers of [2^(i-1), 2^i) µs; the last the rest


class Cell(enum.IntEnum):
    """The cells of a row. All totals count from the process's start. Times: monotonic µs."""

    PID = 0
    START_TICKS = 1  # /proc/<pid>/stat field 22: with the pid, the process's identity
    SLOT = 2
    GENERATION = 3
    PHASE = 4  # `ipc.scoreboard.Stage`
    HEARTBEAT = 5
    LOOP_LAG = 6  # µs by which the last pulse was late
    CONNECTIONS = 7
    IN_FLIGHT = 8
    OLDEST_REQUEST = 9  # start of the oldest request in flight, 0 for none
    REQUESTS = 10
    ACCEPTED = 11
    BYTES_IN = 12
    BYTES_OUT = 13
    ANSWERED_1XX = 14
    ANSWERED_2XX = 15
    ANSWERED_3XX = 16
    ANSWERED_4XX = 17
    ANSWERED_5XX = 18
    APP_ERRORS = 19
    HANDED_OVER = 20
    TAKEN_OVER = 21
    HELD_BACK = 22  # times the accept gate let a less busy sibling go first
    LATENCY_SUM = 23  # µs that all answers took
    LATENCY = 24  # the first of BUCKETS cells
    CPU = 56  # µs of CPU time that the process has used, user and system, at the last pulse
    MEMORY = 57  # bytes of memory of its own (USS) when last sampled, 0 for never
    COMMAND = 58  # in a keeper's row the pid of its program, which leads a process group
    SEATS = 59  # requests that it can run at once, in threads; 0 where they run as tasks
    WAITED = 60  # µs that it had waited for a CPU at the last pulse, and one; 0 for not known
    HELD = 61  # bytes of memory that it holds for clients: see `worker.memory_budget`
    SPOOLED = 62  # bytes of request bodies that it has on disk: see `worker.spool_budget`


TOTALS = tuple(range(Cell.REQUESTS, Cell.LATENCY + BUCKETS))
SLOTTED = (*range(Cell.REQUESTS, Cell.LATENCY), Cell.CPU)  # totals that are kept by slot, too
WIDTH = 64  # cells a row: eight cache lines, so no two processes write to the same line


class Stage(enum.IntEnum):
    """The worker's own word on where it is, for process titles and `status`."""

    FREE = 0
    BOOTING = 1
    READY = 2
    DRAINING = 3


def layout() -> dict[str, int]:
    """Return how rows of the scoreboard are laid out in this version."""
    return {"rows": ROWS, "width": WIDTH, **{cell.name.lower(): int(cell) for cell in Cell}}


def is_known(theirs: Mapping[str, int]) -> bool:
    """Return whether this version reads and writes a board of this layout as its maker does."""
    ours = layout()
    return all(ours.get(name) == place for name, place in theirs.items())


HEADER = WIDTH  # cells before the gate column
USED = 0  # header cell: rows in use lie below this one; written by the master
SIZE = 8 * (HEADER + ROWS + ROWS * WIDTH)


class Scoreboard:
    """The whole mapping. The master makes it (`create`); children map the descriptor they get."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.cells = memory.map_cells(fd, SIZE)
        self.header = self.cells[:HEADER]
        self.gate = self.cells[HEADER : HEADER + ROWS]  # connections a row, or NOBODY

    @classmethod
    def create(cls) -> "Scoreboard":
        """A fresh board in a memfd that outlives no process that maps it."""
        board = cls(memory.create("clusterd-scoreboard", SIZE))
        for row in range(ROWS):
            board.gate[row] = NOBODY
        return board

    def row(self, number: int) -> memoryview:
        """The cells of one row: `row[Cell.REQUESTS]`."""
        if not 0 <= number < ROWS:
            raise Bug(f"there is no row {number}")
        start = HEADER + ROWS + number * WIDTH
        return self.cells[start : start + WIDTH]

    def clear(self, number: int) -> None:
        """Make a row free: by the master, after the process is reaped and its totals folded."""
        self.gate[number] = NOBODY
        self.row(number)[:] = memoryview(bytes(8 * WIDTH)).cast("Q")
