"""How `clusterd jobs` shows jobs and queues to people."""

import time
from collections.abc import Sequence

from clusterd.core.units import show_seconds
from clusterd.jobs.records import Attempt, JobInfo, QueueStats
from clusterd.jobs.states import State

SHOWN = (State.AVAILABLE, State.RUNNING, State.SCHEDULED, State.BLOCKED, State.COMPLETED)
FAILED = (State.DISCARDED, State.CANCELLED, State.EXPIRED)
WIDEST = 60  # characters of the last column of a list


def listing(found: Sequence[JobInfo], now: int) -> str:
    """Return a line for each job."""
    rows = [("ID", "STATE", "QUEUE", "AGE", "TRIES", "NAME", "")]
    rows += [
        (
            info.id,
            info.state.label,
            info.queue,
            age(info.created, now),
            f"{info.attempts}/{info.max_attempts}",
            info.name,
            remark(info, now)[:WIDEST],
        )
        for info in found
    ]
    return "no jobs" if not found else columns(rows)


def remark(info: JobInfo, now: int) -> str:
    """Return what is to be known of a job beside its state."""
    match info.state:
        case State.SCHEDULED:
            again = "again " if info.attempts else ""
            return f"{again}in {show_seconds(max(0.0, (info.run_at - now) / 1e6))}"
        case State.RUNNING:
            done = f", {info.progress:.0%} done" if info.progress else ""
            stopping = ", to be cancelled" if info.cancel_requested else ""
            return f"for {age(info.started, now)}{done}{stopping}"
        case State.DISCARDED | State.EXPIRED:
            return last_line(info.error)
    return ""


def page(info: JobInfo, now: int) -> str:
    """Return all that is known of a job."""
    lines = [
        f"{info.name} {info.id}",
        f"{info.state.label}, queue {info.queue}, priority {info.priority}",
        f"enqueued {stamp(info.created)}, {age(info.created, now)} ago",
    ]
    if more := remark(info, now):
        lines.append(more)
    if info.crashes:
        lines.append(f"its worker ended {info.crashes} times while it ran")
    if info.unique_key:
        lines.append(f"unique: {info.unique_key}")
    lines += ["", "arguments", *indented(text(info.payload))]
    if info.result:
        lines += ["", "result", *indented(text(info.result))]
    if info.progress_data:
        lines += ["", "progress", *indented(text(info.progress_data))]
    lines += ["", "history", *[event(one) for one in info.history]]
    if info.error:
        lines += ["", "last error", *indented(info.error)]
    return "\n".join(lines)


def event(one: Attempt) -> str:
    """Return a line of a job's history."""
    where = (
        f" on worker {one.slot} of {one.group}, generation {one.generation}" if one.group else ""
    )
    pid = f", process {one.owner.rsplit(':', 2)[1]}" if one.owner.count(":") >= 2 else ""
    took = f" after {show_seconds((one.at - one.started) / 1e6)}" if one.started else ""
    number = f" {one.attempt}" if one.attempt else ""
    said = f": {last_line(one.text)}" if one.text else ""
    return f"  {stamp(one.at)} {one.event}{number}{took}{where}{pid}{said}"


def statistics(found: Sequence[QueueStats], now: int) -> str:
    """Return a line for each queue."""
    if not found:
        return "no jobs"
    rows = [("QUEUE", *(state.label.upper() for state in SHOWN), "FAILED", "WAITS", "")]
    for queue in found:
        counts = [str(queue.counts.get(state, 0)) for state in SHOWN]
        failed = sum(queue.counts.get(state, 0) for state in FAILED)
        waits = age(queue.oldest_available, now) if queue.oldest_available else "-"
        rows.append((queue.queue, *counts, str(failed), waits, "paused" * queue.paused))
    return columns(rows)


def columns(rows: Sequence[Sequence[str]]) -> str:
    """Return rows with their cells below one another."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def age(since: int, now: int) -> str:
    """Return the time since then, of microseconds since the epoch."""
    return show_seconds(max(0.0, (now - since) / 1e6))


def stamp(at: int) -> str:
    """Return a time as people read it, in this machine's time zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at / 1e6))


def text(data: bytes) -> str:
    """Return JSON as a text; of what a codec made, a remark."""
    try:
        found = data.decode()
    except UnicodeDecodeError:
        return f"<{len(data)} bytes, encoded by the application>"
    return found


def indented(said: str) -> list[str]:
    """Return the lines of a text, moved to the right."""
    return [f"  {line}" for line in said.strip().splitlines()]


def last_line(said: str) -> str:
    """Return the last line of a text, which of a traceback says what it was."""
    return said.strip().rpartition("\n")[2]
