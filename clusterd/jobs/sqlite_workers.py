"""What those who enqueue and job workers do in the tables of SQLite."""

from collections import Counter
from collections.abc import Sequence

from clusterd.jobs.records import (
    MOST_ERROR,
    MOST_LOG_LINE,
    MOST_LOG_LINES,
    Attempt,
    Claim,
    Claimed,
    NewJob,
    Outcome,
    Stored,
)
from clusterd.jobs.sqlite_database import Connection
from clusterd.jobs.sqlite_transaction import Transaction, marks
from clusterd.jobs.states import AGAIN, COUNTED, NEXT, Event, State
from clusterd.jobs.text import start, tail
from clusterd.jobs.times import MICROSECONDS

_INSERT = (
    "INSERT INTO job (id, state, queue, name, priority, place, available, run_at, expires_at,"
    " timeout, max_attempts, keep_completed, keep_failed, unique_key, trace, created, payload)"
    f" VALUES ({marks(17)}) ON CONFLICT DO NOTHING"
)


def enqueue(transaction: Transaction, jobs: Sequence[NewJob]) -> list[Stored]:
    """Store jobs; see `Store.enqueue`."""
    moved: Counter[tuple[str, State]] = Counter()
    stored = []
    for job in jobs:
        state = State.AVAILABLE if job.run_at <= transaction.now else State.SCHEDULED
        if _insert(transaction, job, state):
            moved[job.queue, state] += 1
            stored.append(Stored(job.id, True))
        else:
            stored.append(Stored(_in_its_place(transaction, job), False))
    for (queue, state), count in moved.items():
        transaction.moved(queue, None, state, count)
    return stored


def _insert(transaction: Transaction, job: NewJob, state: State) -> bool:
    now = transaction.now
    available = state is State.AVAILABLE
    cursor = transaction.execute(
        _INSERT,
        (
            job.id,
            state,
            job.queue,
            job.name,
            job.priority,
            transaction.place(job.queue) if available else 0,
            now if available else 0,
            job.run_at,
            job.expires_at,
            job.timeout,
            job.max_attempts,
            int(job.keep_completed * MICROSECONDS),
            int(job.keep_failed * MICROSECONDS),
            job.unique_key or None,
            job.trace,
            now,
            job.payload,
        ),
    )
    return cursor.rowcount == 1


def _in_its_place(transaction: Transaction, job: NewJob) -> str:
    """Return the id of the unfinished job with the same unique key, else the job's own."""
    row = transaction.execute(
        "SELECT id FROM job WHERE unique_key = ? AND state < 4", (job.unique_key,)
    ).fetchone()
    return row[0] if row else job.id


def has_work(connection: Connection, claim: Claim, now: int) -> bool:
    """Return whether a claim may find a job. Most workers that a bell wakes come too late for it,
    and shall not wait for the write lock to find that out."""
    query = f"SELECT EXISTS (SELECT 1 {_ready(claim)})"
    return bool(claim.names) and any(
        connection.execute(query, (queue, *claim.names, now)).fetchone()[0]
        for queue in claim.queues
    )


def _ready(claim: Claim) -> str:
    """Return the clauses that find jobs for a claim: of a queue, these names, not expired."""
    return (
        "FROM job INDEXED BY ready WHERE state = 2 AND queue = ? AND name IN"
        f" ({marks(len(claim.names))}) AND (expires_at = 0 OR expires_at > ?)"
    )


def claim(transaction: Transaction, claim: Claim) -> list[Claimed]:
    """Take available jobs; see `Store.claim`."""
    if not claim.names:
        return []
    paused = {queue for (queue,) in transaction.execute("SELECT queue FROM paused").fetchall()}
    claimed: list[Claimed] = []
    for queue in claim.queues:
        room = claim.limit - len(claimed)
        if room > 0 and queue not in paused:
            claimed += _claim_from(transaction, claim, queue, room)
    return claimed


def _claim_from(transaction: Transaction, claim: Claim, queue: str, limit: int) -> list[Claimed]:
    now, owner = transaction.now, claim.owner
    # All rows at once: until the last one is read nothing can be committed. Their order is
    # undefined.
    rows = transaction.execute(
        'UPDATE job SET state = 3, token = token + 1, owner = ?, "group" = ?, slot = ?,'
        " generation = ?, started = ?, lease_until = ?, ended = '', progress = 0,"
        f" progress_data = x'' WHERE key IN (SELECT key {_ready(claim)}"
        " ORDER BY priority DESC, place LIMIT ?)"
        " RETURNING place, id, name, payload, priority, token, attempts, max_attempts, crashes,"
        " timeout, created, available, trace",
        (
            owner.key,
            owner.group,
            owner.slot,
            owner.generation,
            now,
            now + int(claim.lease * MICROSECONDS),
            queue,
            *claim.names,
            now,
            limit,
        ),
    ).fetchall()
    if rows:
        transaction.moved(queue, State.AVAILABLE, State.RUNNING, len(rows))
    rows.sort(key=lambda row: (-row[4], row[0]))
    return [
        Claimed(id, name, payload, queue, priority, token, attempts + 1, most, *rest)
        for _, id, name, payload, priority, token, attempts, most, *rest in rows
    ]


def finish(transaction: Transaction, outcome: Outcome) -> bool:
    """End an attempt, and return whether the outcome was taken; see `Store.finish`."""
    if outcome.event is Event.SUCCEEDED:
        # What most attempts come to: one statement, and no line of history, since the row holds
        # all of it.
        rows = transaction.execute(
            "UPDATE job SET state = 4, ended = 'succeeded', attempts = attempts + 1, result = ?,"
            " error = '', finished = ?, kept_until = ? + keep_completed, lease_until = 0,"
            " cancel_requested = 0 WHERE id = ? AND token = ? AND state = 3 RETURNING queue",
            (outcome.result, transaction.now, transaction.now, outcome.id, outcome.token),
        ).fetchall()
        if rows:
            transaction.moved(rows[0][0], State.RUNNING, State.COMPLETED)
            return True
    else:
        row = transaction.execute(
            "SELECT key FROM job WHERE id = ? AND token = ? AND state = 3",
            (outcome.id, outcome.token),
        ).fetchone()
        if row:
            end(transaction, row[0], outcome.event, outcome.error, outcome.run_at)
            return True
    return bool(
        transaction.execute(
            "SELECT 1 FROM job WHERE id = ? AND token = ? AND ended = ?",
            (outcome.id, outcome.token, outcome.event),
        ).fetchone()
    )


def end(transaction: Transaction, key: int, event: Event, error: str, run_at: int = 0) -> None:
    """End the attempt of a running job otherwise than well. Add it to the history."""
    queue, cancelled, attempts, owner, group, slot, generation, started = transaction.execute(
        'SELECT queue, cancel_requested, attempts, owner, "group", slot, generation, started'
        " FROM job WHERE key = ?",
        (key,),
    ).fetchone()
    now, text = transaction.now, tail(error, MOST_ERROR)
    transaction.record(
        key, Attempt(now, event, owner, group, slot, generation, attempts + 1, started, text)
    )
    stopped = bool(cancelled) and event in AGAIN
    state = NEXT[State.RUNNING, Event.CANCEL if stopped else event]
    transaction.execute(
        "UPDATE job SET state = ?1, ended = ?2, attempts = attempts + ?3,"
        " crashes = crashes + ?4, error = iif(?5 = '', error, ?5), lease_until = 0,"
        " run_at = iif(?1 = 0, ?6, run_at), finished = iif(?1 >= 4, ?7, 0),"
        " kept_until = iif(?1 >= 4, ?7 + keep_failed, 0),"
        " cancel_requested = iif(?1 >= 4, 0, cancel_requested) WHERE key = ?8",
        (
            state,
            event,
            event in COUNTED,
            event in (Event.LOST, Event.POISONED),
            text,
            run_at or now,
            now,
            key,
        ),
    )
    transaction.moved(queue, State.RUNNING, state)


def report(
    transaction: Transaction,
    id: str,
    token: int,
    progress: float | None,
    data: bytes,
    lines: Sequence[str],
) -> bool:
    """Store progress and log lines; see `Store.report`."""
    row = transaction.execute(
        "SELECT key, attempts FROM job WHERE id = ? AND token = ? AND state = 3", (id, token)
    ).fetchone()
    if row is None:
        return False
    key, attempts = row
    if progress is not None:
        transaction.execute(
            "UPDATE job SET progress = ?, progress_data = ? WHERE key = ?", (progress, data, key)
        )
    for line in lines[-MOST_LOG_LINES:]:
        text = start(line, MOST_LOG_LINE)
        transaction.record(key, Attempt(transaction.now, "log", attempt=attempts + 1, text=text))
    if lines:
        transaction.execute(
            "DELETE FROM event WHERE job = ?1 AND event = 'log' AND number <= (SELECT number"
            " FROM event WHERE job = ?1 AND event = 'log' ORDER BY number DESC"
            " LIMIT 1 OFFSET ?2)",
            (key, MOST_LOG_LINES),
        )
    return True


def cancel_requested(connection: Connection, owner: str) -> list[tuple[str, int]]:
    """Return running jobs that are to be cancelled; see `Store.cancel_requested`."""
    rows: list[tuple[str, int]] = connection.execute(
        "SELECT id, token FROM job INDEXED BY owners WHERE state = 3 AND owner = ?"
        " AND cancel_requested ORDER BY key",
        (owner,),
    ).fetchall()
    return rows
