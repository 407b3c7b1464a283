"""A store in memory, of one process: for tests, and the model that the other stores must match."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar
from weakref import WeakSet

from clusterd.jobs.bell import EventBell
from clusterd.jobs.records import (
    MOST_CRASHES,
    MOST_ERROR,
    MOST_LOG_LINE,
    MOST_LOG_LINES,
    Attempt,
    Claim,
    Claimed,
    Filter,
    JobInfo,
    NewJob,
    Outcome,
    Owner,
    QueueStats,
    Released,
    Stored,
)
from clusterd.jobs.states import (
    AGAIN,
    COUNTED,
    FINISHED,
    NEXT,
    UNFINISHED,
    Event,
    State,
    sources,
)
from clusterd.jobs.text import start, tail
from clusterd.jobs.times import MICROSECONDS, now

_NO_OWNER = Owner("", 0, 0)
T = TypeVar("T")


@dataclass(slots=True)
class _Job:
    new: NewJob
    state: State
    created: int
    run_at: int
    expires_at: int
    place: int = 0  # in the order in which jobs became available
    available: int = 0
    attempts: int = 0
    crashes: int = 0
    token: int = 0
    owner: Owner = _NO_OWNER
    lease_until: int = 0
    ended: Event | None = None  # as what the last attempt was reported to have ended
    cancel_requested: bool = False
    progress: float = 0.0
    progress_data: bytes = b""
    error: str = ""
    result: bytes = b""
    started: int = 0
    finished: int = 0
    history: list[Attempt] = field(default_factory=list)

    def info(self) -> JobInfo:
        new = self.new
        return JobInfo(
            id=new.id,
            name=new.name,
            queue=new.queue,
            state=self.state,
            payload=new.payload,
            priority=new.priority,
            run_at=self.run_at,
            expires_at=self.expires_at,
            timeout=new.timeout,
            attempts=self.attempts,
            max_attempts=new.max_attempts,
            crashes=self.crashes,
            unique_key=new.unique_key,
            owner=self.owner.key if self.owner is not _NO_OWNER else "",
            token=self.token,
            lease_until=self.lease_until,
            progress=self.progress,
            progress_data=self.progress_data,
            error=self.error,
            result=self.result,
            created=self.created,
            started=self.started,
            finished=self.finished,
            cancel_requested=self.cancel_requested,
        )

    def claimed(self) -> Claimed:
        new = self.new
        return Claimed(
            new.id,
            new.name,
            new.payload,
            new.queue,
            new.priority,
            self.token,
            self.attempts + 1,
            new.max_attempts,
            self.crashes,
            new.timeout,
            self.created,
            self.available,
            new.trace,
        )


class MemoryStore:
    """Keeps jobs in a dictionary. Methods are documented in `Store`."""

    url = "memory:"
    is_networked = False

    def __init__(self, clock: Callable[[], int] = now) -> None:
        self._clock = clock
        self._jobs: dict[str, _Job] = {}
        self._paused: set[str] = set()
        self._place = 0
        self._bells: WeakSet[EventBell] = WeakSet()

    async def open(self) -> None:
        """Do nothing: it is there."""

    async def concerns(self) -> list[str]:
        return []

    async def close(self) -> None:
        """Do nothing: the jobs stay."""

    def available_bell(self) -> EventBell:
        """Return a bell that rings at every change, as does the other."""
        self._bells.add(bell := EventBell())
        return bell

    def finished_bell(self) -> EventBell:
        self._bells.add(bell := EventBell())
        return bell

    # --- those who enqueue

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        return self._rung([self._store(new) for new in jobs])

    def _store(self, new: NewJob) -> Stored:
        holder = self._holder(new.unique_key)
        if holder is not None or new.id in self._jobs:
            return Stored(holder.new.id if holder else new.id, False)
        at = self._clock()
        job = _Job(new, State.SCHEDULED, at, new.run_at, new.expires_at)
        job.history.append(Attempt(at, "enqueued"))
        self._jobs[new.id] = job
        if new.run_at <= at:
            self._make_available(job)
        return Stored(new.id, True)

    def _holder(self, unique_key: str) -> _Job | None:
        """Return the unfinished job with this unique key."""
        if not unique_key:
            return None
        return next(
            (
                job
                for job in self._jobs.values()
                if job.new.unique_key == unique_key and job.state in UNFINISHED
            ),
            None,
        )

    def _make_available(self, job: _Job) -> None:
        self._place += 1
        job.state, job.place, job.available = State.AVAILABLE, self._place, self._clock()

    # --- workers

    async def claim(self, claim: Claim) -> list[Claimed]:
        at = self._clock()
        taken: list[Claimed] = []
        for queue in claim.queues:
            ready = [
                job
                for job in self._jobs.values()
                if job.state is State.AVAILABLE
                and job.new.queue == queue
                and queue not in self._paused
                and job.new.name in claim.names
                and (not job.expires_at or job.expires_at > at)
            ]
            ready.sort(key=lambda job: (-job.new.priority, job.place))
            for job in ready[: claim.limit - len(taken)]:
                job.state = State.RUNNING
                job.owner = claim.owner
                job.token += 1
                job.started = at
                job.lease_until = at + int(claim.lease * MICROSECONDS)
                job.ended = None
                job.progress, job.progress_data = 0.0, b""
                taken.append(job.claimed())
        return taken

    async def finish(
        self, outcomes: Sequence[Outcome], claim: Claim | None = None
    ) -> tuple[list[bool], list[Claimed]]:
        taken = [self._finish(outcome) for outcome in outcomes]
        claimed = await self.claim(claim) if claim is not None else []
        return self._rung((taken, claimed))

    def _finish(self, outcome: Outcome) -> bool:
        job = self._jobs.get(outcome.id)
        if job is None or job.token != outcome.token:
            return False
        if job.state is not State.RUNNING:
            return job.ended is outcome.event
        job.attempts += outcome.event in COUNTED
        error = outcome.error
        if outcome.event is Event.SUCCEEDED:
            job.result, job.error, error = outcome.result, "", ""
        self._end(job, outcome.event, error, outcome.run_at)
        return True

    def _end(self, job: _Job, event: Event, error: str, run_at: int = 0) -> None:
        """End an attempt. A job that was to be cancelled does not run again."""
        error = tail(error, MOST_ERROR)
        at = self._clock()
        owner = job.owner
        counted = job.attempts + (event not in COUNTED)
        job.history.append(
            Attempt(
                at,
                event,
                owner.key,
                owner.group,
                owner.slot,
                owner.generation,
                counted,
                job.started,
                error,
            )
        )
        stopped = job.cancel_requested and event in AGAIN
        job.state = NEXT[State.RUNNING, Event.CANCEL if stopped else event]
        job.ended, job.owner, job.lease_until = event, _NO_OWNER, 0
        job.error = error or job.error
        if job.state is State.SCHEDULED:
            job.run_at = run_at or at
        if job.state in FINISHED:
            job.finished = at
            job.cancel_requested = False

    async def report(
        self,
        id: str,
        token: int,
        *,
        progress: float | None = None,
        data: bytes = b"",
        lines: Sequence[str] = (),
    ) -> bool:
        job = self._jobs.get(id)
        if job is None or job.state is not State.RUNNING or job.token != token:
            return False
        if progress is not None:
            job.progress, job.progress_data = progress, data
        at = self._clock()
        for line in lines:
            text = start(line, MOST_LOG_LINE)
            job.history.append(Attempt(at, "log", attempt=job.attempts + 1, text=text))
        logged = [each for each in job.history if each.event == "log"]
        for each in logged[:-MOST_LOG_LINES]:
            job.history.remove(each)
        return True

    async def cancel_requested(self, owner: str) -> list[tuple[str, int]]:
        return [
            (job.new.id, job.token)
            for job in self._running()
            if job.cancel_requested and job.owner.key == owner
        ]

    def _running(self) -> list[_Job]:
        return [job for job in self._jobs.values() if job.state is State.RUNNING]

    # --- the scheduler

    async def renew(self, owners: Sequence[str], lease: float) -> int:
        until = self._clock() + int(lease * MICROSECONDS)
        held = [job for job in self._running() if job.owner.key in owners]
        for job in held:
            job.lease_until = until
        return len(held)

    async def owners(self, node: str) -> list[str]:
        return sorted({job.owner.key for job in self._running() if job.owner.node == node})

    async def release(self, owners: Sequence[str], cause: str) -> list[Released]:
        return self._release((job for job in self._running() if job.owner.key in owners), cause)

    async def reap(self) -> list[Released]:
        at = self._clock()
        return self._release(
            (job for job in self._running() if job.lease_until <= at), "its lease ran out"
        )

    def _release(self, lost: Iterable[_Job], cause: str) -> list[Released]:
        released = []
        for job in sorted(lost, key=lambda job: (job.new.queue, job.place)):
            job.crashes += 1
            poisoned = job.crashes > MOST_CRASHES
            owner = job.owner.key
            self._end(job, Event.POISONED if poisoned else Event.LOST, cause)
            released.append(Released(job.new.id, job.new.name, owner, job.crashes, poisoned))
        return self._rung(released)

    async def promote(self, limit: int = 1000) -> int:
        at = self._clock()
        late = [
            job
            for job in self._jobs.values()
            if job.state in sources(Event.EXPIRE) and 0 < job.expires_at <= at
        ]
        late.sort(key=lambda job: job.expires_at)
        for job in late[:limit]:
            self._finish_idle(job, State.EXPIRED, Event.EXPIRE)
        due = [
            job for job in self._jobs.values() if job.state is State.SCHEDULED and job.run_at <= at
        ]
        due.sort(key=lambda job: job.run_at)
        for job in due[:limit]:
            self._make_available(job)
        return self._rung(min(len(late), limit) + min(len(due), limit))

    def _finish_idle(self, job: _Job, state: State, event: Event) -> None:
        at = self._clock()
        job.state, job.finished = state, at
        job.history.append(Attempt(at, event))

    async def next_due(self) -> int:
        return min((j.run_at for j in self._jobs.values() if j.state is State.SCHEDULED), default=0)

    async def prune(self, limit: int = 1000) -> int:
        old = [job for job in self._jobs.values() if self._kept_until(job) <= self._clock()]
        return self._delete(old[:limit])

    @staticmethod
    def _kept_until(job: _Job) -> float:
        if job.state in UNFINISHED:
            return float("inf")
        kept = job.new.keep_completed if job.state is State.COMPLETED else job.new.keep_failed
        return job.finished + int(kept * MICROSECONDS)

    def _delete(self, jobs: Sequence[_Job]) -> int:
        for job in jobs:
            del self._jobs[job.new.id]
        return len(jobs)

    # --- operators

    async def get(self, id: str) -> JobInfo | None:
        job = self._jobs.get(id)
        if job is None:
            return None
        history = list(job.history)
        if job.state is State.RUNNING:
            owner = job.owner
            history.append(
                Attempt(
                    job.started,
                    Event.CLAIMED,
                    owner.key,
                    owner.group,
                    owner.slot,
                    owner.generation,
                    job.attempts + 1,
                    job.started,
                )
            )
        return replace(job.info(), history=tuple(history))

    async def find(self, filter: Filter) -> list[JobInfo]:
        return [job.info() for job in self._matching(filter)]

    def _matching(self, filter: Filter, states: Sequence[State] = tuple(State)) -> list[_Job]:
        """Return the jobs that are meant and in one of these states, newest first."""
        found = [
            job
            for job in self._jobs.values()
            if job.state in (filter.states or states)
            and job.state in states
            and (not filter.ids or job.new.id in filter.ids)
            and filter.queue in ("", job.new.queue)
            and filter.name in ("", job.new.name)
            and (not filter.owner or job.owner.key == filter.owner)
            and (not filter.before or job.new.id < filter.before)
            and (filter.text.encode() in job.new.payload or filter.text in job.error)
        ]
        found.sort(key=lambda job: job.new.id, reverse=True)
        return found[: filter.limit or None]

    async def stats(self) -> list[QueueStats]:
        counts: dict[str, Counter[State]] = {queue: Counter() for queue in self._paused}
        oldest: dict[str, int] = {}
        for job in self._jobs.values():
            queue = job.new.queue
            counts.setdefault(queue, Counter())[job.state] += 1
            if job.state is State.AVAILABLE:
                oldest[queue] = min(oldest.get(queue, job.available), job.available)
        return [
            QueueStats(queue, dict(counts[queue]), oldest.get(queue, 0), queue in self._paused)
            for queue in sorted(counts)
        ]

    async def cancel(self, filter: Filter) -> int:
        jobs = [
            job
            for job in self._matching(replace(filter, limit=0), UNFINISHED)
            if not job.cancel_requested
        ][: filter.limit or None]
        for job in jobs:
            if job.state is State.RUNNING:
                job.cancel_requested = True
            else:
                self._finish_idle(job, State.CANCELLED, Event.CANCEL)
        return self._rung(len(jobs))

    async def retry(self, filter: Filter) -> int:
        count = 0
        for job in reversed(self._matching(filter, FINISHED)):
            if self._holder(job.new.unique_key) is None:
                count += 1
                self._run_again(job)
        return self._rung(count)

    def _run_again(self, job: _Job) -> None:
        at = self._clock()
        job.history.append(Attempt(at, Event.RUN_AGAIN))
        job.attempts = job.crashes = job.started = job.finished = job.expires_at = 0
        job.progress, job.progress_data, job.error, job.result = 0.0, b"", "", b""
        job.run_at = at
        self._make_available(job)

    async def run_now(self, filter: Filter) -> int:
        jobs = self._matching(filter, sources(Event.RUN_NOW))
        for job in reversed(jobs):
            job.run_at = self._clock()
            self._make_available(job)
        return self._rung(len(jobs))

    async def purge(self, filter: Filter) -> int:
        deletable = [state for state in State if state is not State.RUNNING]
        return self._delete(self._matching(filter, deletable if filter.states else FINISHED))

    async def pause(self, queue: str, paused: bool) -> None:
        (self._paused.add if paused else self._paused.discard)(queue)
        self._rung(None)

    def _rung(self, result: T) -> T:
        for bell in list(self._bells):
            bell.ring()
        return result
