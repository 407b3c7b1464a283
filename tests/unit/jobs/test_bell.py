"""Bells wake processes that wait, for changes that concern them."""

import os
import select
from collections.abc import Callable
from pathlib import Path

import pytest

from clusterd.jobs.bell import FileBell
from clusterd.jobs.records import Filter
from clusterd.jobs.states import Event
from clusterd.jobs.store import Bell
from clusterd.kernel.inotify import ATTRIBUTES, IGNORED, Inotify
from tests.support.job_stores import OWNER, SECOND, Desk
from tests.support.stores import LIMIT


def rings(bell: Bell) -> bool:
    """Return whether a bell has rung, and drain it. inotify(7) reports before the call returns.

    One behind a network is waited for: here it always rings, at first when it listens.
    """
    poll = select.poll()
    poll.register(bell.fileno(), select.POLLIN)
    rung = bool(poll.poll(1000 * LIMIT if type(bell).__name__ == "RedisBell" else 0))
    bell.drain()
    assert not poll.poll(0)
    return rung


def running(desk: Desk) -> None:
    desk.add()
    desk.one()


def outcome(event: Event) -> Callable[[Desk], None]:
    def action(desk: Desk) -> None:
        desk.finish(desk.one(), event, run_at=desk.clock.now + SECOND)

    return action


def due(desk: Desk) -> None:
    desk.clock.move(1)
    desk.promote()


ENQUEUE_LATER: Callable[[Desk], object] = lambda desk: desk.add(run_at=desk.clock.now + SECOND)  # noqa: E731


@pytest.mark.parametrize(
    ("before", "action"),
    [
        (lambda _: None, lambda desk: desk.add()),
        (lambda _: None, ENQUEUE_LATER),
        (lambda desk: desk.add(), outcome(Event.FAILED)),
        (lambda desk: desk.add(), outcome(Event.RETURNED)),
        (running, lambda desk: desk.run(desk.store.release([OWNER.key], ""))),
        (running, lambda desk: desk.run(desk.store.cancel(Filter()))),
        (ENQUEUE_LATER, due),
        (ENQUEUE_LATER, lambda desk: desk.run(desk.store.run_now(Filter()))),
        (lambda _: None, lambda desk: desk.run(desk.store.pause("default", False))),
    ],
    ids=["enqueue", "later", "failed", "returned", "released", "cancel", "due", "run-now", "go-on"],
)
def test_workers_and_schedulers_are_woken(
    desk: Desk, before: Callable[[Desk], object], action: Callable[[Desk], object]
) -> None:
    bells = [desk.store.available_bell() for _ in range(2)]
    before(desk)
    for bell in bells:
        rings(bell)
    action(desk)
    assert [rings(bell) for bell in bells] == [True, True]
    for bell in bells:
        bell.close()


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.EXHAUSTED, Event.CANCEL])
def test_those_that_wait_for_a_result_are_woken(desk: Desk, event: Event) -> None:
    desk.add()
    bell = desk.store.finished_bell()
    rings(bell)
    outcome(event)(desk)
    assert rings(bell)
    bell.close()


def test_expired_and_cancelled_jobs_are_finished_too(desk: Desk) -> None:
    desk.add(expires_at=desk.clock.now + SECOND)
    desk.add()
    bell = desk.store.finished_bell()
    rings(bell)
    due(desk)
    assert rings(bell)
    desk.run(desk.store.cancel(Filter()))
    assert rings(bell)
    bell.close()


def test_a_bell_rings_for_all_bells_of_its_path_and_no_other(tmp_path: Path) -> None:
    bells = [FileBell(str(tmp_path / name)) for name in ("a", "a", "b")]
    assert [rings(bell) for bell in bells] == [False] * 3
    bells[0].ring()
    bells[0].ring()
    assert [rings(bell) for bell in bells] == [True, True, False]
    for bell in bells:
        bell.close()


def test_what_does_not_concern_workers_does_not_wake_them(desk: Desk) -> None:
    if type(desk.store).__name__ != "SqliteStore":
        pytest.skip("one in memory rings at every change; of Redis, rings are counted elsewhere")
    desk.add()
    available, finished = desk.store.available_bell(), desk.store.finished_bell()
    rings(available)
    rings(finished)
    job = desk.one()
    desk.claim()
    desk.run(desk.store.renew([OWNER.key], 1.0))
    desk.promote()
    assert (rings(available), rings(finished)) == (False, False)
    desk.finish(job, Event.SUCCEEDED)
    assert (rings(available), rings(finished)) == (False, True)
    available.close()
    finished.close()


def test_a_bell_that_was_deleted_is_made_anew(tmp_path: Path) -> None:
    path = tmp_path / "bell"
    bell = FileBell(str(path))
    assert not rings(bell)
    path.unlink()
    assert rings(bell)
    FileBell(str(path)).ring()
    assert rings(bell)
    bell.close()


def test_a_bell_that_cannot_ring_costs_nothing_but_the_wake(tmp_path: Path) -> None:
    bell = FileBell(str(tmp_path / "none" / "bell"))
    bell.ring()
    bell.drain()
    with pytest.raises(FileNotFoundError):
        bell.fileno()
    bell.close()


def test_a_closed_bell_may_be_watched_again(tmp_path: Path) -> None:
    bell = FileBell(str(tmp_path / "bell"))
    fd = bell.fileno()
    bell.close()
    bell.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    assert not rings(bell)
    bell.ring()
    assert rings(bell)
    bell.close()


def test_inotify_reports_what_is_watched_and_the_end_of_a_watch(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.touch()
    inotify = Inotify()
    inotify.watch(str(path), ATTRIBUTES)
    assert inotify.read() == 0
    path.write_text("x")  # IN_MODIFY, which nobody asked for
    assert inotify.read() == 0
    for _ in range(300):  # more than one read(2) takes; equal ones in a row are put together
        os.utime(path)
    assert inotify.read() == ATTRIBUTES
    path.unlink()
    assert inotify.read() == ATTRIBUTES | IGNORED
    assert not os.get_inheritable(inotify.fd)
    with pytest.raises(FileNotFoundError):
        inotify.watch(str(path), ATTRIBUTES)
    inotify.close()
