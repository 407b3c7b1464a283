"""Whom the master signals: children that were not reaped, and groups of none but those."""

import contextlib
import ctypes
import os
import pwd
import select
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from math import inf

import pytest

from clusterd.kernel import traced
from clusterd.kernel.process import PID_LIMIT, signal_group
from clusterd.kernel.real import SIGNALS, Death, Kernel
from clusterd.kernel.traced import HOPELESS, LOOK, Expected

LIBC = ctypes.CDLL(None, use_errno=True)
PTRACE_SEIZE, TRACEEXIT = 0x4206, 1 << 6  # ptrace(2)
PR_SET_PTRACER = 0x59616D61
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


def test_a_group_is_killed_with_the_rights_of_its_user_alone(
    kernel: Kernel, program: Process
) -> None:
    """A master that is no superuser has no others, and needs no other process for it."""
    if os.geteuid() != 0:
        kernel.kill_group(program.pid, pwd.getpwuid(os.geteuid()).pw_name, set())
        assert program.wait() == -signal.SIGKILL
        return
    kernel.kill_group(program.pid, "nobody", set())
    killer = os.waitid(os.P_ALL, 0, os.WEXITED)
    assert killer is not None
    assert killer.si_pid != program.pid
    assert is_alive(program), "it is root's"


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


class Tracer:
    """A process that traces what it is asked to, and does not wait for it."""

    def __init__(self, is_below: bool = True, in_thread: bool = False) -> None:
        self.sock, theirs = socket.socketpair()
        pid = os.fork()
        if pid == 0:
            if not is_below and os.fork():
                os._exit(0)
            LIBC.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))  # where yama restricts tracers
            if in_thread:
                threading.Thread(target=self._serve, args=[theirs]).start()
                signal.pause()
            self._serve(theirs)
        theirs.close()
        self.pid = int(self.sock.recv(64))
        self.fd = os.pidfd_open(self.pid)
        if not is_below:
            os.waitpid(pid, 0)

    def _serve(self, sock: socket.socket) -> None:
        os.closerange(3, sock.fileno())
        os.closerange(sock.fileno() + 1, 4096)
        sock.send(b"%d" % os.getpid())
        while words := sock.recv(64):
            pid, options = map(int, words.split())
            sock.send(b"%d" % LIBC.ptrace(PTRACE_SEIZE, pid, None, ctypes.c_void_p(options)))
        os._exit(0)

    def trace(self, pid: int, options: int) -> None:
        self.sock.send(b"%d %d" % (pid, options))
        assert self.sock.recv(64) == b"0"

    def has_ended(self) -> bool:
        return bool(select.select([self.fd], [], [], 0)[0])

    def end(self) -> None:
        self.sock.close()
        select.select([self.fd], [], [])
        os.close(self.fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


@pytest.fixture
def tracer(request: pytest.FixtureRequest) -> Iterator[Tracer]:
    found = Tracer(is_below=request.param)
    yield found
    found.end()


BELOW = pytest.mark.parametrize("tracer", [True], indirect=True)
STRANGER = pytest.mark.parametrize("tracer", [False], indirect=True)
BOTH = pytest.mark.parametrize("tracer", [True, False], indirect=True)


@pytest.fixture
def child() -> Iterator[tuple[int, int]]:
    """The pid of a child, and a descriptor at whose end it exits with status 7."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        LIBC.prctl(PR_SET_PTRACER, ctypes.c_ulong(-1))  # where yama restricts tracers
        os.close(write)
        os.read(read, 1)
        os._exit(7)
    os.close(read)
    yield pid, write
    with contextlib.suppress(OSError):
        os.close(write)
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0)


def until_reported(kernel: Kernel, pid: int) -> Death:
    """Wait as the master does, until a child's end is reported."""
    while True:
        kernel.wait(None)
        for death in kernel.reap():
            if death.pid == pid:
                return death


@BOTH
def test_the_end_of_a_killed_child_is_reported_though_a_tracer_hides_it(
    kernel: Kernel, child: tuple[int, int], tracer: Tracer
) -> None:
    """The kernel reports it to the tracer alone, which never waits for it."""
    tracer.trace(child[0], 0)
    kernel.kill(child[0], signal.SIGKILL)
    assert until_reported(kernel, child[0]) == Death(child[0], -signal.SIGKILL)


@BOTH
def test_the_end_of_a_child_that_closed_its_channel_is_reported_though_a_tracer_hides_it(
    kernel: Kernel, child: tuple[int, int], tracer: Tracer
) -> None:
    tracer.trace(child[0], 0)
    os.close(child[1])
    kernel.expect_end(child[0])
    assert until_reported(kernel, child[0]) == Death(child[0], 7)


@BELOW
def test_a_tracer_that_was_started_below_us_does_not_hold_a_killed_child_up(
    kernel: Kernel, child: tuple[int, int], tracer: Tracer
) -> None:
    tracer.trace(child[0], TRACEEXIT)
    kernel.kill(child[0], signal.SIGKILL)
    assert until_reported(kernel, child[0]).code == -signal.SIGKILL
    assert tracer.has_ended()


def test_a_tracer_that_another_process_traces_does_not_hold_a_killed_child_up(
    kernel: Kernel, child: tuple[int, int]
) -> None:
    """SIGKILL alone does not end it: the other holds it at its exit."""
    first, second = Tracer(), Tracer()
    try:
        first.trace(child[0], TRACEEXIT)
        second.trace(first.pid, TRACEEXIT)
        kernel.kill(child[0], signal.SIGKILL)
        assert until_reported(kernel, child[0]).code == -signal.SIGKILL
        assert first.has_ended()
        assert second.has_ended()
    finally:
        second.end()
        first.end()


def test_a_child_that_tracers_hold_up_for_ever_is_given_up(
    child: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here by more tracers than are looked at. Two that trace each other would stay for ever."""
    expected, first, second = Expected(), Tracer(), Tracer()
    monkeypatch.setattr(traced, "LONGEST", 1)
    try:
        first.trace(child[0], TRACEEXIT)
        second.trace(first.pid, TRACEEXIT)
        os.kill(child[0], signal.SIGKILL)
        expected.add(child[0], 0.0, killed=True)
        assert expected.ended(LOOK) == []
        assert expected.due == 2 * LOOK
        assert expected.ended(HOPELESS) == [(child[0], signal.SIGKILL)]
        assert expected.due == inf
    finally:
        second.end()
        first.end()


@STRANGER
def test_a_child_that_a_debugger_of_the_operators_holds_up_is_not_given_up(
    child: tuple[int, int], tracer: Tracer
) -> None:
    expected = Expected()
    tracer.trace(child[0], TRACEEXIT)
    os.kill(child[0], signal.SIGKILL)
    expected.add(child[0], 0.0, killed=True)
    assert expected.ended(100 * HOPELESS) == []
    assert expected.due < inf


def test_a_thread_that_traces_is_taken_for_its_process(
    kernel: Kernel, child: tuple[int, int]
) -> None:
    """The kernel names the thread; it cannot be killed as a process can."""
    tracer = Tracer(in_thread=True)
    try:
        tracer.trace(child[0], TRACEEXIT)
        assert kernel.own_tracer(child[0]) == tracer.pid
        kernel.kill(child[0], signal.SIGKILL)
        assert until_reported(kernel, child[0]).code == -signal.SIGKILL
        assert tracer.has_ended()
    finally:
        tracer.end()


@STRANGER
def test_a_debugger_of_the_operators_is_not_killed(
    kernel: Kernel, child: tuple[int, int], tracer: Tracer
) -> None:
    tracer.trace(child[0], TRACEEXIT)
    kernel.kill(child[0], signal.SIGKILL)
    for _ in range(2):
        assert kernel.wait(None) == [SIGNALS]
        assert kernel.reap() == []
    assert not tracer.has_ended()
    tracer.sock.shutdown(socket.SHUT_RDWR)
    assert until_reported(kernel, child[0]).code == -signal.SIGKILL


@BOTH
def test_a_tracer_is_known_where_it_was_started_below_us(
    kernel: Kernel, child: tuple[int, int], tracer: Tracer, request: pytest.FixtureRequest
) -> None:
    assert kernel.own_tracer(child[0]) == 0
    tracer.trace(child[0], 0)
    is_below = request.node.callspec.params["tracer"]
    assert kernel.own_tracer(child[0]) == (tracer.pid if is_below else 0)


def test_a_child_that_lives_on_without_a_channel_is_looked_at_once(
    kernel: Kernel, program: Process
) -> None:
    kernel.expect_end(program.pid)
    assert kernel.wait(None) == [SIGNALS]
    assert kernel.reap() == []
    assert kernel.wait(0) == []
    assert kernel._expected.due == inf
    assert is_alive(program)
