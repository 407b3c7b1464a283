"""A singleton's lock: one at a time, whoever goes first, with nothing left behind."""

import os
import select
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.core.errors import AppError
from clusterd.ipc.messages import Drain
from clusterd.keeper.lock import Lock, holders, inode_of, place
from clusterd.kernel.fork import fork_into
from clusterd.kernel.process import start_ticks
from tests.support.keeping import is_gone, keeping, settings

ME = (os.getpid(), start_ticks(os.getpid()))
DIARY = """
import os, signal, sys
def tell(word):
    with open("diary", "a") as diary:
        diary.write(f"{word} {os.getpid()}\\n")
signal.signal(15, lambda *_: (tell("end"), os._exit(0)))
tell("start")
print("up")
while True:
    signal.pause()
"""


@pytest.fixture
def name(tmp_path: Path) -> str:
    return place(str(tmp_path), "clusterd", ME)


def test_who_has_it_keeps_it_from_others_until_the_last_copy_is_closed(name: str) -> None:
    first, second, other = Lock(name, "crew"), Lock(name, "crew"), Lock(name, "other")
    assert first.take()
    assert other.take()
    assert not second.take()
    waiting = second.wait()
    assert waiting is not None
    assert second.holder == os.getpid()
    assert first.sock is not None
    copy = os.dup(first.fileno())
    first.sock.close()
    assert not second.take()
    assert select.select([waiting], [], [], 0) == ([], [], [])
    os.close(copy)
    assert select.select([waiting], [], [], 30)[0] == [waiting]
    assert second.take()
    for one in (waiting, second.sock, other.sock):
        assert one is not None
        one.close()
    assert inode_of(second.address) == 0


def test_nobody_to_wait_for(name: str) -> None:
    assert Lock(name, "crew").wait() is None


def test_those_who_wait_are_taken_in(name: str) -> None:
    """Or a queue of waiters that gave up would fill, in the long life of whoever has it."""
    lock, waiter = Lock(name, "crew"), Lock(name, "crew")
    assert lock.take()
    assert lock.sock is not None
    for _ in range(300):
        sock = waiter.wait()
        assert sock is not None
        (visitor,) = lock.visitors()
        sock.close()
        assert visitor.recv(1) == b""
        visitor.close()
    lock.sock.close()


def test_what_a_dead_keeper_left_is_ended(name: str) -> None:
    """Its program may have handed the lock on to a process that the kernel does not end."""
    code = """
import subprocess, sys
from clusterd.keeper.lock import Lock
lock = Lock(sys.argv[1], "crew")
assert lock.take()
left = subprocess.Popen(["sleep", "60"], stdout=2, pass_fds=[lock.fileno()])
print(left.pid)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, name], stdout=subprocess.PIPE, text=True, check=True
    )
    left = int(done.stdout)
    lock = Lock(name, "crew")
    assert not lock.take()
    waiting = lock.wait()
    assert waiting is not None
    assert holders(inode_of(lock.address)) == [left]
    assert lock.end_abandoned() == [left]
    assert select.select([waiting], [], [], 30)[0]
    assert lock.take()
    assert lock.sock is not None
    waiting.close()
    lock.sock.close()


def test_who_has_it_with_a_living_keeper_is_left_alone(name: str) -> None:
    lock, waiter = Lock(name, "crew"), Lock(name, "crew")
    assert lock.take()
    waiting = waiter.wait()
    assert waiter.end_abandoned() == []
    assert waiting is not None
    assert lock.sock is not None
    waiting.close()
    lock.sock.close()


def test_another_users_process_does_not_stand_in_the_way_in_silence(name: str) -> None:
    if os.geteuid() != 0:
        pytest.skip("only the superuser can become another user")
    lock = Lock(name, "crew")
    ready, tell = socket.socketpair()

    def squat() -> int:
        os.setuid(65534)
        squatter = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        squatter.bind(lock.address)
        squatter.listen()
        tell.send(b"!")
        signal.pause()
        return 0

    pid = fork_into(squat)
    assert ready.recv(1)
    try:
        assert not lock.take()
        with pytest.raises(AppError, match=f"held by process {pid} of user 65534"):
            lock.wait()
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        ready.close()
        tell.close()


def test_clusters_are_told_apart_by_their_runtime_directory(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    here = place(str(tmp_path), "clusterd", ME)
    assert here == place(f"{other}/..", "clusterd", (1, 1))
    assert len({here, place(str(other), "clusterd", ME), place(str(tmp_path), "two", ME)}) == 3
    assert place(None, "clusterd", ME) == place(str(tmp_path / "no"), "clusterd", ME)
    assert place(None, "clusterd", ME) != place(None, "clusterd", (1, 1))


def test_keepers_take_turns(tmp_path: Path) -> None:
    """One stands by, and says so, until the other's program has ended, however it did."""
    config = settings(DIARY, place=tmp_path, singleton=True, readiness="line:up")
    with keeping(tmp_path, config) as zygote:
        first = zygote.keeper().ready()
        one = first.program
        second = zygote.keeper().ready()
        third = zygote.keeper().ready()
        assert second.program == third.program == 0
        assert third.drain()  # while it stands by
        first.drain()
        zygote.until_logged("standing by")
        two = _pid_after(tmp_path / "diary", ["start", one, "end", one, "start"])
        os.kill(second.pid, signal.SIGKILL)
        second.rest()
        fourth = zygote.keeper().ready()
        _pid_after(tmp_path / "diary", ["start", one, "end", one, "start", two, "start"])
        assert is_gone(two)
        fourth.drain()


def _pid_after(diary: Path, words: list[object]) -> int:
    """The pid after these words, once it is there."""
    found: list[str] = []
    while len(found) <= len(words) or not diary.read_text().endswith("\n"):
        found = diary.read_text().split()
    assert found[: len(words)] == [str(word) for word in words]
    return int(found[len(words)])


def test_one_that_was_told_to_go_starts_nothing_though_the_lock_is_free_now(tmp_path: Path) -> None:
    """Both came while it slept, its order first."""
    config = settings("import signal; signal.pause()", place=tmp_path, singleton=True)
    config = replace(config, log=replace(config.log, log_level="debug"))
    with keeping(tmp_path, config) as zygote:
        first, second = zygote.keeper().ready(), zygote.keeper().ready()
        os.kill(second.pid, signal.SIGSTOP)
        try:
            second.say(Drain("stop", 25.0, last=True))
            first.drain()
            assert is_gone(first.pid)
        finally:
            os.kill(second.pid, signal.SIGCONT)
        second.rest()
        assert zygote.log.read_text().count('"started"') == 1
