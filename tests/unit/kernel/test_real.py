"""Whom the master signals: children that were not reaped, and groups of none but those."""

import os
import signal
import subprocess
from collections.abc import Iterator

import pytest

from clusterd.kernel.process import PID_LIMIT, signal_group
from clusterd.kernel.real import Kernel

NO_PIDS = [0, -1, 2**31, 2**63, 2**64 - 1]
Process = subprocess.Popen[bytes]


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    with made._wakeup:  # which closes it
        yield made
    made._selector.close()


@pytest.fixture
def program() -> Iterator[Process]:
    """A child of ours that leads a process group, until its standard input ends."""
    with subprocess.Popen(
        ["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        process.kill()


def is_alive(process: Process) -> bool:
    """Ask it for a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(b"yes\n")
        process.stdin.flush()
    except BrokenPipeError:
        return False
    return process.stdout.readline() == b"yes\n"


def test_a_child_is_known_by_the_kernel_alone(kernel: Kernel, program: Process) -> None:
    assert kernel.is_child(program.pid)
    assert not kernel.is_child(os.getpid())
    assert not kernel.is_child(1)
    assert not any(map(kernel.is_child, NO_PIDS))
    program.kill()
    os.waitid(os.P_PID, program.pid, os.WEXITED | os.WNOWAIT)
    assert kernel.is_child(program.pid), "until it is reaped, nobody else has its pid"
    program.wait()
    assert not kernel.is_child(program.pid)


def test_a_child_that_was_reaped_is_ours_in_that_turn_and_is_not_signalled(
    kernel: Kernel, program: Process
) -> None:
    """Its hello may be heard after its end; its pid may be another's."""
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert pid in {death.pid for death in kernel.reap()}
    assert kernel.is_child(pid)
    kernel._reaped.add(program.pid)  # as if it had that pid by now
    kernel.kill(program.pid, signal.SIGKILL)
    assert is_alive(program)
    kernel.wait(0)
    assert not kernel.is_child(pid), "in the next turn it may be anybody"
    kernel.kill(program.pid, signal.SIGKILL)
    assert program.wait() == -signal.SIGKILL


def test_a_group_is_killed_where_it_is_of_children_that_nobody_knows(
    kernel: Kernel, program: Process
) -> None:
    for leader in [*NO_PIDS, 1, os.getpgrp()]:
        kernel.kill_group(leader, "", set())
    kernel.kill_group(program.pid, "", {program.pid})
    assert is_alive(program), "that was a worker, or a zygote"
    kernel.kill_group(program.pid, "", set())
    assert program.wait() == -signal.SIGKILL


def test_a_group_of_processes_that_are_no_children_of_ours_is_let_be(
    kernel: Kernel, program: Process
) -> None:
    """A row may name any process: the program of another group, which lives under its keeper."""
    pid = os.fork()
    if pid == 0:
        kernel.kill_group(program.pid, "", set())
        os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
    assert is_alive(program)


@pytest.mark.parametrize("leader", [0, 1, -1, PID_LIMIT, 2**64 - 1])
def test_no_group_is_signalled_by_a_number_that_means_many(
    leader: int,
) -> None:
    """kill(2): 0 is our own group, and the group 1 is every process there is."""
    sent: list[tuple[int, int]] = []
    for one in (leader, os.getpgrp()):
        signal_group(one, signal.SIGKILL, lambda *call: sent.append(call))
    assert sent == []
