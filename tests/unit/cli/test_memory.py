"""Measuring processes: those of this test, and those that a made-up /proc has."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.cli.memory import measure
from clusterd.observe.snapshot import Snapshot
from tests.unit.observe.test_table import REPLY


def shot(master: int, worker: int) -> Snapshot:
    workers = [{"slot": 0, "pid": worker, "generation": 1, "phase": "ready"}]
    return Snapshot.of({**REPLY, "pid": master, "zygotes": [], "workers": workers})


def test_a_worker_and_what_it_has_started() -> None:
    """The test is the worker here, and has started one process."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        master, worker, *started = measure(shot(os.getppid(), os.getpid()))
        child.communicate(b"\n")
    assert (worker.name, worker.pid) == ("worker 0 g1", os.getpid())
    assert 0 < worker.uss <= worker.pss <= worker.rss
    assert master.name == "master"
    (below,) = started
    assert below.name == "  started by it: 1"
    assert below.uss > 0


def test_who_is_gone_is_said_to_be(tmp_path: Path) -> None:
    assert {one.error for one in measure(shot(1, 2), tmp_path)} == {"gone meanwhile"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "smaps_rollup").touch(mode=0o000)
    assert "only its own user" in measure(shot(1, 2), tmp_path)[1].error
