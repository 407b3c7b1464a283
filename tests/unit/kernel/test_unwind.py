"""Stacks read from another process's memory."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from clusterd.core.stacks import fold
from clusterd.kernel.unwind import stacks_from_outside, text

MAIN = 32  # the flag's value on Python 3.15
able = pytest.mark.skipif(sys.version_info < (3, 15), reason="only newer Pythons can")
WAITING = """
import threading

def stay():
    print(flush=True)
    done.wait()

def wait():
    input()
    done.set()

done = threading.Event()
threading.Thread(target=stay).start()
wait()
"""


def frame(name: str, line: int | None) -> SimpleNamespace:
    location = None if line is None else SimpleNamespace(lineno=line)
    return SimpleNamespace(filename="/srv/shop.py", location=location, funcname=name)


def test_the_main_thread_comes_first_and_frames_read_like_those_of_faulthandler() -> None:
    other = SimpleNamespace(thread_id=7, status=4, frame_info=[frame("spin", 3)])
    main = SimpleNamespace(
        thread_id=5, status=36, frame_info=[frame("inner", 9), frame("<C>", None), frame("app", 2)]
    )
    found = text([SimpleNamespace(threads=[other, main])], MAIN)
    assert found.splitlines() == [
        "thread MainThread",
        '  File "/srv/shop.py", line 9 in inner',
        '  File "/srv/shop.py", line 2 in app',
        "thread 7",
        '  File "/srv/shop.py", line 3 in spin',
    ]
    assert fold(found) == found.splitlines()


@able
def test_a_process_that_runs_nothing_is_read() -> None:
    command = [sys.executable, "-c", WAITING]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        found = stacks_from_outside(child.pid)
        child.communicate(b"\n")
    assert found.startswith("thread MainThread\n")
    assert ' in wait\n  File "<string>", line 14 in <module>\n' in found
    assert " in stay\n" in found


def test_what_cannot_be_read_is_empty() -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
        assert stacks_from_outside(child.pid) == ""
