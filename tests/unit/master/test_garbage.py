"""The scoreboard is written by workers: whatever its cells hold, the master is not misled."""

import json
import os
import signal
from typing import Any

import pytest

from clusterd.core.events import Kind
from clusterd.core.vitals import Condition
from clusterd.ipc.messages import Unwell
from clusterd.ipc.scoreboard import ROWS, WIDTH
from clusterd.master import commands, orders
from clusterd.observe.metrics import exposition
from clusterd.observe.snapshot import Snapshot
from clusterd.observe.table import table
from tests.support.simulated import Simulation, simulated

OURS = pytest.param(os.getpid(), id="ours")  # each process of pytest-xdist has another
GARBAGE = [0, 1, OURS, 2**31, 2**53 + 1, 2**63, 2**64 - 1]


def fill(sim: Simulation, value: int) -> None:
    """Write to every cell that a worker can write to."""
    board = sim.group.board
    board.cells[:] = memoryview(value.to_bytes(8, "little") * len(board.cells)).cast("Q")
    assert board.row(ROWS - 1)[WIDTH - 1] == value


def as_table(reply: dict[str, Any]) -> str:
    return table(Snapshot.of(reply))


@pytest.mark.parametrize("value", GARBAGE)
def test_garbage_in_all_cells_hurts_nobody(value: int) -> None:
    """Through reports, autoscaling, hangs, deaths, a reload and the end. A fault of the master's
    own would fail the simulation."""
    with simulated(2, min_workers=2, max_workers=3) as sim:
        sim.start()
        for kind in (Condition.STALLED, "recovered", "silent"):
            fill(sim, value)
            child = sim.kernel.workers()[0]
            child.channel.send(Unwell(str(kind), "it is", row=child.row))
            sim.kernel.time += 40
            sim.order(lambda: None)
            sim.turn()
        fill(sim, value)
        for command, shown in (("status", as_table), ("metrics", exposition)):
            reply = commands.answer(sim.cluster, {"command": command, "detail": True})
            assert shown(json.loads(json.dumps(reply)))
        sim.kernel.kill(sim.kernel.workers()[-1].pid, signal.SIGKILL)
        sim.until(lambda: bool(sim.find(Kind.EXITED)))
        fill(sim, value)
        sim.reload()
        sim.until(lambda: bool(sim.find(Kind.ROLLOUT_FINISHED)))
        sim.order(lambda: orders.stop(sim.cluster, "test"))
        fill(sim, value)
        sim.until(lambda: sim.loop.over)
        ours = {event.fields.get("pid") for event in sim.events}
        assert {pid for pid, _ in sim.kernel.killed} <= ours, "and nobody else was signalled"
