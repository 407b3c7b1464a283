"""A pid is no identity: with the start time it is, and a pidfd cannot mean anybody else."""

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from clusterd.kernel import command
from clusterd.kernel.fork import fork_into
from clusterd.kernel.process import is_alive, kill_pidfd, open_pidfd, start_ticks


@pytest.fixture
def child() -> Iterator[subprocess.Popen[bytes]]:
    """A process that waits for its standard input to end, under a name with brackets in it."""
    code = "import sys; open('/proc/self/comm', 'w').write('a) b (c'); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        process.kill()


def test_a_process_is_known_by_its_start_time(child: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(child.pid)
    assert ticks > 0
    assert is_alive(child.pid, ticks)
    assert not is_alive(child.pid, ticks - 1), "another one had this pid before"


def test_who_is_gone_is_nobody(child: subprocess.Popen[bytes]) -> None:
    ticks = start_ticks(child.pid)
    child.kill()
    child.wait()
    assert start_ticks(child.pid) == 0
    assert not is_alive(child.pid, ticks)
    assert open_pidfd(child.pid, ticks) is None


def test_no_descriptor_for_a_pid_that_is_another_ones_now(child: subprocess.Popen[bytes]) -> None:
    before = len(os.listdir("/proc/self/fd"))
    assert open_pidfd(child.pid, start_ticks(child.pid) + 1) is None
    assert open_pidfd(0, 0) is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_pidfd_kills_its_process_and_once_it_is_gone_nobody(
    child: subprocess.Popen[bytes],
) -> None:
    fd = open_pidfd(child.pid, start_ticks(child.pid))
    assert fd is not None
    kill_pidfd(fd)
    assert child.wait() == -signal.SIGKILL
    kill_pidfd(fd)
    os.close(fd)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_process_of_another_user_stays_and_that_is_no_error() -> None:
    own = os.getpid()

    def as_another_user() -> int:
        os.setuid(pwd.getpwnam("nobody").pw_uid)
        fd = open_pidfd(own, start_ticks(own))
        assert fd is not None
        kill_pidfd(fd)
        return 7

    pid = fork_into(as_another_user)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_all_below_a_process_are_found_parents_first() -> None:
    script = (
        "import subprocess\nwith subprocess.Popen(['sleep', '600']) as child:\n"
        "    print(child.pid, flush=True)\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        grandchild = int(child.stdout.readline())
        try:
            found = command.descendants(os.getpid())
            assert found.index(child.pid) < found.index(grandchild)
            assert command.descendants(child.pid) == [grandchild]
        finally:
            os.kill(grandchild, signal.SIGKILL)
