"""The kernel's timer, and signals to one thread: real ones, in this process."""

import contextlib
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from clusterd.kernel import threads
from clusterd.kernel.fork import fork_into
from clusterd.kernel.signals import FAULT_SIGNAL
from clusterd.kernel.timer import Timer


@pytest.fixture
def pipe() -> Iterator[int]:
    """What faulthandler writes."""
    read, write = os.pipe()
    faulthandler.register(FAULT_SIGNAL, file=write, all_threads=False, chain=False)
    yield read
    faulthandler.unregister(FAULT_SIGNAL)
    os.close(read)
    os.close(write)


@pytest.fixture
def timer() -> Iterator[Timer]:
    made = Timer(FAULT_SIGNAL)
    yield made
    made.close()


def dump_in(pipe: int, words: bytes) -> bytes:
    """What was written up to these words; it comes in pieces."""
    text = b""
    while words not in text:
        text += os.read(pipe, 4096)
    return text


def drain(pipe: int) -> None:
    """Throw away what is left of a dump."""
    with contextlib.suppress(BlockingIOError):
        while os.read(pipe, 4096):
            pass


def stand_still(lock: threading.Lock, timer: Timer) -> None:
    timer.arm(0.01)
    lock.acquire(timeout=20.0)


def test_a_thread_that_stands_still_is_dumped(pipe: int, timer: Timer) -> None:
    lock = threading.Lock()
    lock.acquire()
    got: list[bytes] = []

    def let_go() -> None:
        got.append(dump_in(pipe, b"in stand_still"))
        lock.release()

    watcher = threading.Thread(target=let_go)
    watcher.start()
    stand_still(lock, timer)
    watcher.join()
    assert got


def test_armed_again_it_waits_anew_and_disarmed_for_ever(pipe: int, timer: Timer) -> None:
    timer.arm(60.0)
    timer.arm(0.001)
    assert dump_in(pipe, b"test_armed_again")
    os.set_blocking(pipe, False)
    drain(pipe)
    timer.arm(0.005)
    timer.disarm()
    drain(pipe)  # on a busy machine it may have gone off
    wait_for_tick()
    with pytest.raises(BlockingIOError):
        os.read(pipe, 4096)


def wait_for_tick() -> None:
    """Let a moment pass in which a timer of 5 ms would go off."""
    end = time.monotonic() + 0.02
    while time.monotonic() < end:
        pass


def test_a_child_has_no_timer(pipe: int, timer: Timer) -> None:
    timer.arm(0.01)

    def wait() -> int:
        signal.signal(FAULT_SIGNAL, signal.SIG_DFL)  # it would end it
        wait_for_tick()
        return 7

    pid = fork_into(wait)
    timer.disarm()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7


def test_one_thread_of_several_is_signalled(pipe: int) -> None:
    ready, done = threading.Event(), threading.Event()

    def in_here() -> None:
        ready.set()
        done.wait()

    thread = threading.Thread(target=in_here)
    thread.start()
    ready.wait()
    assert thread.native_id in threads.of(os.getpid())
    assert threads.of(os.getpid())[0] == os.getpid()
    assert thread.native_id is not None
    assert threads.kill(os.getpid(), thread.native_id, FAULT_SIGNAL)
    assert dump_in(pipe, b"in in_here")
    done.set()
    thread.join()
    assert not threads.kill(os.getpid(), 2**22 + 1, FAULT_SIGNAL)


def test_the_time_of_a_thread() -> None:
    before = threads.ran(threading.get_native_id())
    while threads.ran(threading.get_native_id()) < before + 0.02:
        pass
    assert threads.ran(2**22 + 1) == 0.0
    assert threads.of(2**22 + 1) == []
