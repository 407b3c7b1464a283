"""What the scripts of a job store in Redis reply, as records. All is bytes there."""

from collections.abc import Sequence
from typing import Any

from clusterd.jobs.records import Attempt, Claimed, JobInfo, QueueStats
from clusterd.jobs.redis_operator_scripts import COLUMNS
from clusterd.jobs.states import Event, State

_TEXTS = {"id", "name", "queue", "unique_key", "owner", "error"}
_BYTES = {"payload", "progress_data", "result"}
_FLOATS = {"timeout", "progress"}


def as_claimed(reply: Sequence[bytes]) -> Claimed:
    """Return a claimed job."""
    id, name, payload, queue, priority, token, attempts, most, crashes, timeout, *times = reply
    enqueued, available, trace = times
    return Claimed(
        id.decode(),
        name.decode(),
        payload,
        queue.decode(),
        int(priority),
        int(token),
        int(attempts) + 1,
        int(most),
        int(crashes),
        float(timeout),
        int(enqueued),
        int(available),
        trace.decode(),
    )


def as_info(reply: Sequence[Any], *, with_history: bool) -> JobInfo:
    """Return all of a job: its hash, its lease, its history, its log."""
    values, lease, lines, logged = reply
    columns: dict[str, Any] = {
        name: _column(name, value) for name, value in zip(COLUMNS, values, strict=False)
    }
    group, slot, generation = values[len(COLUMNS) :]
    columns["state"] = State(columns["state"])
    columns["cancel_requested"] = bool(columns["cancel_requested"])
    owner = columns["owner"]
    if columns["state"] is not State.RUNNING:
        columns["owner"] = ""
    columns["lease_until"] = int(float(lease))
    if with_history:
        process = (owner, group.decode(), int(slot), int(generation))
        columns["history"] = _history(columns, lines, logged, process)
    return JobInfo(**columns)


def _column(name: str, value: bytes) -> Any:
    if name in _BYTES:
        return value
    if name in _TEXTS:
        return value.decode()
    return float(value) if name in _FLOATS else int(value)


def _history(
    columns: dict[str, Any],
    lines: Sequence[bytes],
    logged: Sequence[bytes],
    process: tuple[str, str, int, int],
) -> tuple[Attempt, ...]:
    """Return the history of a job. How it was enqueued, and the attempt that runs or completed it,
    are in its hash."""
    found = sorted(_line(line) for line in (*lines, *logged))
    history = [Attempt(columns["created"], "enqueued"), *(attempt for _, attempt in found)]
    attempts, started = columns["attempts"], columns["started"]
    if columns["state"] is State.RUNNING:
        history.append(Attempt(started, Event.CLAIMED, *process, attempts + 1, started))
    elif columns["state"] is State.COMPLETED:
        history.append(Attempt(columns["finished"], Event.SUCCEEDED, *process, attempts, started))
    return tuple(history)


def _line(line: bytes) -> tuple[int, Attempt]:
    number, at, event, owner, group, slot, generation, attempt, started, text = line.decode().split(
        "\x1f", 9
    )
    return int(number), Attempt(
        int(at),
        event,
        owner,
        group,
        int(slot),
        int(generation),
        int(attempt),
        int(started),
        text,
    )


def as_stats(reply: Sequence[Any]) -> list[QueueStats]:
    """Return the state of all queues."""
    tally, paused_queues, since = reply
    paused = {queue.decode() for queue in paused_queues}
    oldest = {queue.decode(): int(float(at)) for queue, at in since}
    counts: dict[str, dict[State, int]] = {queue: {} for queue in paused}
    for field, jobs in zip(tally[::2], tally[1::2], strict=True):
        state, _, queue = field.decode().partition(":")
        if int(jobs) > 0:
            counts.setdefault(queue, {})[State(int(state))] = int(jobs)
    return [
        QueueStats(queue, counts[queue], oldest.get(queue, 0), queue in paused)
        for queue in sorted(counts)
    ]
