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


WORKER = """
import subprocess, sys
with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
    print("started", flush=True)
    input()
    child.communicate(b"\\n")
"""


def test_a_worker_and_what_it_has_started() -> None:
    """The test is the master here; earlier tests may have left it other processes."""
    command, pipe = [sys.executable, "-c", WORKER], subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "started\n"
        master, worker, *started = measure(shot(os.getpid(), process.pid))
        process.communicate("\n")
    assert (worker.name, worker.pid) == ("worker 0 g1", process.pid)
    assert 0 < worker.uss <= worker.pss <= worker.rss
    assert master.name == "master"
    (below,) = started
    assert below.name == "  started by it: 1"
    assert 0 < below.uss <= below.pss <= below.rss


def test_who_is_gone_is_said_to_be(tmp_path: Path) -> None:
    assert {one.error for one in measure(shot(1, 2), tmp_path)} == {"gone meanwhile"}


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_said(tmp_path: Path) -> None:
    (tmp_path / "2").mkdir()
    (tmp_path / "2" / "smaps_rollup").touch(mode=0o000)
    assert "only its own user" in measure(shot(1, 2), tmp_path)[1].error
