"""What every store promises to those who enqueue and to workers: the contract in `Store`."""

from typing import Any

import pytest

from clusterd.jobs.records import (
    MOST_ERROR,
    MOST_LOG_LINE,
    MOST_LOG_LINES,
    Attempt,
    Claimed,
    Filter,
    Outcome,
    Stored,
)
from clusterd.jobs.states import NEXT, Event, State
from tests.support.job_stores import OTHER, OWNER, SECOND, Desk

# --- enqueue


def test_a_stored_job_is_as_it_was_given(desk: Desk) -> None:
    at = desk.clock.now
    job = desk.new(
        queue="q",
        priority=7,
        run_at=at + SECOND,
        expires_at=at + 2 * SECOND,
        timeout=1.5,
        max_attempts=9,
        unique_key="k",
        trace="00-1-2-03",
        payload=b"\x00\xff",
    )
    assert desk.run(desk.store.enqueue([job])) == [Stored(job.id, True)]
    info = desk.info(job.id)
    assert (info.id, info.name, info.queue, info.state) == (job.id, "mail", "q", State.SCHEDULED)
    assert (info.payload, info.priority, info.timeout) == (b"\x00\xff", 7, 1.5)
    assert (info.run_at, info.expires_at, info.created) == (job.run_at, job.expires_at, at)
    assert (info.attempts, info.max_attempts, info.crashes, info.token) == (0, 9, 0, 0)
    assert (info.unique_key, info.owner, info.lease_until) == ("k", "", 0)
    assert (info.progress, info.progress_data, info.error, info.result) == (0.0, b"", "", b"")
    assert (info.started, info.finished, info.cancel_requested) == (0, 0, False)
    assert info.history == (Attempt(at, "enqueued"),)


def test_no_jobs_are_stored_for_an_empty_list(desk: Desk) -> None:
    assert desk.run(desk.store.enqueue([])) == []
    assert desk.find() == []


def test_a_job_is_available_unless_it_is_to_run_later(desk: Desk) -> None:
    now = desk.clock.now
    states = [desk.state(desk.add(run_at=at)) for at in (0, now - 1, now, now + 1)]
    assert states == [State.AVAILABLE] * 3 + [State.SCHEDULED]


def test_all_jobs_are_stored_or_none(desk: Desk) -> None:
    with pytest.raises(Exception, match=r".+"):
        desk.run(desk.store.enqueue([desk.new(), None]))  # type: ignore[list-item]
    if type(desk.store).__name__ != "MemoryStore":  # the model is not asked to survive bugs
        assert desk.find() == []
        assert desk.counts() == {}


def test_an_unfinished_job_with_the_same_unique_key_takes_its_place(desk: Desk) -> None:
    first = desk.add(unique_key="k")
    new = desk.new(unique_key="k")
    assert desk.run(desk.store.enqueue([new])) == [Stored(first, False)]
    assert desk.run(desk.store.get(new.id)) is None
    assert desk.counts() == {State.AVAILABLE: 1}


def test_unique_holds_inside_one_call_and_in_every_unfinished_state(desk: Desk) -> None:
    first, second = desk.new(unique_key="k"), desk.new(unique_key="k")
    stored = desk.run(desk.store.enqueue([first, second, desk.new(unique_key="other")]))
    assert [each.created for each in stored] == [True, False, True]
    assert stored[1].id == first.id
    scheduled = desk.add(unique_key="s", run_at=desk.clock.now + 1)
    assert desk.add(unique_key="s") == scheduled
    running = desk.one()
    assert desk.add(unique_key="k") == running.id


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.EXHAUSTED, Event.CANCEL])
def test_a_finished_job_frees_its_unique_key(desk: Desk, event: Event) -> None:
    first = desk.add(unique_key="k")
    desk.finish(desk.one(), event)
    assert desk.add(unique_key="k") != first


def test_an_empty_unique_key_is_none(desk: Desk) -> None:
    assert desk.add() != desk.add()


def test_an_id_is_stored_once(desk: Desk) -> None:
    """A caller that was not told of its commit may try again."""
    job = desk.new()
    assert desk.run(desk.store.enqueue([job, job])) == [Stored(job.id, True), Stored(job.id, False)]
    assert desk.run(desk.store.enqueue([job])) == [Stored(job.id, False)]
    assert desk.counts() == {State.AVAILABLE: 1}


# --- claim


def test_a_claimed_job_has_an_owner_a_token_and_a_lease(desk: Desk) -> None:
    at = desk.clock.now
    id = desk.add(priority=3, timeout=2.5, max_attempts=4, trace="t", payload=b"[1]")
    desk.clock.move(5)
    assert desk.claim() == [Claimed(id, "mail", b"[1]", "default", 3, 1, 1, 4, 0, 2.5, at, at, "t")]
    info = desk.info(id)
    assert (info.state, info.owner, info.token) == (State.RUNNING, OWNER.key, 1)
    assert (info.started, info.lease_until) == (desk.clock.now, desk.clock.now + 30 * SECOND)
    assert info.history[-1] == Attempt(
        desk.clock.now, "claimed", OWNER.key, "jobs", 2, 7, 1, desk.clock.now
    )


def test_a_running_job_is_not_claimed_again(desk: Desk) -> None:
    desk.add()
    assert len(desk.claim()) == 1
    assert desk.claim(owner=OTHER) == []


def test_never_more_than_the_limit_over_all_queues(desk: Desk) -> None:
    for queue in "aabb":
        desk.add(queue=queue)
    assert [job.queue for job in desk.claim(3, queues="ab")] == ["a", "a", "b"]
    assert desk.claim(0, queues="ab") == []
    assert len(desk.claim(3, queues="ab")) == 1


def test_queues_in_their_order_then_priority_then_first_come(desk: Desk) -> None:
    low = desk.add(priority=-200)
    early = [desk.add(priority=5), desk.add(priority=5)]
    high = desk.add(priority=200)
    other = desk.add(queue="other", priority=-1)
    claimed = desk.claim(queues=("other", "default"))
    assert [job.id for job in claimed] == [other, high, *early, low]


def test_other_names_and_other_queues_stay(desk: Desk) -> None:
    unknown, known = desk.add("unknown"), desk.add()
    desk.add(queue="elsewhere")
    assert [job.id for job in desk.claim()] == [known]
    assert desk.state(unknown) is State.AVAILABLE
    assert desk.claim(names=()) == []
    assert desk.claim(queues=()) == []


def test_order_is_that_of_becoming_available_not_of_the_enqueue(desk: Desk) -> None:
    later = desk.add(run_at=desk.clock.now + 2 * SECOND)
    sooner = desk.add(run_at=desk.clock.now + SECOND)
    first = desk.add()
    desk.clock.move(3)
    desk.promote()
    last = desk.add()
    assert [job.id for job in desk.claim()] == [first, sooner, later, last]


def test_a_paused_queue_hands_out_nothing_until_it_goes_on(desk: Desk) -> None:
    desk.add()
    desk.run(desk.store.pause("default", True))
    desk.run(desk.store.pause("default", True))
    assert desk.claim() == []
    assert desk.claim(queues=("other",)) == []
    desk.run(desk.store.pause("default", False))
    desk.run(desk.store.pause("default", False))
    assert len(desk.claim()) == 1


def test_an_expired_job_is_not_claimed_though_no_scheduler_runs(desk: Desk) -> None:
    desk.add(expires_at=desk.clock.now + SECOND)
    in_time = desk.add(expires_at=desk.clock.now + SECOND + 1)
    desk.clock.move(1)
    assert [job.id for job in desk.claim()] == [in_time]


def test_the_token_grows_with_every_claim(desk: Desk) -> None:
    desk.add()
    tokens = []
    for _ in range(3):
        job = desk.one()
        tokens.append(job.token)
        desk.finish(job, Event.RETURNED)
    assert tokens == [1, 2, 3]


# --- finish


def test_a_success_is_kept_with_its_result(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    started = desk.clock.now
    desk.clock.move(2)
    assert desk.finish(job, Event.SUCCEEDED, result=b'"x"', error="not of a success")
    info = desk.info(id)
    assert (info.state, info.result, info.attempts) == (State.COMPLETED, b'"x"', 1)
    assert (info.started, info.finished) == (started, desk.clock.now)
    assert (info.owner, info.lease_until, info.error) == ("", 0, "")
    assert info.history[1:] == (
        Attempt(desk.clock.now, "succeeded", OWNER.key, "jobs", 2, 7, 1, started),
    )


def test_a_failure_is_tried_again_at_its_time(desk: Desk) -> None:
    id = desk.add()
    at = desk.clock.now + 5 * SECOND
    assert desk.finish(desk.one(), Event.FAILED, error="Boom", run_at=at)
    info = desk.info(id)
    assert (info.state, info.run_at, info.attempts) == (State.SCHEDULED, at, 1)
    assert (info.error, info.finished, info.owner) == ("Boom", 0, "")
    assert info.history[-1] == Attempt(
        desk.clock.now, "failed", OWNER.key, "jobs", 2, 7, 1, desk.clock.now, "Boom"
    )
    desk.clock.move(5)
    desk.promote()
    assert desk.one().attempt == 2


def test_a_failure_without_a_time_is_due_at_once(desk: Desk) -> None:
    desk.add()
    desk.finish(desk.one(), Event.FAILED)
    assert desk.run(desk.store.next_due()) == desk.clock.now
    assert desk.promote() == 1


@pytest.mark.parametrize(
    ("event", "state", "attempts"),
    [
        (Event.SUCCEEDED, State.COMPLETED, 1),
        (Event.FAILED, State.SCHEDULED, 1),
        (Event.EXHAUSTED, State.DISCARDED, 1),
        (Event.RETURNED, State.AVAILABLE, 0),
        (Event.CANCEL, State.CANCELLED, 0),
    ],
)
def test_each_outcome_leads_to_its_state_and_counts_or_not(
    desk: Desk, event: Event, state: State, attempts: int
) -> None:
    id = desk.add()
    assert desk.finish(desk.one(), event, error="why")
    info = desk.info(id)
    assert (info.state, info.attempts, info.crashes) == (state, attempts, 0)
    assert info.finished == (desk.clock.now if state >= State.COMPLETED else 0)
    assert desk.counts() == {state: 1}


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.FAILED, Event.EXHAUSTED, Event.RETURNED])
def test_an_outcome_that_comes_twice_is_taken_twice_and_counts_once(
    desk: Desk, event: Event
) -> None:
    id = desk.add()
    job = desk.one()
    assert desk.finish(job, event)
    before = desk.info(id)
    assert desk.finish(job, event)
    assert desk.info(id) == before


def test_another_outcome_of_the_same_token_is_refused(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    desk.finish(job, Event.SUCCEEDED, result=b"1")
    assert not desk.finish(job, Event.EXHAUSTED, error="no")
    assert desk.info(id).result == b"1"


@pytest.mark.parametrize("event", [Event.SUCCEEDED, Event.FAILED, Event.CANCEL])
def test_the_outcome_of_an_older_token_is_refused(desk: Desk, event: Event) -> None:
    desk.add()
    old = desk.one()
    desk.run(desk.store.release([OWNER.key], "killed"))
    assert not desk.finish(old, event)  # it is available
    new = desk.one(OTHER)
    before = desk.info(new.id)
    assert not desk.finish(old, event)  # it is another's
    assert desk.info(new.id) == before
    assert desk.finish(new, Event.SUCCEEDED)
    assert not desk.finish(old, event)  # it is over


def test_the_outcome_of_an_unknown_job_is_refused(desk: Desk) -> None:
    gone = Outcome("f" * 32, 1, Event.SUCCEEDED)
    assert desk.run(desk.store.finish([gone])) == ([False], [])


def test_finish_takes_each_outcome_by_itself_and_claims_in_the_same_step(desk: Desk) -> None:
    for _ in range(4):
        desk.add()
    first, second = desk.claim(2)
    outcomes = [
        Outcome(first.id, first.token, Event.SUCCEEDED),
        Outcome(second.id, second.token + 1, Event.SUCCEEDED),
    ]
    taken, claimed = desk.run(desk.store.finish(outcomes, desk.claims(1)))
    assert taken == [True, False]
    assert len(claimed) == 1
    assert desk.counts() == {State.COMPLETED: 1, State.RUNNING: 2, State.AVAILABLE: 1}


def test_a_returned_job_may_be_claimed_in_the_same_step_and_keeps_its_place(desk: Desk) -> None:
    job = desk.new()
    desk.run(desk.store.enqueue([job, desk.new()]))
    mine = desk.one()
    outcome = Outcome(mine.id, mine.token, Event.RETURNED)
    _, (again,) = desk.run(desk.store.finish([outcome], desk.claims(1)))
    assert (again.id, again.token, again.attempt) == (job.id, 2, 1)


def test_an_error_is_cut_at_its_beginning_and_a_success_forgets_it(desk: Desk) -> None:
    id = desk.add()
    desk.finish(desk.one(), Event.FAILED, error="\udc80" + "ä" * MOST_ERROR + "\nValueError: last")
    error = desk.info(id).error
    assert error.endswith("\nValueError: last")
    assert MOST_ERROR - 2 < len(error.encode()) <= MOST_ERROR
    desk.promote()
    desk.finish(desk.one(), Event.SUCCEEDED)
    assert desk.info(id).error == ""


# --- report, cancel


def test_progress_and_log_are_those_of_the_running_attempt(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    report = desk.store.report
    assert desk.run(report(id, job.token, progress=0.5, data=b"{}", lines=["a", "b\udc80"]))
    info = desk.info(id)
    assert (info.progress, info.progress_data) == (0.5, b"{}")
    log = [each for each in info.history if each.event == "log"]
    assert [(each.at, each.text, each.attempt) for each in log] == [
        (desk.clock.now, "a", 1),
        (desk.clock.now, "b?", 1),
    ]
    assert desk.run(report(id, job.token, lines=["c"]))
    assert desk.info(id).progress == 0.5  # no progress was reported
    desk.finish(job, Event.RETURNED)
    assert not desk.run(report(id, job.token, progress=0.9))
    desk.one()
    assert not desk.run(report(id, job.token, progress=0.9, lines=["late"]))
    assert desk.info(id).progress == 0.0  # of the new attempt
    assert not desk.run(report("f" * 32, 1, progress=0.1))


def test_the_log_keeps_its_last_lines_cut_to_their_size(desk: Desk) -> None:
    id = desk.add()
    token = desk.one().token
    for first in (0, MOST_LOG_LINES):
        lines = [str(first + n) for n in range(MOST_LOG_LINES)]
        desk.run(desk.store.report(id, token, lines=lines))
    desk.run(desk.store.report(id, token, lines=["x" * (MOST_LOG_LINE + 1)]))
    log = [each.text for each in desk.info(id).history if each.event == "log"]
    assert len(log) == MOST_LOG_LINES
    assert log[0] == str(MOST_LOG_LINES + 1)
    assert log[-1] == "x" * MOST_LOG_LINE


def test_a_worker_finds_out_which_of_its_jobs_are_to_be_cancelled(desk: Desk) -> None:
    first, second, third = desk.add(), desk.add(), desk.add()
    mine = desk.claim(2)
    desk.claim(1, OTHER)
    assert desk.run(desk.store.cancel(Filter(ids=(second, third)))) == 2
    assert desk.run(desk.store.cancel_requested(OWNER.key)) == [(second, mine[1].token)]
    assert desk.info(second).cancel_requested
    assert desk.state(second) is State.RUNNING
    assert desk.finish(mine[1], Event.CANCEL)
    assert desk.state(second) is State.CANCELLED
    assert not desk.info(second).cancel_requested
    assert desk.run(desk.store.cancel_requested(OWNER.key)) == []
    assert desk.state(first) is State.RUNNING


@pytest.mark.parametrize("event", [Event.FAILED, Event.RETURNED, Event.LOST])
def test_a_job_to_be_cancelled_does_not_run_again(desk: Desk, event: Event) -> None:
    id = desk.add()
    job = desk.one()
    desk.run(desk.store.cancel(Filter(ids=(id,))))
    if event is Event.LOST:
        desk.run(desk.store.release([OWNER.key], "killed"))
    else:
        assert desk.finish(job, event)
        assert desk.finish(job, event)
    info = desk.info(id)
    assert (info.state, info.finished) == (State.CANCELLED, desk.clock.now)
    assert desk.claim() == []


def test_a_job_to_be_cancelled_may_complete_before(desk: Desk) -> None:
    id = desk.add()
    job = desk.one()
    desk.run(desk.store.cancel(Filter(ids=(id,))))
    assert desk.finish(job, Event.SUCCEEDED)
    assert (desk.state(id), desk.info(id).cancel_requested) == (State.COMPLETED, False)


# --- the table of states


def reach(desk: Desk, state: State) -> tuple[str, int]:
    """Return id and token of a job in this state. It is due in 1 s, and expires in 2 s."""
    options: dict[str, Any] = {"expires_at": desk.clock.now + 2 * SECOND}
    if state is State.SCHEDULED:
        return desk.add(run_at=desk.clock.now + SECOND, **options), 0
    id = desk.add(**options)
    if state is State.AVAILABLE:
        return id, 0
    if state is State.EXPIRED:
        desk.clock.move(2)
        desk.promote()
        return id, 0
    job = desk.one()
    outcomes = {
        State.COMPLETED: Event.SUCCEEDED,
        State.DISCARDED: Event.EXHAUSTED,
        State.CANCELLED: Event.CANCEL,
    }
    if state in outcomes:
        desk.finish(job, outcomes[state])
    return id, job.token


def happen(desk: Desk, event: Event, id: str, token: int) -> None:
    """Have an event happen to a job, or at least be tried."""
    store, this = desk.store, Filter(ids=(id,))
    match event:
        case Event.DUE:
            desk.clock.move(1)
            desk.promote()
        case Event.CLAIMED:
            desk.claim()
        case Event.LOST:
            desk.run(store.release([OWNER.key], "killed"))
        case Event.POISONED:
            while desk.state(id) is State.RUNNING:
                desk.run(store.release([OWNER.key], "killed"))
                desk.claim()
        case Event.CANCEL:
            desk.run(store.cancel(this))
            desk.run(store.finish([Outcome(id, token, Event.CANCEL)]))
        case Event.EXPIRE:
            desk.clock.move(2)
            desk.promote()
        case Event.RUN_AGAIN:
            desk.run(store.retry(this))
        case Event.RUN_NOW:
            desk.run(store.run_now(this))
        case _:
            run_at = desk.clock.now + SECOND
            desk.run(store.finish([Outcome(id, token, event, run_at=run_at)]))


@pytest.mark.parametrize("state", [each for each in State if each is not State.BLOCKED])
@pytest.mark.parametrize("event", [each for each in Event if each is not Event.UNBLOCKED])
def test_the_table_of_states_holds_in_the_store(desk: Desk, state: State, event: Event) -> None:
    """What is not in the table is refused and changes nothing. Nothing is ever blocked yet."""
    id, token = reach(desk, state)
    assert desk.state(id) is state
    before = desk.info(id)
    happen(desk, event, id, token)
    after = NEXT.get((state, event), state)
    assert desk.state(id) is after
    if after is state:
        assert desk.info(id) == before
    assert desk.counts() == {after: 1}
