"""Becoming another program: what comes along is what was named, and no signal is lost."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clusterd.kernel.become import become

ROOT = Path(__file__).parents[3]

BEFORE = """
import json, os, signal, sys
from clusterd.kernel.become import become, hold_signals
kept, dropped = os.pipe()
signal.signal(signal.SIGUSR1, lambda *_: print("too early"))
mask = hold_signals()
os.kill(os.getpid(), signal.SIGUSR1)
told = json.dumps([os.getpid(), kept, dropped, mask])
become([sys.executable, "-c", sys.argv[1], told], [kept, 1])
"""
AFTER = """
import json, os, signal, sys
pid, kept, dropped, mask = json.loads(sys.argv[1])
def is_open(fd):
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
came = []
signal.signal(signal.SIGUSR1, lambda *_: came.append("here"))
held = list(came)
signal.pthread_sigmask(signal.SIG_SETMASK, mask)
same = os.getpid() == pid
print(json.dumps([same, is_open(kept), is_open(dropped), held, came, mask]))
"""


def test_the_pid_the_named_descriptors_and_pending_signals_live_on() -> None:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE, AFTER],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    same, kept, dropped, held, came, mask = json.loads(done.stdout)
    assert (same, kept, dropped) == (True, True, False)
    assert (held, came) == ([], ["here"])
    assert mask == []


def test_what_cannot_be_executed_changes_nothing() -> None:
    read, write = os.pipe()
    try:
        with pytest.raises(OSError, match="No such file"):
            become(["/nowhere/python"], [read])
        assert not os.get_inheritable(read)
        os.close(write)
        with pytest.raises(OSError, match="Bad file descriptor"):
            become([sys.executable, "-c", ""], [read, write])
        assert not os.get_inheritable(read)
    finally:
        os.close(read)
