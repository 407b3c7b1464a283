"""The threads that plain functions run in."""

import threading

import pytest

from clusterd.jobs.threads import Threads


def test_a_free_thread_is_used_again_and_a_busy_one_is_not_waited_for() -> None:
    before = set(threading.enumerate())
    threads, gate = Threads(), threading.Event()
    stuck = threads.submit(gate.wait)
    for _ in range(20):
        threads.submit(threading.get_ident).result(30)
    # A thread is free a moment after its result is there, so more than two may have been started.
    assert len(set(threading.enumerate()) - before) < 20
    assert not stuck.done()
    gate.set()
    assert stuck.result(30) is True
    threads.close()


def test_they_keep_no_process_from_leaving() -> None:
    threads = Threads()
    assert threads.submit(lambda: threading.current_thread().daemon).result(30)
    threads.close()


def test_an_error_is_the_callers_and_what_runs_is_not_cancelled() -> None:
    threads, gate = Threads(), threading.Event()

    def leave() -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        threads.submit(leave).result(30)
    assert threads.submit(lambda: 1).result(30) == 1
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        gate.wait()

    running = threads.submit(wait)
    assert begun.wait(30)
    assert not running.cancel()
    gate.set()
    running.result(30)
    threads.close()


def test_they_end_when_they_are_closed() -> None:
    threads = Threads()
    thread = threads.submit(threading.current_thread).result(30)
    threads.close()
    thread.join(30)
    assert not thread.is_alive()
