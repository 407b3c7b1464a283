"""What jobs raise to say how they end, and what is raised where a job's result is awaited."""

from datetime import timedelta

from clusterd.core.errors import ClusterdError
from clusterd.core.exits import Exit


class Retry(Exception):
    """Raise it in a job to run it again: after `delay`, else after the job's backoff.

    It counts an attempt. When no attempt is left, the job is discarded.
    """

    def __init__(self, reason: str = "", *, delay: float | str | timedelta | None = None) -> None:
        super().__init__(reason)
        self.delay = delay


class Discard(Exception):
    """Raise it in a job that is not to be tried again, with the reason."""


class JobTimeout(Exception):
    """The attempt took longer than the job's `timeout`."""


class JobLost(Exception):
    """The job was given to another worker while it ran here: its lease had run out."""


class JobFailed(ClusterdError):
    """The job was discarded. `traceback` is the text of its last error."""

    exit = Exit.FAILED

    def __init__(self, message: str, traceback: str = "") -> None:
        super().__init__(message)
        self.traceback = traceback


class JobCancelled(JobFailed):
    """The job was cancelled."""


class JobExpired(JobFailed):
    """The job was not begun within its `expires`."""


class JobNotFound(JobFailed):
    """The store does not hold the job: it was deleted, or its time to be kept is over."""
