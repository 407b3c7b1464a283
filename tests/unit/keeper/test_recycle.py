"""Programs that have served long enough: the keeper says so, and the program runs on."""

from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.config.running import VitalsSettings
from clusterd.ipc.messages import Leaving, Ready
from clusterd.ipc.scoreboard import Cell
from clusterd.kernel.faulty import PACE
from tests.support.keeping import keeping, settings

WAIT = "import signal; signal.pause()"
# Memory that only what it has started takes.
GROW = """
import subprocess, sys
code = "x = bytearray(48 << 20); x[::4096] = b'1' * len(x[::4096]); input()"
subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE).wait()
"""


def test_one_that_is_old_enough_asks_for_another_once_it_is_ready(tmp_path: Path) -> None:
    config = settings(WAIT, place=tmp_path, ready_after=0.5)
    config = replace(config, vitals=VitalsSettings(max_age=0.05))
    with keeping(tmp_path, config) as zygote:
        keeper = zygote.keeper()
        leaving = keeper.until(Leaving)
        assert leaving.recycle
        assert leaving.reason.startswith("max_age: 0.1s old")
        assert any(isinstance(one, Ready) for one in keeper.heard)
        assert keeper.row[Cell.COMMAND], "it runs on until another is there"
        said = keeper.drain()
        assert sum(isinstance(one, Leaving) for one in said) == 1


def test_what_a_program_has_started_counts_as_its_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PACE, "100")
    config = replace(settings(GROW, place=tmp_path), vitals=VitalsSettings(max_memory=40 << 20))
    with keeping(tmp_path, config) as zygote:
        keeper = zygote.keeper()
        leaving = keeper.until(Leaving)
        assert leaving.recycle
        assert leaving.reason.startswith("max_memory: ")
        assert keeper.row[Cell.MEMORY] > 48 << 20
        keeper.drain()
