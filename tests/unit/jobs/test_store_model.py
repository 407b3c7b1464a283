"""Each store and the one in memory do the same, whatever is asked of them in whatever order."""

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from clusterd.jobs.memory import MemoryStore
from clusterd.jobs.records import Claim, Claimed, Filter, NewJob, Outcome, Owner
from clusterd.jobs.states import Event, State
from tests.support.job_stores import OTHER, OWNER, SECOND, STORES, Clock, Desk

NAMES, QUEUES, KEYS = ("mail", "video"), ("default", "other"), ("", "", "k", "l")
OUTCOMES = (Event.SUCCEEDED, Event.FAILED, Event.EXHAUSTED, Event.RETURNED, Event.CANCEL)
owners = st.sampled_from((OWNER, OTHER))
seconds = st.sampled_from((0, 0, 1, 5))
filters = st.builds(
    Filter,
    states=st.sampled_from(((), (State.AVAILABLE,), (State.COMPLETED, State.DISCARDED))),
    queue=st.sampled_from(("", *QUEUES)),
    name=st.sampled_from(("", *NAMES)),
    limit=st.integers(0, 3),
)


class Stores(RuleBasedStateMachine):
    """Asks both stores the same, and compares what they return and hold."""

    engine = "sqlite"

    def __init__(self) -> None:
        super().__init__()
        self.place = tempfile.TemporaryDirectory()
        self.clock = Clock()
        self.model = MemoryStore(self.clock)
        self.store = STORES[self.engine](Path(self.place.name), self.clock)
        self.desk = Desk(self.store, self.clock)
        self.claimed: list[Claimed] = []  # of all times: their tokens may be old

    def teardown(self) -> None:
        self.ask("close")
        self.desk.runner.close()
        self.place.cleanup()

    def ask(self, method: str, *arguments: Any) -> Any:
        """Return what both stores return, which must be the same."""
        expected, found = (
            self.desk.run(getattr(store, method)(*arguments)) for store in (self.model, self.store)
        )
        assert found == expected
        return found

    @rule(
        name=st.sampled_from(NAMES),
        queue=st.sampled_from(QUEUES),
        key=st.sampled_from(KEYS),
        priority=st.integers(-1, 1),
        delay=seconds,
        expires=seconds,
        jobs=st.integers(1, 3),
    )
    def enqueue(
        self, name: str, queue: str, key: str, priority: int, delay: int, expires: int, jobs: int
    ) -> None:
        now = self.clock.now
        new: list[NewJob] = [
            self.desk.new(
                name,
                queue=queue,
                unique_key=key,
                priority=priority,
                run_at=now + delay * SECOND,
                expires_at=expires and now + expires * SECOND,
                keep_completed=2.0,
                keep_failed=4.0,
            )
            for _ in range(jobs)
        ]
        self.ask("enqueue", new)

    @rule(
        owner=owners,
        limit=st.integers(0, 3),
        names=st.sets(st.sampled_from(NAMES)),
        queues=st.permutations(QUEUES),
    )
    def claim(self, owner: Owner, limit: int, names: set[str], queues: list[str]) -> None:
        claim = Claim(owner, tuple(sorted(names)), tuple(queues), limit, 3.0)
        self.claimed += self.ask("claim", claim)

    @rule(data=st.data(), event=st.sampled_from(OUTCOMES), delay=seconds, more=st.booleans())
    def finish(self, data: st.DataObject, event: Event, delay: int, more: bool) -> None:
        if self.claimed:
            job = data.draw(st.sampled_from(self.claimed))
            run_at = self.clock.now + delay * SECOND
            outcome = Outcome(job.id, job.token, event, b"1", f"error {delay}", run_at)
            claim = Claim(OWNER, NAMES, QUEUES, 2, 3.0) if more else None
            _, claimed = self.ask("finish", [outcome, outcome], claim)
            self.claimed += claimed

    @rule(move=st.sampled_from((0, 1, 3)))
    def tick(self, move: int) -> None:
        self.clock.move(move)
        self.ask("next_due")
        self.ask("promote")
        self.ask("reap")
        self.ask("prune")

    @rule(owner=owners)
    def renew_or_release(self, owner: Owner) -> None:
        self.ask("owners", "node")
        self.ask("renew", [owner.key], 5.0)
        self.ask("cancel_requested", owner.key)
        self.ask("release", [owner.key], "killed")

    @rule(
        method=st.sampled_from(("cancel", "cancel", "retry", "run_now", "purge", "find")),
        filter=filters,
    )
    def operate(self, method: str, filter: Filter) -> None:
        self.ask(method, filter)

    @rule(queue=st.sampled_from(QUEUES), paused=st.booleans())
    def pause(self, queue: str, paused: bool) -> None:
        self.ask("pause", queue, paused)

    @invariant()
    def both_hold_the_same(self) -> None:
        self.ask("stats")
        for info in self.ask("find", Filter(limit=0)):
            self.ask("get", info.id)


class RedisStores(Stores):
    """The same with a real server."""

    engine = "redis"


TestStores = Stores.TestCase
TestStores.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestRedisStores = pytest.mark.redis(RedisStores.TestCase)
# Fewer: each question is a way to the server and back.
TestRedisStores.settings = settings(max_examples=15, stateful_step_count=40, deadline=None)
