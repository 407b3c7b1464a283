"""What every store promises to the scheduler: leases, lost jobs, due jobs, old jobs."""

from dataclasses import replace
from typing import Any

import pytest

from clusterd.jobs.records import MOST_CRASHES, Attempt, Released
from clusterd.jobs.states import Event, State
from tests.support.job_stores import AWAY, OTHER, OWNER, SECOND, Desk


def test_renewing_extends_the_leases_of_these_owners_only(desk: Desk) -> None:
    first, second, third = desk.add(), desk.add(), desk.add()
    desk.claim(2)
    desk.claim(1, OTHER)
    desk.clock.move(10)
    assert desk.run(desk.store.renew([OWNER.key, AWAY.key], 60.0)) == 2
    until = desk.clock.now + 60 * SECOND
    assert [desk.info(id).lease_until for id in (first, second)] == [until, until]
    assert desk.info(third).lease_until == desk.clock.now + 20 * SECOND
    assert desk.run(desk.store.renew([], 60.0)) == 0


def test_a_finished_job_has_no_lease_to_renew(desk: Desk) -> None:
    desk.add()
    desk.finish(desk.one(), Event.SUCCEEDED)
    assert desk.run(desk.store.renew([OWNER.key], 60.0)) == 0


def test_the_owners_of_a_node_are_those_that_hold_jobs(desk: Desk) -> None:
    for owner in (OTHER, OWNER, OWNER, AWAY):
        desk.add()
        desk.claim(1, owner)
    assert desk.run(desk.store.owners("node")) == [OWNER.key, OTHER.key]
    assert desk.run(desk.store.owners("elsewhere")) == [AWAY.key]
    assert desk.run(desk.store.owners("nod")) == []
    desk.add()
    desk.claim(1, replace(OWNER, node="node1"))
    assert desk.run(desk.store.owners("node")) == [OWNER.key, OTHER.key]
    assert desk.run(desk.store.owners("%")) == []
    desk.run(desk.store.release([OWNER.key], "killed"))
    assert desk.run(desk.store.owners("node")) == [OTHER.key]


def test_a_lost_job_is_available_at_once_and_counts_a_crash_not_an_attempt(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    started = desk.clock.now
    desk.clock.move(3)
    released = desk.run(desk.store.release([OWNER.key, AWAY.key], "signal 9"))
    assert released == [Released(id, "mail", OWNER.key, 1, False)]
    info = desk.info(id)
    assert (info.state, info.attempts, info.crashes) == (State.AVAILABLE, 0, 1)
    assert (info.owner, info.lease_until) == ("", 0)
    assert info.history[-1] == Attempt(
        desk.clock.now, "lost", OWNER.key, "jobs", 2, 7, 1, started, "signal 9"
    )
    again = desk.one(OTHER)
    assert (again.token, again.attempt, again.crashes) == (job.token + 1, 1, 1)


def test_lost_jobs_keep_their_place_before_those_that_came_later(desk: Desk) -> None:
    lost = [desk.add(), desk.add()]
    later = desk.add()
    desk.claim(2)
    desk.run(desk.store.release([OWNER.key], "killed"))
    assert [job.id for job in desk.claim()] == [*lost, later]


def test_release_leaves_the_jobs_of_others(desk: Desk) -> None:
    desk.add()
    mine = desk.one()
    assert desk.run(desk.store.release([OTHER.key], "killed")) == []
    assert desk.run(desk.store.release([], "killed")) == []
    assert desk.finish(mine, Event.SUCCEEDED)


def test_a_job_that_crashes_too_often_is_discarded_with_the_cause(desk: Desk) -> None:
    id = desk.add()
    poisoned = []
    for crash in range(MOST_CRASHES + 1):
        desk.one()
        released = desk.run(desk.store.release([OWNER.key], f"signal {crash}"))
        poisoned += [(each.crashes, each.poisoned) for each in released]
    assert poisoned == [(1, False), (2, False), (3, False), (4, True)]
    info = desk.info(id)
    assert (info.state, info.finished) == (State.DISCARDED, desk.clock.now)
    assert info.error == f"signal {MOST_CRASHES}"
    assert info.history[-1].event == "poisoned"


def test_reap_releases_jobs_whose_lease_ran_out_whoever_held_them(desk: Desk) -> None:
    late, other = desk.add(), desk.add()
    desk.claim(1)
    desk.clock.move(15)
    desk.claim(1, AWAY)
    desk.clock.move(15 - 1e-6)
    assert desk.run(desk.store.reap()) == []
    desk.clock.move(1e-6)
    assert desk.run(desk.store.reap()) == [Released(late, "mail", OWNER.key, 1, False)]
    assert desk.info(late).history[-1].text == "its lease ran out"
    assert desk.state(other) is State.RUNNING


def test_a_renewed_lease_is_not_reaped(desk: Desk) -> None:
    desk.add()
    job = desk.one()
    desk.clock.move(29)
    desk.run(desk.store.renew([OWNER.key], 30.0))
    desk.clock.move(29)
    assert desk.run(desk.store.reap()) == []
    assert desk.finish(job, Event.SUCCEEDED)


def test_promote_makes_available_what_is_due_and_says_how_many(desk: Desk) -> None:
    now = desk.clock.now
    due, later = desk.add(run_at=now + SECOND), desk.add(run_at=now + SECOND + 1)
    assert desk.promote() == 0
    desk.clock.move(1)
    assert desk.promote() == 1
    assert (desk.state(due), desk.state(later)) == (State.AVAILABLE, State.SCHEDULED)
    assert desk.one().available == desk.clock.now


def test_promote_takes_the_earliest_up_to_its_limit(desk: Desk) -> None:
    now = desk.clock.now
    second, first = desk.add(run_at=now + 2), desk.add(run_at=now + 1)
    desk.clock.move(1)
    assert desk.run(desk.store.promote(limit=1)) == 1
    assert (desk.state(first), desk.state(second)) == (State.AVAILABLE, State.SCHEDULED)
    assert desk.run(desk.store.promote(limit=1)) == 1


@pytest.mark.parametrize("run_at", [0, 1])
def test_promote_expires_what_is_too_late_also_what_is_due(desk: Desk, run_at: int) -> None:
    now = desk.clock.now
    id = desk.add(run_at=run_at and now + SECOND, expires_at=now + 2 * SECOND)
    running = desk.add(expires_at=now + 2 * SECOND, priority=1)
    assert desk.one().id == running
    desk.clock.move(2)
    assert desk.promote() == 1
    info = desk.info(id)
    assert (info.state, info.finished) == (State.EXPIRED, desk.clock.now)
    assert info.history[-1] == Attempt(desk.clock.now, "expire")
    assert desk.state(running) is State.RUNNING


def test_promote_expires_up_to_its_limit(desk: Desk) -> None:
    ids = [desk.add(expires_at=desk.clock.now + 2 - n) for n in range(2)]
    desk.clock.move(1)
    desk.run(desk.store.promote(limit=1))
    assert [desk.state(id) for id in ids] == [State.AVAILABLE, State.EXPIRED]


def test_the_next_due_job_is_the_earliest_scheduled_one(desk: Desk) -> None:
    assert desk.run(desk.store.next_due()) == 0
    now = desk.clock.now
    desk.add()
    desk.add(run_at=now + 7)
    desk.add(run_at=now + 5)
    assert desk.run(desk.store.next_due()) == now + 5
    desk.clock.move(1)
    desk.promote()
    assert desk.run(desk.store.next_due()) == 0


@pytest.mark.parametrize(
    ("event", "seconds"),
    [(Event.SUCCEEDED, 10), (Event.EXHAUSTED, 20), (Event.CANCEL, 20), (Event.EXPIRE, 20)],
)
def test_finished_jobs_are_kept_for_their_time(desk: Desk, event: Event, seconds: int) -> None:
    keep: dict[str, Any] = {"keep_completed": 10.0, "keep_failed": 20.0}
    id = desk.add(expires_at=desk.clock.now + SECOND, **keep)
    if event is Event.EXPIRE:
        desk.clock.move(1)
        desk.promote()
    else:
        desk.finish(desk.one(), event)
    desk.clock.move(seconds - 1e-6)
    assert desk.run(desk.store.prune()) == 0
    desk.clock.move(1e-6)
    assert desk.run(desk.store.prune()) == 1
    assert desk.run(desk.store.get(id)) is None
    assert desk.counts() == {}


def test_prune_stops_at_its_limit_and_leaves_unfinished_jobs(desk: Desk) -> None:
    for _ in range(3):
        desk.add(keep_completed=0.0)
    desk.add(run_at=desk.clock.now + 1, keep_completed=0.0)
    for job in desk.claim(2):
        desk.finish(job, Event.SUCCEEDED)
    desk.clock.move(10**6)
    assert [desk.run(desk.store.prune(limit=1)) for _ in range(3)] == [1, 1, 0]
    assert desk.counts() == {State.AVAILABLE: 1, State.SCHEDULED: 1}


def test_a_new_job_has_no_history_of_a_pruned_one(desk: Desk) -> None:
    desk.add(keep_failed=0.0)
    desk.finish(desk.one(), Event.EXHAUSTED, error="old")
    desk.run(desk.store.prune())
    assert len(desk.info(desk.add()).history) == 1


def test_a_failed_attempt_waits_with_its_expiry(desk: Desk) -> None:
    """A job that is not begun again in time is expired, whatever attempts are left."""
    now = desk.clock.now
    id = desk.add(expires_at=now + SECOND)
    desk.finish(desk.one(), Event.FAILED, error="Boom", run_at=now + 2 * SECOND)
    desk.clock.move(1)
    desk.promote()
    info = desk.info(id)
    assert (info.state, info.error, info.attempts) == (State.EXPIRED, "Boom", 1)
