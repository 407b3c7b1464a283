"""What the scheduler does in the tables of SQLite."""

from collections.abc import Sequence

from clusterd.jobs.records import MOST_CRASHES, Attempt, Released
from clusterd.jobs.sqlite_database import Connection
from clusterd.jobs.sqlite_transaction import Transaction, marks
from clusterd.jobs.sqlite_workers import end
from clusterd.jobs.states import Event, State

_LOST = "SELECT key, id, name, owner, crashes FROM job INDEXED BY owners WHERE state = 3 AND"


def renew(transaction: Transaction, owners: Sequence[str], lease: int) -> int:
    """Extend leases; see `Store.renew`."""
    if not owners:
        return 0
    return transaction.execute(
        "UPDATE job INDEXED BY owners SET lease_until = ? WHERE state = 3"
        f" AND owner IN ({marks(len(owners))})",
        (transaction.now + lease, *owners),
    ).rowcount


def owners(connection: Connection, node: str) -> list[str]:
    """Return who holds running jobs; see `Store.owners`."""
    rows = connection.execute(
        "SELECT DISTINCT owner FROM job INDEXED BY owners WHERE state = 3"
        " AND owner >= ? AND owner < ? ORDER BY owner",
        (f"{node}:", f"{node};"),  # the character after the colon
    ).fetchall()
    return [owner for (owner,) in rows]


def release(transaction: Transaction, owners: Sequence[str], cause: str) -> list[Released]:
    """Release the jobs of owners that are gone; see `Store.release`."""
    if not owners:
        return []
    query = f"{_LOST} owner IN ({marks(len(owners))}) ORDER BY queue, place"
    return _release(transaction, transaction.execute(query, tuple(owners)).fetchall(), cause)


def reap(transaction: Transaction) -> list[Released]:
    """Release jobs whose lease ran out; see `Store.reap`."""
    query = f"{_LOST} lease_until <= ? ORDER BY queue, place"
    rows = transaction.execute(query, (transaction.now,)).fetchall()
    return _release(transaction, rows, "its lease ran out")


def _release(
    transaction: Transaction, lost: Sequence[tuple[int, str, str, str, int]], cause: str
) -> list[Released]:
    released = []
    for key, id, name, owner, crashes in lost:
        poisoned = crashes + 1 > MOST_CRASHES
        end(transaction, key, Event.POISONED if poisoned else Event.LOST, cause)
        released.append(Released(id, name, owner, crashes + 1, poisoned))
    return released


def promote(transaction: Transaction, limit: int) -> int:
    """Expire what is too late, and make available what is due; see `Store.promote`."""
    late = transaction.execute(
        "SELECT key, queue, state FROM job INDEXED BY expiring WHERE state <= 2"
        " AND expires_at > 0 AND expires_at <= ? ORDER BY expires_at, key LIMIT ?",
        (transaction.now, limit),
    ).fetchall()
    for key, queue, state in late:
        finish_idle(transaction, key, queue, State(state), State.EXPIRED, Event.EXPIRE)
    due = transaction.execute(
        "SELECT key, queue FROM job INDEXED BY due WHERE state = 0 AND run_at <= ?"
        " ORDER BY run_at, key LIMIT ?",
        (transaction.now, limit),
    ).fetchall()
    make_available(transaction, due)
    return len(late) + len(due)


def make_available(transaction: Transaction, scheduled: Sequence[tuple[int, str]]) -> None:
    """Make scheduled jobs, given by row and queue, available in this order."""
    transaction.connection.executemany(
        "UPDATE job SET state = 2, place = ?, available = ? WHERE key = ?",
        [(transaction.place(queue), transaction.now, key) for key, queue in scheduled],
    )
    for _, queue in scheduled:
        transaction.moved(queue, State.SCHEDULED, State.AVAILABLE)


def finish_idle(
    transaction: Transaction, key: int, queue: str, before: State, after: State, event: Event
) -> None:
    """End a job that does not run."""
    now = transaction.now
    transaction.execute(
        "UPDATE job SET state = ?, finished = ?, kept_until = ? + keep_failed WHERE key = ?",
        (after, now, now, key),
    )
    transaction.record(key, Attempt(now, event))
    transaction.moved(queue, before, after)


def next_due(connection: Connection) -> int:
    """Return when the next scheduled job is due; see `Store.next_due`."""
    (at,) = connection.execute(
        "SELECT min(run_at) FROM job INDEXED BY due WHERE state = 0"
    ).fetchone()
    return at or 0


def prune(transaction: Transaction, limit: int) -> int:
    """Delete finished jobs whose time is over; see `Store.prune`."""
    rows = transaction.execute(
        "SELECT key, queue, state FROM job INDEXED BY kept WHERE state >= 4 AND kept_until <= ?"
        " ORDER BY kept_until LIMIT ?",
        (transaction.now, limit),
    ).fetchall()
    return delete(transaction, rows)


def delete(transaction: Transaction, jobs: Sequence[tuple[int, str, int]]) -> int:
    """Delete jobs, given by row, queue and state, with their history."""
    keys = [(key,) for key, _, _ in jobs]
    transaction.connection.executemany("DELETE FROM event WHERE job = ?", keys)
    transaction.connection.executemany("DELETE FROM job WHERE key = ?", keys)
    for _, queue, state in jobs:
        transaction.moved(queue, State(state), None)
    return len(jobs)
