"""The contract of a store: what every engine does alike, and one conformance suite asks of all.

Methods are coroutines. A store that needs no network never suspends but to wait for a lock, so
`drive` can run it where no event loop is; the others run in a thread that has one. Each method is
one transaction: after an error nothing has changed. All raise StoreUnavailable where the engine
cannot be reached or cannot write; a store behind a network does not know then whether it was done.
"""

from collections.abc import Sequence
from typing import Protocol

from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit
from clusterd.jobs.records import (
    Claim,
    Claimed,
    Filter,
    JobInfo,
    NewJob,
    Outcome,
    QueueStats,
    Released,
    Stored,
)


class StoreUnavailable(ClusterdError):
    """The store cannot be reached, or cannot write now. Nothing was changed, as far as is known."""

    exit = Exit.FAILED


class StoreError(ClusterdError):
    """The store is there and cannot be used: another schema, another application's, no rights."""

    exit = Exit.CONFIG


class Bell(Protocol):
    """Wakes one process at a change in the store. It may ring for nothing, and now and then a ring
    may be lost: who waits looks into the store every few seconds, too."""

    def fileno(self) -> int:
        """Return a descriptor that becomes readable at a ring; watch from the first call on.

        Raises OSError where there are none left."""

    def drain(self) -> None:
        """Wait for the next ring. To be called before the store is asked, not after."""

    def close(self) -> None:
        """Stop watching."""


class Store(Protocol):
    """Where jobs are kept."""

    url: str  # as it may be shown: without a password
    is_networked: bool  # whether its coroutines need an event loop, to wait for the network

    # --- life

    async def open(self) -> None:
        """Connect, and create or check the schema. Raises StoreError."""

    async def concerns(self) -> list[str]:
        """Return what may lose jobs in this store as it is set up, for the log."""

    async def close(self) -> None:
        """Close this process's connections. The store may be opened again."""

    def available_bell(self) -> Bell:
        """Return a bell that rings when jobs became available or scheduled, when a running job is
        to be cancelled, and when a queue goes on. Workers and schedulers watch it."""

    def finished_bell(self) -> Bell:
        """Return a bell that rings when jobs completed or ended otherwise."""

    # --- those who enqueue

    async def enqueue(self, jobs: Sequence[NewJob]) -> list[Stored]:
        """Store all of these jobs or none. One whose unique key an unfinished job has is not
        stored, and that job's id is returned in its place. One whose id is stored already is not
        stored again. Then ring the bell."""

    # --- workers

    async def claim(self, claim: Claim) -> list[Claimed]:
        """Take available jobs: queues in their order, then by priority, then in the order in
        which they became available. Never more than `limit`; none of a paused queue; none that
        has expired."""

    async def finish(
        self, outcomes: Sequence[Outcome], claim: Claim | None = None
    ) -> tuple[list[bool], list[Claimed]]:
        """End attempts, and claim in the same transaction.

        True for each outcome that was taken. False where the job has another token or another
        state by now: it was given to another worker. One that finds the job already ended by the
        same token and event is taken: its first commit arrived, though its caller was not told.
        Attempts are counted here: by SUCCEEDED, FAILED and EXHAUSTED, not by RETURNED or CANCEL.
        A job that was to be cancelled and would run again (FAILED, RETURNED) is cancelled. One that
        is RETURNED keeps its place in the queue.
        """

    async def report(
        self,
        id: str,
        token: int,
        *,
        progress: float | None = None,
        data: bytes = b"",
        lines: Sequence[str] = (),
    ) -> bool:
        """Store progress and log lines of a running job; False where the token is another."""

    async def cancel_requested(self, owner: str) -> list[tuple[str, int]]:
        """Return id and token of the owner's running jobs that are to be cancelled."""

    # --- the scheduler

    async def renew(self, owners: Sequence[str], lease: float) -> int:
        """Extend the leases of all jobs that these owners run, in one statement. How many."""

    async def owners(self, node: str) -> list[str]:
        """Return the owners on a node that hold running jobs."""

    async def release(self, owners: Sequence[str], cause: str) -> list[Released]:
        """Make jobs of owners that are gone available at once; or discard those that have crashed
        more than MOST_CRASHES times, or cancel those that were to be cancelled. They keep their
        place in the queue. `cause` goes to their history."""

    async def reap(self) -> list[Released]:
        """Release jobs whose lease ran out."""

    async def promote(self, limit: int = 1000) -> int:
        """Make scheduled jobs available whose time has come, and expire what is too late; at most
        `limit` of each. Return how many jobs that were: as many as `limit` say that there may be
        more."""

    async def next_due(self) -> int:
        """Return when the next scheduled job is due, or 0 for none."""

    async def prune(self, limit: int = 1000) -> int:
        """Delete finished jobs whose time to be kept is over. How many."""

    # --- operators

    async def get(self, id: str) -> JobInfo | None:
        """Return a job with its history."""

    async def find(self, filter: Filter) -> list[JobInfo]:
        """Return jobs, newest first, without history."""

    async def stats(self) -> list[QueueStats]:
        """Return all queues with jobs, or that are paused, by name. Stays quick with a million
        waiting jobs."""

    async def cancel(self, filter: Filter) -> int:
        """Cancel unfinished jobs; running ones are asked to stop (`cancel_requested`). How many."""

    async def retry(self, filter: Filter) -> int:
        """Run finished jobs again, with fresh attempts and crashes and no time to expire. Those
        whose unique key an unfinished job has are left out. How many."""

    async def run_now(self, filter: Filter) -> int:
        """Make scheduled jobs available. How many."""

    async def purge(self, filter: Filter) -> int:
        """Delete finished jobs, and available, scheduled and blocked ones if a state names them.
        Running jobs stay. How many."""

    async def pause(self, queue: str, paused: bool) -> None:
        """Stop, or go on, handing out the jobs of a queue."""
