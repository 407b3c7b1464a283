"""The job that runs: what its function can ask and report."""

import time
from collections import deque
from collections.abc import Callable
from contextvars import ContextVar, Token
from typing import NamedTuple

from clusterd.jobs.records import MOST_LOG_LINE, MOST_LOG_LINES, MOST_PROGRESS, Claimed
from clusterd.jobs.shapes import Unfit, dump_json, write_json


class Report(NamedTuple):
    """What a running job reported since the last report: to be passed to `Store.report`."""

    progress: float | None
    data: bytes
    lines: list[str]


class CurrentJob:
    """The running attempt of a job, as `current_job()` returns it. May be used in any thread."""

    def __init__(
        self,
        claimed: Claimed,
        deadline: float,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        """`deadline`: seconds of `time.monotonic()`. `changed` is called, in any thread, when there
        is something to report."""
        self.id = claimed.id
        self.name = claimed.name
        self.queue = claimed.queue
        self.attempt = claimed.attempt
        self.max_attempts = claimed.max_attempts
        self.token = claimed.token
        self.deadline = deadline
        self.cancelled = False
        self._changed = changed
        self._progress: tuple[float, bytes] | None = None
        # A deque, since lines are appended in one thread and taken in another without a lock.
        self._lines: deque[str] = deque(maxlen=MOST_LOG_LINES)

    def left(self) -> float:
        """Return the seconds until the attempt's timeout."""
        return max(0.0, self.deadline - time.monotonic())

    def progress(self, part: float, data: object = None) -> None:
        """Report how much is done, from 0 to 1, and JSON data about it.

        The worker stores the latest report of each moment, so that a report costs no transaction.
        """
        if not 0.0 <= part <= 1.0:
            raise ValueError(f"progress is from 0 to 1, not {part}")
        try:
            encoded = b"" if data is None else dump_json(write_json(data))
        except Unfit as unfit:
            raise unfit.raised("the data of a progress report") from None
        if len(encoded) > MOST_PROGRESS:
            raise ValueError(f"the data of a progress report has at most {MOST_PROGRESS} bytes")
        self._progress = (float(part), encoded)
        self._changed()

    def log(self, line: str) -> None:
        """Add a line to the job's log; its oldest lines are dropped beyond 200."""
        self._lines.append(line.encode("utf-8", "replace")[:MOST_LOG_LINE].decode(errors="ignore"))
        self._changed()

    def take_report(self) -> Report | None:
        """Return what was reported since the last call, or None. For the worker."""
        reported, self._progress = self._progress, None
        lines = []
        while self._lines:
            lines.append(self._lines.popleft())
        if reported is None:
            return Report(None, b"", lines) if lines else None
        return Report(*reported, lines)


_current: ContextVar[CurrentJob] = ContextVar("clusterd.jobs.current")


def current_job() -> CurrentJob:
    """Return the job that runs here. Raises RuntimeError outside of a job."""
    try:
        return _current.get()
    except LookupError:
        raise RuntimeError("no job runs here: current_job() is for the functions of jobs") from None


def set_current(job: CurrentJob) -> Token[CurrentJob]:
    """Make this the current job of the calling task or thread. For the worker."""
    return _current.set(job)


def reset_current(token: Token[CurrentJob]) -> None:
    """Undo `set_current`."""
    _current.reset(token)
