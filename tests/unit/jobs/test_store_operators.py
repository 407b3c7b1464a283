"""What every store promises to operators: find, count, cancel, retry, purge, pause."""

from typing import Any

import pytest

from clusterd.jobs.records import Attempt, Filter, QueueStats
from clusterd.jobs.states import Event, State
from tests.support.job_stores import OTHER, OWNER, SECOND, Desk


def populate(desk: Desk) -> dict[State, str]:
    """Store one job in each state that can be reached; return their ids."""
    ids = {}
    for state, event in (
        (State.COMPLETED, Event.SUCCEEDED),
        (State.DISCARDED, Event.EXHAUSTED),
        (State.CANCELLED, Event.CANCEL),
    ):
        ids[state] = desk.add()
        desk.finish(desk.one(), event)
    ids[State.EXPIRED] = desk.add(expires_at=desk.clock.now)
    desk.promote()
    ids[State.RUNNING] = desk.add()
    desk.one()
    ids[State.AVAILABLE] = desk.add()
    ids[State.SCHEDULED] = desk.add(run_at=desk.clock.now + SECOND)
    assert {state: desk.state(id) for state, id in ids.items()} == {state: state for state in ids}
    return ids


def test_an_unknown_job_is_none(desk: Desk) -> None:
    assert desk.run(desk.store.get("f" * 32)) is None


def test_jobs_are_found_newest_first_page_by_page_without_history(desk: Desk) -> None:
    ids = [desk.add() for _ in range(5)]
    assert desk.find() == ids[::-1]
    assert desk.find(limit=2) == [ids[4], ids[3]]
    assert desk.find(limit=2, before=ids[3]) == [ids[2], ids[1]]
    assert desk.find(limit=0) == ids[::-1]
    assert desk.find(limit=1, ids=(ids[1], ids[3], ids[2])) == [ids[3]]
    assert desk.find(limit=1, ids=(ids[1], ids[3], ids[2]), before=ids[3]) == [ids[2]]
    assert all(info.history == () for info in desk.run(desk.store.find(Filter())))
    assert desk.run(desk.store.find(Filter(limit=1)))[0].payload == b'{"to": 1}'


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"queue": "other"}, "b"),
        ({"name": "video"}, "bc"),
        ({"name": "vide"}, ""),
        ({"text": "Ünder"}, "c"),
        ({"text": "under"}, ""),
        ({"text": "%"}, ""),
        ({"text": "Boom"}, "a"),
        ({"states": (State.AVAILABLE,)}, "bc"),
        ({"states": (State.AVAILABLE, State.SCHEDULED)}, "abc"),
        ({"states": (State.COMPLETED, State.DISCARDED)}, ""),
        ({"queue": "other", "states": (State.SCHEDULED,)}, ""),
        ({"queue": "other", "name": "video", "states": (State.AVAILABLE,)}, "b"),
    ],
)
def test_a_filter_takes_what_matches_all_of_it(
    desk: Desk, wanted: dict[str, Any], found: str
) -> None:
    ids = {"a": desk.add()}
    desk.finish(desk.one(), Event.FAILED, error="Boom", run_at=desk.clock.now + SECOND)
    ids["b"] = desk.add("video", queue="other")
    ids["c"] = desk.add("video", payload='{"a": "Ünder"}'.encode())
    assert desk.find(**wanted) == [ids[each] for each in reversed(found)]
    assert desk.find(**wanted, ids=(ids["a"],)) == [ids[each] for each in found if each == "a"]


def test_each_state_is_found_by_itself_and_by_its_owner(desk: Desk) -> None:
    ids = populate(desk)
    for state, id in ids.items():
        assert desk.find(states=(state,)) == [id]
    assert desk.find(owner=OWNER.key) == [ids[State.RUNNING]]
    assert desk.find(owner=OTHER.key) == []


def test_stats_count_every_queue_by_state(desk: Desk) -> None:
    assert desk.run(desk.store.stats()) == []
    ids = populate(desk)
    at = desk.clock.now
    desk.run(desk.store.pause("empty", True))
    assert desk.run(desk.store.stats()) == [
        QueueStats("default", dict.fromkeys(ids, 1), at, False),
        QueueStats("empty", {}, 0, True),
    ]


def test_the_oldest_available_job_counts_whatever_its_priority(desk: Desk) -> None:
    at = desk.clock.now
    for seconds, priority in enumerate((0, -200, 200)):
        desk.clock.now = at + seconds * SECOND
        desk.add(priority=priority)
    oldest = []
    for _ in range(3):
        (queue,) = desk.run(desk.store.stats())
        oldest.append(queue.oldest_available - at)
        desk.run(desk.store.cancel(Filter(states=(State.AVAILABLE,), ids=(f"{len(oldest):032x}",))))
    assert oldest == [0, SECOND, 2 * SECOND]
    assert desk.run(desk.store.stats())[0].oldest_available == 0


def test_cancel_ends_waiting_jobs_and_asks_running_ones(desk: Desk) -> None:
    ids = populate(desk)
    assert desk.run(desk.store.cancel(Filter())) == 3
    states = {state: desk.state(id) for state, id in ids.items()}
    unfinished = {State.SCHEDULED, State.AVAILABLE}
    assert states == {state: State.CANCELLED if state in unfinished else state for state in ids}
    waiting = desk.info(ids[State.AVAILABLE])
    assert waiting.finished == desk.clock.now
    assert waiting.history[-1] == Attempt(desk.clock.now, "cancel")
    assert desk.info(ids[State.RUNNING]).cancel_requested
    assert desk.run(desk.store.cancel(Filter())) == 0  # nothing more to do
    desk.promote()
    assert desk.claim() == []


def test_a_limit_holds_for_what_is_still_to_be_done(desk: Desk) -> None:
    """So that a caller can go on in portions until none is left."""
    for limit, portions in ((2, [2, 1, 0]), (1, [1, 1, 1, 0])):
        for _ in range(3):
            desk.add()
        desk.claim(2)
        cancelled = [desk.run(desk.store.cancel(Filter(limit=limit))) for _ in portions]
        assert cancelled == portions


def test_retry_runs_finished_jobs_afresh(desk: Desk) -> None:
    ids = populate(desk)
    desk.clock.move(5)
    assert desk.run(desk.store.retry(Filter())) == 4
    for state, id in ids.items():
        wanted = State.AVAILABLE if state >= State.COMPLETED else state
        assert desk.state(id) is wanted
    claimed = desk.claim()
    again = [State.COMPLETED, State.DISCARDED, State.CANCELLED, State.EXPIRED]
    assert [job.id for job in claimed] == [ids[State.AVAILABLE], *(ids[state] for state in again)]
    assert {(job.attempt, job.crashes) for job in claimed} == {(1, 0)}


def test_a_job_that_is_retried_forgets_all_but_its_history(desk: Desk) -> None:
    id = desk.add(expires_at=desk.clock.now + SECOND)
    job = desk.one()
    desk.run(desk.store.release([OWNER.key], "killed"))
    job = desk.one()
    desk.run(desk.store.report(id, job.token, progress=0.5, data=b"1"))
    desk.finish(job, Event.SUCCEEDED, result=b"2")
    desk.clock.move(2)
    desk.run(desk.store.retry(Filter(ids=(id,))))
    info = desk.info(id)
    assert (info.attempts, info.crashes, info.expires_at) == (0, 0, 0)
    assert (info.run_at, info.started, info.finished) == (desk.clock.now, 0, 0)
    assert (info.progress, info.progress_data, info.error, info.result) == (0.0, b"", "", b"")
    events = [each.event for each in info.history]
    assert events == ["enqueued", "lost", "succeeded", "run_again"]
    assert info.history[2].attempt == 1
    assert desk.one().token == job.token + 1


def test_a_job_to_be_cancelled_and_retried_later_is_not_cancelled_again(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    desk.run(desk.store.cancel(Filter(ids=(id,))))
    desk.finish(job, Event.RETURNED)
    desk.run(desk.store.retry(Filter(ids=(id,))))
    desk.one()
    assert desk.run(desk.store.cancel_requested(OWNER.key)) == []


def test_retry_leaves_out_what_is_unique_and_runs_otherwise(desk: Desk) -> None:
    old = []
    for _ in range(2):
        old.append(desk.add(unique_key="k"))
        desk.finish(desk.one(), Event.EXHAUSTED)
    assert desk.run(desk.store.retry(Filter())) == 1  # the older one; then its key is taken
    assert [desk.state(id) for id in old] == [State.AVAILABLE, State.DISCARDED]
    assert desk.run(desk.store.retry(Filter())) == 0
    assert desk.counts() == {State.AVAILABLE: 1, State.DISCARDED: 1}


def test_run_now_makes_scheduled_jobs_available(desk: Desk) -> None:
    ids = populate(desk)
    other = desk.add(run_at=desk.clock.now + 9 * SECOND)
    assert desk.run(desk.store.run_now(Filter())) == 2
    for state, id in ids.items():
        assert desk.state(id) is (State.AVAILABLE if state is State.SCHEDULED else state)
    assert desk.info(other).run_at == desk.clock.now
    order = [ids[State.AVAILABLE], ids[State.SCHEDULED], other]
    assert [job.id for job in desk.claim()] == order


def test_purge_deletes_finished_jobs(desk: Desk) -> None:
    ids = populate(desk)
    assert desk.run(desk.store.purge(Filter())) == 4
    kept = [State.SCHEDULED, State.AVAILABLE, State.RUNNING]
    assert desk.find() == [ids[state] for state in kept]
    assert desk.counts() == dict.fromkeys(kept, 1)


def test_purge_deletes_waiting_jobs_where_their_state_is_named_but_no_running_ones(
    desk: Desk,
) -> None:
    ids = populate(desk)
    states = (State.AVAILABLE, State.RUNNING, State.CANCELLED)
    assert desk.run(desk.store.purge(Filter(states=states))) == 2
    assert desk.state(ids[State.RUNNING]) is State.RUNNING
    assert desk.run(desk.store.purge(Filter(states=(State.RUNNING,)))) == 0
    assert desk.run(desk.store.purge(Filter(states=(State.SCHEDULED,)))) == 1


def test_purge_keeps_to_its_filter_and_limit(desk: Desk) -> None:
    for name in ("mail", "mail", "video"):
        desk.add(name)
    for job in desk.claim():
        desk.finish(job, Event.SUCCEEDED)
    assert desk.run(desk.store.purge(Filter(name="video"))) == 1
    assert desk.run(desk.store.purge(Filter(limit=1))) == 1
    assert desk.run(desk.store.purge(Filter(limit=0))) == 1


def test_a_purged_unique_job_frees_its_key(desk: Desk) -> None:
    first = desk.add(unique_key="k")
    desk.run(desk.store.purge(Filter(states=(State.AVAILABLE,))))
    assert desk.add(unique_key="k") != first
