"""What a tree of processes has used, with those that died meanwhile."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from clusterd.bench import tree
from clusterd.bench.tree import Process, Tree, descendants, leaves

# What stands for a guard: it does as it is told, a line each. Children burn CPU time and end when
# told, or are a shell with a child of its own.
GUARD = """
import os, signal, sys, time
def burn(seconds):
    while time.process_time() < seconds: pass
children = []
for line in sys.stdin:
    word, *rest = line.split()
    if word == "burn":
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            if len(rest) > 1 and os.fork() == 0:
                burn(float(rest[1]))
                os._exit(0)
            if len(rest) > 1:
                os.wait()
            burn(float(rest[0]))
            os.write(1, b"burnt\\n")
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.close(read)
        children.append((pid, write))
    elif word == "deaf":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        os.write(1, b"deaf\\n")
    elif word == "end":
        pid, write = children.pop()
        os.close(write)
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            pass
        os.write(1, b"ended\\n")
"""


class Guard:
    """The parent of the tree that is looked at."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.pid = process.pid

    def told(self, order: str) -> None:
        """Say it, and wait until it is done."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(order + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline()


@contextmanager
def guarding() -> Iterator[Guard]:
    command = [sys.executable, "-I", "-S", "-c", GUARD]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Guard(process)


def test_what_the_dead_have_used_stays_and_the_guard_does_not_count() -> None:
    with guarding() as guard:
        looked = Tree(guard.pid)
        assert looked.look().cpu == 0.0
        guard.told("burn 0.1")
        guard.told("burn 0.2")
        both = looked.look()
        assert both.cpu == pytest.approx(0.3, abs=0.02)
        assert sorted(both.by_pid.values()) == pytest.approx([0.1, 0.2], abs=0.02)
        guard.told("end")
        after = looked.look()
        assert len(after.alive) == 1
        assert after.cpu == pytest.approx(0.3, abs=0.04)
        assert after.cpu >= both.cpu
        assert after.by_pid == pytest.approx(both.by_pid, abs=0.02)  # it keeps its own
        guard.told("burn 0.1")
        assert looked.look().cpu == pytest.approx(0.4, abs=0.05)
        guard.told("end")
        guard.told("end")


def test_who_came_and_went_between_two_looks_counts_too() -> None:
    """Its parent has waited for it: the kernel has added what it used."""
    with guarding() as guard:
        looked = Tree(guard.pid)
        looked.look()
        guard.told("burn 0.2")
        guard.told("end")
        used = looked.look()
        assert used.alive == []
        assert used.cpu == pytest.approx(0.2, abs=0.03)


def test_whose_parent_waits_for_none_keep_what_was_seen_of_them() -> None:
    with guarding() as guard:
        guard.told("deaf")
        looked = Tree(guard.pid)
        looked.look()
        guard.told("burn 0.2")
        seen = looked.look().cpu
        assert seen == pytest.approx(0.2, abs=0.02)
        guard.told("end")
        assert looked.look().cpu == seen
        guard.told("burn 0.2")
        assert looked.look().cpu == pytest.approx(0.4, abs=0.03)
        guard.told("end")


def test_a_server_s_own_children_count_once_it_has_waited_for_them() -> None:
    with guarding() as guard:
        looked = Tree(guard.pid)
        looked.look()
        guard.told("burn 0 0.2")
        used = looked.look()
        assert used.cpu == pytest.approx(0.2, abs=0.03)
        assert sum(used.by_pid.values()) == pytest.approx(0.0, abs=0.02)
        guard.told("end")
        assert looked.look().cpu == pytest.approx(0.2, abs=0.05)


def test_what_was_used_before_the_first_look_does_not_count() -> None:
    with guarding() as guard:
        guard.told("burn 0.1")
        looked = Tree(guard.pid)
        looked.look()
        assert looked.look().cpu == pytest.approx(0.0, abs=0.02)
        guard.told("end")
        assert looked.look().cpu == pytest.approx(0.0, abs=0.03)


def test_descendants_are_found_with_and_without_the_kernel_s_lists(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with guarding() as guard:
        guard.told("burn 0")
        [one] = descendants(guard.pid)
        assert one.parent == guard.pid
        assert one.alive
        monkeypatch.setattr(tree, "_TOLD_BY_PARENT", False)
        assert [other.pid for other in descendants(guard.pid)] == [one.pid]
        guard.told("end")
        assert descendants(guard.pid) == []


def test_a_process_that_is_gone_is_nothing() -> None:
    done = subprocess.Popen([sys.executable, "-c", ""])
    done.wait()
    assert tree.process(done.pid) is None
    assert tree.pss([done.pid]) == 0
    with pytest.raises(OSError, match="Invalid argument"):
        tree.cpu(done.pid)


def test_memory_is_shared_out() -> None:
    """Ours is at least what Python itself takes, and not counted twice for two looks."""
    own = tree.pss([os.getpid()])
    assert 5_000_000 < own < 2_000_000_000
    assert own < tree.pss([os.getpid(), os.getppid()])


def test_workers_are_the_leaves_but_not_python_s_own_helpers() -> None:
    helper = "from multiprocessing.resource_tracker import main; print(flush=True); input()"
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", helper], stdin=pipe, stdout=pipe) as process:
        assert process.stdout is not None
        process.stdout.readline()  # its command line is there from now on
        seen = [
            Process(1, "S", 0, 0.0, 0),
            Process(2, "S", 1, 0.0, 0),
            Process(3, "S", 1, 0.0, 0),
            Process(4, "S", 3, 0.0, 0),
            Process(process.pid, "S", 1, 0.0, 0),
        ]
        assert leaves(seen) == [2, 4]
        assert process.stdin is not None
        process.stdin.write(b"\n")
    assert leaves([Process(os.getpid(), "S", 0, 0.0, 0)]) == [os.getpid()]
