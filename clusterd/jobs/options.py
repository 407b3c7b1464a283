"""What is decided for a job once, where it is declared, and for one enqueue of it."""

import random
from collections.abc import Callable
from dataclasses import dataclass

Backoff = Callable[[int], float]  # number of the attempt that failed, from 1 → seconds to wait

PRIORITIES = {"lowest": -20, "low": -10, "normal": 0, "high": 10, "highest": 20, "critical": 30}
MOST_PRIORITY = 200


def constant(seconds: float, jitter: float = 0.1) -> Backoff:
    """Return a backoff of always the same time, and up to `jitter` of it more by chance."""
    return lambda _attempt: _spread(seconds, jitter)


def linear(seconds: float, max: float = 3600.0, jitter: float = 0.1) -> Backoff:
    """Return a backoff of so many seconds for each attempt that failed."""
    return lambda attempt: _spread(min(seconds * attempt, max), jitter)


def exponential(seconds: float, max: float = 3600.0, jitter: float = 0.1) -> Backoff:
    """Return a backoff that doubles with each attempt that failed."""
    return lambda attempt: _spread(min(seconds * 2.0 ** min(attempt - 1, 62), max), jitter)


def _spread(seconds: float, jitter: float) -> float:
    # Jobs that failed together, since something they all need was away, shall not return together.
    return seconds * (1.0 + jitter * random.random())


DEFAULT_BACKOFF = exponential(2.0)


@dataclass(frozen=True, slots=True)
class JobOptions:
    """What `@jobs.job(…)` says."""

    queue: str = "default"
    priority: int = 0
    attempts: int = 3
    backoff: Backoff = DEFAULT_BACKOFF
    retry_on: tuple[type[BaseException], ...] = (Exception,)
    discard_on: tuple[type[BaseException], ...] = ()
    timeout: float = 3600.0  # seconds
    expires: float = 0.0  # seconds after the enqueue within which it must begin; 0 for no limit
    keep_completed: float = 86_400.0  # seconds
    keep_failed: float = 30 * 86_400.0  # seconds
