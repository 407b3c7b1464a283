"""A singleton's lock: one at a time, whoever goes first, with nothing left behind."""

import fcntl
import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from clusterd.ipc.messages import Drain
from clusterd.keeper.lock import Lock, holders
from tests.support.keeping import is_gone, keeping, settings
from tests.support.ordinary import Unavailable, as_ordinary_user

ME = os.getpid()
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
# Takes the lock, hands it on to another process, says who that is, and ends.
ABANDON = """
import subprocess, sys
from clusterd.keeper.lock import Lock
lock = Lock(int(sys.argv[1]))
assert lock.take()
left = subprocess.Popen(["sleep", "60"], stdout=2, pass_fds=[lock.fileno()])
print(left.pid)
"""
# Takes the lock, says so, and waits for the end of its input.
TAKE = """
import sys
from clusterd.keeper.lock import Lock
lock = Lock(int(sys.argv[1]))
assert lock.take()
print(flush=True)
sys.stdin.read()
"""
Opened = Callable[[], Lock]


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[Opened]:
    """The lock's file, opened anew by each call, as the master does for each keeper."""
    locks: list[Lock] = []

    def open_anew() -> Lock:
        locks.append(Lock(os.open(tmp_path / "lock", os.O_RDWR | os.O_CREAT)))
        return locks[-1]

    yield open_anew
    for lock in locks:
        os.close(lock.fileno())


def program(code: str, lock: Lock) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, str(lock.fileno())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=[lock.fileno()],
        text=True,
    )


def test_who_has_it_keeps_it_from_others_until_the_last_copy_is_closed(opened: Opened) -> None:
    first, second = opened(), opened()
    assert first.take()
    assert not second.take()
    copy = os.dup(first.fileno())
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), first.fileno())
    assert not second.take()
    os.close(copy)
    assert second.take()


def test_who_has_it_is_known_and_who_only_opened_it_is_not_taken_for_that(opened: Opened) -> None:
    lock, taken = opened(), opened()
    assert list(holders(lock.fileno())) == []
    assert taken.take()
    assert list(holders(lock.fileno())) == [(ME, ME)]


def test_the_end_of_the_keeper_that_has_it_is_waited_for(opened: Opened) -> None:
    lock, theirs = opened(), opened()
    with program(TAKE, theirs) as keeper:
        assert keeper.stdout is not None
        keeper.stdout.readline()
        waiting = lock.wait()
        assert waiting is not None
        assert lock.holder == keeper.pid
        assert lock.end_abandoned() == [], "its keeper lives"
        assert select.select([waiting], [], [], 0) == ([], [], [])
        with open("/dev/null", "rb") as null:
            os.dup2(null.fileno(), theirs.fileno())  # our copy of what it has locked
        keeper.communicate()
        assert select.select([waiting], [], [], 30)[0] == [waiting]
        os.close(waiting)
    assert lock.take()


def test_nobody_to_wait_for(opened: Opened) -> None:
    lock = opened()
    assert lock.wait() is None
    assert lock.holder == 0
    assert lock.end_abandoned() == []


def test_what_a_dead_keeper_left_is_ended(opened: Opened) -> None:
    """Its program may have handed the lock on to a process that the kernel does not end."""
    lock, theirs = opened(), opened()
    with program(ABANDON, theirs) as keeper:
        left = int(keeper.communicate()[0])
    with open("/dev/null", "rb") as null:
        os.dup2(null.fileno(), theirs.fileno())
    assert not lock.take()
    assert lock.wait() is None
    assert list(holders(lock.fileno())) == [(left, keeper.pid)]
    assert lock.end_abandoned() == [left]
    assert is_gone(left)
    assert lock.take()


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_holder_that_may_not_be_looked_at_is_stood_by_for(tmp_path: Path) -> None:
    """As in a reload that changes the user: the keeper before is the other user's."""
    try:
        wrapper = as_ordinary_user()
    except Unavailable as error:
        pytest.skip(str(error))
    config = settings("/bin/sleep", "60", place=tmp_path, singleton=True)
    command, log = replace(config.command, directory="/"), replace(config.log, log_level="debug")
    config = replace(config, command=command, log=log)
    with (
        open(tmp_path / "lock", "wb") as held,
        keeping(tmp_path, config, wrapper=wrapper) as zygote,
    ):
        fcntl.flock(held, fcntl.LOCK_EX)
        keeper = zygote.keeper().ready()
        zygote.until_logged("standing by")
        assert keeper.program == 0
        fcntl.flock(held, fcntl.LOCK_UN)
        zygote.until_logged('"started"')
        assert keeper.drain()


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
