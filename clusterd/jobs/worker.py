"""The job worker: claims as many jobs as it has free places, runs them, and tells the store.

One task, `_serve`, is all that speaks to the store in a worker's usual life: it ends attempts and
claims new jobs in one transaction, and then waits for a bell, a job that ended, or the order to
leave. Jobs that are coroutines run in the event loop, plain functions in threads.
"""

import asyncio
import contextlib
import contextvars
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from clusterd.config.jobs import CONCURRENCY, QUEUES
from clusterd.core.log import fields, get_logger
from clusterd.jobs.api import Jobs
from clusterd.jobs.attempt import Ended, ended_by, run_attempt, summary, tell_discarded
from clusterd.jobs.current import CurrentJob, Report
from clusterd.jobs.errors import JobLost, JobTimeout
from clusterd.jobs.job import Job
from clusterd.jobs.node import owner as this_process
from clusterd.jobs.outage import Outage
from clusterd.jobs.records import LEASE, Claim, Claimed, Outcome, Owner
from clusterd.jobs.states import Event
from clusterd.jobs.store import Store, StoreError, StoreUnavailable
from clusterd.jobs.threads import Threads
from clusterd.jobs.waking import wait

logger = get_logger("clusterd.jobs")

DEFAULT_CONCURRENCY = 10
RENEW = 10.0  # seconds between two renewals by ourselves, as the scheduler does it for all
TEND = 1.0  # seconds between two looks at running jobs: reports, cancellations, leases
LOOK = 5.0  # seconds without a bell after which we look for jobs that no bell told of
STUBBORN = 5.0  # seconds that a cancelled job may take to end
LONGEST_REASON = 500  # characters of an error in a log line; all of it is in the store
LAST = 1.0  # seconds before the end of a drain that are left to hand jobs back


@dataclass(slots=True, eq=False)
class Running:
    """A job in our hands."""

    claimed: Claimed
    job: Job[Any, Any]
    current: CurrentJob
    began: float  # monotonic
    task: "asyncio.Task[None] | None" = None
    why: BaseException | Event | None = None  # why its task was cancelled
    thread: "Future[Any] | None" = None  # of a plain function
    deadline: asyncio.TimerHandle | None = None


async def create(jobs: Jobs, extensions: Mapping[str, Any]) -> "JobWorker":
    """Return the job worker of this process, as its settings want it.

    `extensions` are those of the lifespan scope; a server that is not clusterd has none of ours.
    """
    here = extensions.get("clusterd.worker", {})
    queues = tuple(filter(None, os.environ.get(QUEUES, "").split(",")))
    return JobWorker(
        jobs,
        await jobs.backend.aopen(),
        this_process(here.get("group", ""), here.get("slot", -1), here.get("generation", 0)),
        concurrency=int(os.environ.get(CONCURRENCY) or DEFAULT_CONCURRENCY),
        queues=queues or queues_of(jobs),
        report=here.get("report", lambda *_: None),
        leave=here.get("leave", lambda _reason: None),
    )


def without_stop_iteration(call: Callable[[], Any]) -> Any:
    """Call a plain function. A StopIteration that it raises becomes a RuntimeError, as in a
    coroutine: a future cannot carry one, and until Python 3.12 would never be done."""
    try:
        return call()
    except StopIteration as error:
        raise RuntimeError("the job raised StopIteration") from error


def queues_of(jobs: Jobs) -> tuple[str, ...]:
    """Return the queues that jobs name, `default` first."""
    named = sorted({job.declared.queue for job in jobs.registry.values()} - {"default"})
    return ("default", *named)


class JobWorker:
    """The jobs of one process. `leave` has this worker replaced, and is told why."""

    def __init__(
        self,
        jobs: Jobs,
        store: Store,
        owner: Owner,
        *,
        concurrency: int = 10,
        queues: tuple[str, ...] = ("default",),
        report: Callable[[int, int, int, float], None] = lambda *_: None,
        leave: Callable[[str], None] = lambda _reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.jobs = jobs
        self.store = store
        self.owner = owner
        self.concurrency = concurrency
        self.running: dict[str, Running] = {}
        self.done = 0
        self.failed = 0
        self._queues = queues
        self._report = report
        self._leave = leave
        self._clock = clock
        self._bell = store.available_bell()
        self._outcomes: list[Outcome] = []  # of attempts that ended, not yet stored
        self._last_reports: list[tuple[Claimed, Report]] = []  # of the same attempts
        self._wake = asyncio.Event()
        self._leaving = False
        self._outage = Outage()
        self._leased = 0.0  # when the leases of our jobs were last known to be renewed
        self._threads = Threads()
        self._hooks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Task[None] | None = None
        self._tender: asyncio.Task[None] | None = None

    # --- life

    async def start(self) -> None:
        """Begin to claim. The store is open."""
        loop = asyncio.get_running_loop()
        try:
            loop.add_reader(self._bell.fileno(), self._on_bell)
        except OSError as error:
            logger.warning(
                "new jobs are looked for every %g s only: %s", LOOK, error.strerror or error
            )
        self._server = loop.create_task(self._serve(), name="job worker")
        self._tender = loop.create_task(self._tend(), name="job worker: looks at its jobs")
        for task in (self._server, self._tender):
            task.add_done_callback(self._on_end)

    def _on_end(self, task: "asyncio.Task[None]") -> None:
        """Have this worker replaced where a task of ours failed: it would claim nothing more."""
        if task.cancelled():
            if not self._leaving:  # by a job that cancels all tasks of the event loop
                self._leave("a job cancelled the job worker's tasks")
        elif (error := task.exception()) is not None:
            logger.error("the job worker failed: this is a bug in clusterd", exc_info=error)
            self._leave("a bug in its job worker")

    async def stop(self, left: Callable[[], float]) -> None:
        """Claim no more, finish what runs, hand back what does not end in time.

        `left` tells the seconds until this process is ended.
        """
        self._leaving = True
        self._wake.set()
        while self.running and left() > LAST:
            tasks = [one.task for one in self.running.values() if one.task is not None]
            await asyncio.wait(tasks, timeout=left() - LAST, return_when=asyncio.FIRST_COMPLETED)
        for one in list(self.running.values()):
            self._cancel(one, Event.RETURNED)
        if self.running:
            tasks = [one.task for one in self.running.values() if one.task is not None]
            await asyncio.wait(tasks, timeout=max(0.0, min(LAST / 2, left())))
        for one in list(self.running.values()):  # in threads, or deaf to their cancellation
            self._hand_back(one)
        await self._end_tasks(left)
        self._threads.close()
        await self.store.close()

    async def _end_tasks(self, left: Callable[[], float]) -> None:
        assert self._server is not None
        assert self._tender is not None
        self._wake.set()
        await asyncio.wait({self._server}, timeout=max(0.1, left()))
        for task in (self._server, self._tender):
            task.cancel()
        await asyncio.gather(self._server, self._tender, return_exceptions=True)
        with contextlib.suppress(OSError):  # there is no bell
            asyncio.get_running_loop().remove_reader(self._bell.fileno())
        self._bell.close()
        if self._hooks:
            await asyncio.wait(self._hooks, timeout=max(0.0, left()))

    # --- the store

    def _on_bell(self) -> None:
        self._bell.drain()
        self._wake.set()

    async def _serve(self) -> None:
        while True:
            self._wake.clear()
            outcomes, self._outcomes = self._outcomes, []
            room = 0 if self._leaving else self.concurrency - len(self.running)
            try:
                await self._store_last_reports()
                claimed = await self._exchange(outcomes, room)
            except (StoreUnavailable, StoreError) as error:
                self._outcomes = outcomes + self._outcomes
                self._outage.tell(error)
                await self._outage.wait()
                continue
            self._outage.end()
            if self._leaving:  # since the store was asked
                self._outcomes += [Outcome(one.id, one.token, Event.RETURNED) for one in claimed]
            else:
                for one in claimed:
                    self._begin(one)
            if self._outcomes:
                continue
            if self._leaving and not self.running:
                return
            await wait(self._wake, LOOK)

    async def _exchange(self, outcomes: list[Outcome], room: int) -> list[Claimed]:
        """End attempts and claim jobs in one transaction."""
        names = tuple(self.jobs.registry)
        claim = Claim(self.owner, names, self._queues, room, LEASE) if room and names else None
        if not self.running:
            self._leased = self._clock()
        if outcomes:
            taken, claimed = await self.store.finish(outcomes, claim)
            for outcome, was_taken in zip(outcomes, taken, strict=True):
                if not was_taken:
                    logger.warning(
                        "the end of job %s was not stored: it was given to another worker",
                        outcome.id,
                        extra=fields(job=outcome.id, outcome=str(outcome.event)),
                    )
            return claimed
        return [] if claim is None else await self.store.claim(claim)

    async def _store_last_reports(self) -> None:
        """Store what attempts reported since the last look: it is refused once they have ended."""
        while self._last_reports:
            await self._store_report(*self._last_reports[0])
            del self._last_reports[0]

    async def _store_report(self, claimed: Claimed, said: Report) -> bool:
        return await self.store.report(
            claimed.id, claimed.token, progress=said.progress, data=said.data, lines=said.lines
        )

    # --- attempts

    def _begin(self, claimed: Claimed) -> None:
        job = self.jobs.registry[claimed.name]
        loop = asyncio.get_running_loop()
        now = self._clock()
        current = CurrentJob(claimed, now + claimed.timeout)
        one = Running(claimed, job, current, now)
        self.running[claimed.id] = one
        one.task = loop.create_task(self._attempt(one), name=f"job {claimed.name} {claimed.id}")
        timeout = JobTimeout(f"the attempt took longer than {claimed.timeout:g} s")
        one.deadline = loop.call_later(claimed.timeout, self._cancel, one, timeout)
        self._tell()

    async def _attempt(self, one: Running) -> None:
        """Run one attempt to its outcome. Never raises."""
        run_plain = functools.partial(self._in_a_thread, one)
        ended: Ended | BaseException
        try:
            ended = await run_attempt(self.jobs, one.job, one.claimed, one.current, run_plain)
        except BaseException as error:  # also what would end the loop: it is the job's
            ended = error
        if self.running.get(one.claimed.id) is one:  # else it was handed back already
            self._end(one, self._outcome(one, ended))

    async def _in_a_thread(self, one: Running, call: Callable[[], Any]) -> Any:
        context = contextvars.copy_context()
        one.thread = self._threads.submit(
            functools.partial(context.run, without_stop_iteration, call)
        )
        return await asyncio.wrap_future(one.thread)

    def _outcome(self, one: Running, ended: Ended | BaseException) -> Outcome | None:
        """Return the outcome of an attempt; None where the store wants none."""
        claimed, why, text = one.claimed, one.why, ""
        if isinstance(ended, Ended):
            if ended.error is None or not isinstance(why, Event):
                return self._tell_of(one, ended)
            # It made another error of its cancellation, which is not to cost it an attempt.
            text = ended.outcome.error
        if isinstance(why, Event):
            return Outcome(claimed.id, claimed.token, why, error=text)
        if isinstance(why, JobLost):
            return None
        assert isinstance(ended, BaseException)
        now = self.jobs.backend.now()
        return self._tell_of(one, ended_by(why or ended, one.job.declared, claimed, now))

    def _tell_of(self, one: Running, ended: Ended) -> Outcome:
        claimed, outcome, error = one.claimed, ended.outcome, ended.error
        if error is not None:
            is_last = outcome.event is Event.EXHAUSTED
            logger.log(
                logging.WARNING if is_last else logging.INFO,
                "job %s %s: %s",
                claimed.name,
                "is discarded" if is_last else f"failed in attempt {claimed.attempt}",
                summary(error)[:LONGEST_REASON],
                extra=fields(job=claimed.id, attempt=claimed.attempt, queue=claimed.queue),
            )
            if is_last:
                self._call_hook(one.current, error)
        return outcome

    def _call_hook(self, current: CurrentJob, error: BaseException) -> None:
        task = asyncio.get_running_loop().create_task(tell_discarded(self.jobs, current, error))
        self._hooks.add(task)
        task.add_done_callback(self._hooks.discard)

    def _end(self, one: Running, outcome: Outcome | None) -> None:
        """Make room, and have the outcome stored. Once for each attempt."""
        if self.running.get(one.claimed.id) is not one:
            return  # it was handed back already
        del self.running[one.claimed.id]
        if one.deadline is not None:
            one.deadline.cancel()
        if outcome is not None:
            if (said := one.current.take_report()) is not None:
                self._last_reports.append((one.claimed, said))
            self._outcomes.append(outcome)
            self.done += outcome.event is not Event.RETURNED
            self.failed += outcome.event in (Event.FAILED, Event.EXHAUSTED)
        self._tell()
        self._wake.set()

    def _cancel(self, one: Running, why: BaseException | Event) -> None:
        """Have an attempt end. A function in a thread cannot be stopped: where a user or a drain
        wants it to end it is only told, and at a timeout it is no longer waited for."""
        if one.why is not None or one.task is None:
            return
        one.current.cancelled = True
        if one.thread is not None and isinstance(why, Event):
            return
        one.why = why
        one.task.cancel()
        asyncio.get_running_loop().call_later(STUBBORN, self._give_up, one)

    def _give_up(self, one: Running) -> None:
        """Have this worker replaced if something runs on in it that cannot be stopped.

        The attempt ends here: handed back it would count as nothing, and run for ever.
        """
        is_deaf = self.running.get(one.claimed.id) is one
        if is_deaf:
            self._end(one, self._outcome(one, asyncio.CancelledError()))
        if is_deaf or (one.thread is not None and not one.thread.done()):
            self._leave(f"job {one.claimed.name} does not end when it is cancelled")

    def _hand_back(self, one: Running) -> None:
        """End an attempt that does not end by itself; one whose timeout is over has failed."""
        one.why = one.why or Event.RETURNED
        self._end(one, self._outcome(one, asyncio.CancelledError()))

    def _tell(self) -> None:
        oldest = next(iter(self.running.values())).began if self.running else 0.0
        self._report(len(self.running), self.done, self.failed, oldest)

    # --- looking at what runs

    async def _tend(self) -> None:
        while True:
            await asyncio.sleep(TEND)
            if not self.running:
                continue
            try:
                await self._look()
            except (StoreUnavailable, StoreError) as error:
                self._outage.tell(error)
                self._lose_late()

    async def _look(self) -> None:
        now = self._clock()
        if now - self._leased >= RENEW:
            await self.store.renew([self.owner.key], LEASE)
            self._leased = now
        for one in list(self.running.values()):
            said = one.current.take_report()
            if said is not None and not await self._store_report(one.claimed, said):
                self._cancel(one, JobLost("it was given to another worker"))
        for id, token in await self.store.cancel_requested(self.owner.key):
            if (found := self.running.get(id)) is not None and found.claimed.token == token:
                self._cancel(found, Event.CANCEL)

    def _lose_late(self) -> None:
        """Cancel what others may run by now: its lease was not renewed in time."""
        if self._clock() - self._leased > LEASE:
            for one in list(self.running.values()):
                self._cancel(one, JobLost("its lease ran out while the store was away"))
