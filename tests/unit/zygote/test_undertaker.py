"""When the master is gone: our socket files go, those of others stay, stragglers are killed."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from clusterd.ipc.scoreboard import USED, Cell, Scoreboard
from clusterd.kernel.process import signal_group, start_ticks
from clusterd.zygote import undertaker
from clusterd.zygote.undertaker import bury, unlink_ours

Process = subprocess.Popen[bytes]


@pytest.fixture
def board() -> Iterator[Scoreboard]:
    made = Scoreboard.create()
    yield made
    os.close(made.fd)


@pytest.fixture
def processes() -> Iterator[list[Process]]:
    """Three that wait for their standard input to end."""
    code = "import sys; sys.stdin.read()"
    made = [subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE) for _ in range(3)]
    yield made
    for process in made:
        process.kill()
        process.communicate()


@pytest.fixture
def master() -> Iterator[int]:
    """A pidfd of a master that is gone."""
    process = subprocess.Popen([sys.executable, "-c", ""], stdin=subprocess.DEVNULL)
    fd = os.pidfd_open(process.pid)
    process.wait()
    yield fd
    os.close(fd)


def enter(board: Scoreboard, row: int, pid: int, ticks: int) -> None:
    board.row(row)[Cell.PID], board.row(row)[Cell.START_TICKS] = pid, ticks
    board.header[USED] = max(board.header[USED], row + 1)


def socket_file(path: Path) -> int:
    """A socket file with a lock file beside it, as a killed master leaves them; its inode."""
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
    Path(f"{path}.lock").touch()
    return path.stat().st_ino


def test_files_that_are_still_ours_are_removed_with_their_locks(tmp_path: Path) -> None:
    path = tmp_path / "s"
    unlink_ours(str(path), socket_file(path))
    assert list(tmp_path.iterdir()) == []


def test_a_successors_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    inode = socket_file(path)
    unlink_ours(str(path), inode + 1)
    assert path.exists()
    assert Path(f"{path}.lock").exists()


def test_a_file_whose_lock_somebody_holds_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "s"
    inode = socket_file(path)
    with open(f"{path}.lock") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        unlink_ours(str(path), inode)
    assert path.exists()


def test_files_that_are_gone_already_are_no_matter(tmp_path: Path) -> None:
    unlink_ours(str(tmp_path / "s"), 1)


def test_who_is_left_after_the_patience_is_killed_and_nobody_else(
    board: Scoreboard, processes: list[Process], master: int, tmp_path: Path
) -> None:
    """A row of which only the pid fits belonged to a process that had the pid before."""
    stuck, stranger, unlisted = processes
    enter(board, 0, stuck.pid, start_ticks(stuck.pid))
    enter(board, 2, stranger.pid, start_ticks(stranger.pid) + 1)
    inode = socket_file(tmp_path / "s")
    before = len(os.listdir("/proc/self/fd"))
    bury(board, [(str(tmp_path / "s"), inode)], 0.0, master)
    assert stuck.wait() == -signal.SIGKILL
    assert stranger.poll() is None
    assert unlisted.poll() is None
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == before


def test_with_nobody_left_it_does_not_wait(board: Scoreboard, master: int) -> None:
    bury(board, [], 1e9, master)


def test_those_who_leave_by_themselves_are_waited_for(
    board: Scoreboard, processes: list[Process], master: int
) -> None:
    for row, process in enumerate(processes):
        enter(board, row, process.pid, start_ticks(process.pid))
        assert process.stdin is not None
        process.stdin.close()
    bury(board, [], 1e6, master)
    assert [process.wait() for process in processes] == [0, 0, 0]


def test_what_a_stuck_keepers_program_started_is_killed_with_it(
    board: Scoreboard, processes: list[Process], master: int
) -> None:
    keeper, *_ = processes
    program = subprocess.Popen(["sleep", "60"], start_new_session=True)
    enter(board, 0, keeper.pid, start_ticks(keeper.pid))
    board.row(0)[Cell.COMMAND] = program.pid
    bury(board, [], 0.0, master)
    assert keeper.wait() == program.wait() == -signal.SIGKILL


@pytest.mark.parametrize("value", [0, 1, 2**22, 2**63, 2**64 - 1])
def test_garbage_in_the_rows_neither_stops_it_nor_misleads_it(
    board: Scoreboard,
    master: int,
    processes: list[Process],
    monkeypatch: pytest.MonkeyPatch,
    value: int,
) -> None:
    """Every row can be written by every worker. kill(2) takes the group 1 for all processes."""
    sent: list[int] = []

    def recorded(leader: int, number: int) -> None:
        signal_group(leader, number, lambda group, _number: sent.append(group))

    monkeypatch.setattr(undertaker, "signal_group", recorded)
    board.cells[:] = memoryview(value.to_bytes(8, "little") * len(board.cells)).cast("Q")
    enter(board, 3, processes[0].pid, start_ticks(processes[0].pid))
    board.header[USED] = max(value, 4)
    bury(board, [], 0.0, master)
    assert processes[0].wait() == -signal.SIGKILL
    assert all(other.poll() is None for other in processes[1:])
    assert set(sent) <= {value}
    assert not {0, 1, 2**63, 2**64 - 1} & set(sent)
