"""What operators ask and do in the tables of SQLite."""

from collections.abc import Sequence
from typing import Any

from clusterd.jobs.records import Attempt, Filter, JobInfo, QueueStats
from clusterd.jobs.sqlite_database import Connection
from clusterd.jobs.sqlite_scheduler import delete, finish_idle, make_available
from clusterd.jobs.sqlite_transaction import Transaction, marks
from clusterd.jobs.states import FINISHED, UNFINISHED, Event, State, sources

_COLUMNS = (
    "id, name, queue, state, payload, priority, run_at, expires_at, timeout, attempts,"
    " max_attempts, crashes, coalesce(unique_key, ''), iif(state = 3, owner, ''), token,"
    " lease_until, progress, progress_data, error, result, created, started, finished,"
    " cancel_requested"
)
_EVENT = 'event, owner, "group", slot, generation, attempt, started, text'
_DELETABLE = tuple(state for state in State if state is not State.RUNNING)
Row = tuple[Any, ...]


def get(connection: Connection, id: str) -> JobInfo | None:
    """Return a job with its history; see `Store.get`."""
    row = connection.execute(f"SELECT key, {_COLUMNS} FROM job WHERE id = ?", (id,)).fetchone()
    if row is None:
        return None
    key, *columns = row
    events = connection.execute(
        f"SELECT at, {_EVENT} FROM event WHERE job = ? ORDER BY number", (key,)
    ).fetchall()
    info = _info(columns)
    history = [Attempt(info.created, "enqueued"), *(Attempt(*event) for event in events)]
    if info.state in (State.RUNNING, State.COMPLETED):
        history.append(_last_attempt(connection, key, info))
    return _info(columns, tuple(history))


def _info(columns: Sequence[Any], history: tuple[Attempt, ...] = ()) -> JobInfo:
    names, (state, *rest, cancel_requested) = columns[:3], columns[3:]
    values: list[Any] = [*names, State(state), *rest, bool(cancel_requested), history]
    return JobInfo(*values)


def _last_attempt(connection: Connection, key: int, info: JobInfo) -> Attempt:
    """Return the attempt that runs, or that completed the job: it is in the job's own row."""
    owner, group, slot, generation = connection.execute(
        'SELECT owner, "group", slot, generation FROM job WHERE key = ?', (key,)
    ).fetchone()
    if info.state is State.RUNNING:
        at, event, attempt = info.started, Event.CLAIMED, info.attempts + 1
    else:
        at, event, attempt = info.finished, Event.SUCCEEDED, info.attempts
    return Attempt(at, event, owner, group, slot, generation, attempt, info.started)


def find(connection: Connection, filter: Filter) -> list[JobInfo]:
    """Return jobs, newest first; see `Store.find`."""
    return [_info(row) for row in _matching(connection, _COLUMNS, filter, tuple(State))]


def _matching(
    connection: Connection,
    columns: str,
    filter: Filter,
    states: Sequence[State],
    condition: str = "",
) -> list[Row]:
    """Return columns of the jobs that are meant and in one of these states, newest first."""
    wanted = [state for state in filter.states or states if state in states]
    conditions = [f"state IN ({', '.join(str(int(state)) for state in wanted)})"]
    if wanted and min(wanted) >= State.COMPLETED:
        conditions.append("state >= 4")  # as the index says, which SQLite uses for that alone
    values: list[object] = []
    for term, value in (
        ("queue = ?", filter.queue),
        ("name = ?", filter.name),
        ("id < ?", filter.before),
        ("state = 3 AND owner = ?", filter.owner),
    ):
        if value:
            conditions.append(term)
            values.append(value)
    if filter.ids:
        conditions.append(f"id IN ({marks(len(filter.ids))})")
        values += filter.ids
    if filter.text:
        conditions.append("(instr(payload, CAST(? AS BLOB)) OR instr(error, ?))")
        values += (filter.text, filter.text)
    if condition:
        conditions.append(condition)
    table = "job"
    if wanted == [State.RUNNING]:
        # Few run, and many may wait: SQLite would look through all of them in the order of ids.
        table = "job INDEXED BY owners"
        conditions.append("state = 3")
    return connection.execute(
        f"SELECT {columns} FROM {table} WHERE {' AND '.join(conditions)} ORDER BY id DESC LIMIT ?",
        (*values, filter.limit or -1),
    ).fetchall()


def stats(connection: Connection) -> list[QueueStats]:
    """Return the state of all queues; see `Store.stats`."""
    paused = {queue for (queue,) in connection.execute("SELECT queue FROM paused").fetchall()}
    counts: dict[str, dict[State, int]] = {queue: {} for queue in paused}
    for queue, state, jobs in connection.execute(
        "SELECT queue, state, jobs FROM tally WHERE jobs > 0 AND state >= 0"
    ).fetchall():
        counts.setdefault(queue, {})[State(state)] = jobs
    return [
        QueueStats(
            queue,
            counts[queue],
            _oldest(connection, queue) if State.AVAILABLE in counts[queue] else 0,
            queue in paused,
        )
        for queue in sorted(counts)
    ]


def _oldest(connection: Connection, queue: str) -> int:
    """Return since when the longest waiting job of a queue is available.

    The first of each priority is looked up: there are few priorities, and an index by time would
    cost each enqueue and each claim.
    """
    oldest, priority = 0, 1 << 31
    while row := connection.execute(
        "SELECT priority, available FROM job INDEXED BY ready WHERE state = 2 AND queue = ?"
        " AND priority < ? ORDER BY priority DESC, place LIMIT 1",
        (queue, priority),
    ).fetchone():
        priority, available = row
        oldest = min(oldest or available, available)
    return oldest


def cancel(transaction: Transaction, filter: Filter) -> int:
    """Cancel unfinished jobs; see `Store.cancel`."""
    rows = _matching(
        transaction.connection, "key, queue, state", filter, UNFINISHED, "NOT cancel_requested"
    )
    for key, queue, number in rows:
        if number == State.RUNNING:
            transaction.execute("UPDATE job SET cancel_requested = 1 WHERE key = ?", (key,))
            transaction.has_work = True  # for its worker
        else:
            state = State(number)
            finish_idle(transaction, key, queue, state, State.CANCELLED, Event.CANCEL)
    return len(rows)


def retry(transaction: Transaction, filter: Filter) -> int:
    """Run finished jobs again; see `Store.retry`."""
    rows = _matching(transaction.connection, "key, queue, state", filter, FINISHED)
    rows = [row for row in reversed(rows) if _run_again(transaction, *row)]
    return len(rows)


def _run_again(transaction: Transaction, key: int, queue: str, state: int) -> bool:
    """Make a finished job available, unless its unique key is taken by now."""
    now = transaction.now
    if transaction.execute(
        "SELECT 1 FROM job AS other, job WHERE job.key = ? AND other.unique_key = job.unique_key"
        " AND other.state < 4",
        (key,),
    ).fetchone():
        return False
    if state == State.COMPLETED:
        transaction.record(key, _completed(transaction, key))
    transaction.record(key, Attempt(now, Event.RUN_AGAIN))
    transaction.execute(
        "UPDATE job SET state = 2, place = ?, available = ?, run_at = ?, expires_at = 0,"
        " attempts = 0, crashes = 0, started = 0, finished = 0, kept_until = 0, progress = 0,"
        " progress_data = x'', error = '', result = x'' WHERE key = ?",
        (transaction.place(queue), now, now, key),
    )
    transaction.moved(queue, State(state), State.AVAILABLE)
    return True


def _completed(transaction: Transaction, key: int) -> Attempt:
    row = transaction.execute(f"SELECT {_COLUMNS} FROM job WHERE key = ?", (key,)).fetchone()
    return _last_attempt(transaction.connection, key, _info(row))


def run_now(transaction: Transaction, filter: Filter) -> int:
    """Make scheduled jobs available; see `Store.run_now`."""
    rows = _matching(transaction.connection, "key, queue", filter, sources(Event.RUN_NOW))
    rows.reverse()
    transaction.connection.executemany(
        "UPDATE job SET run_at = ? WHERE key = ?", [(transaction.now, key) for key, _ in rows]
    )
    make_available(transaction, [(key, queue) for key, queue in rows])
    return len(rows)


def purge(transaction: Transaction, filter: Filter) -> int:
    """Delete jobs that do not run; see `Store.purge`."""
    states = _DELETABLE if filter.states else FINISHED
    rows = _matching(transaction.connection, "key, queue, state", filter, states)
    return delete(transaction, [(key, queue, state) for key, queue, state in rows])


def pause(transaction: Transaction, queue: str, paused: bool) -> None:
    """Stop or go on with a queue; see `Store.pause`."""
    if paused:
        transaction.execute("INSERT INTO paused VALUES (?) ON CONFLICT DO NOTHING", (queue,))
    else:
        transaction.execute("DELETE FROM paused WHERE queue = ?", (queue,))
        transaction.has_work = True
