"""What is decided for a job once, where it is declared, and for one enqueue of it."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypedDict

from clusterd.core.units import parse_seconds

Backoff = Callable[[int], float]  # number of the attempt that failed, from 1 → seconds to wait

PRIORITIES = {"lowest": -20, "low": -10, "normal": 0, "high": 10, "highest": 20, "critical": 30}
MOST_PRIORITY = 200
MOST_ATTEMPTS = 1_000_000
LONGEST_KEY = 256  # characters of a unique key
NAME = re.compile(r"[A-Za-z0-9_.:-]{1,64}", re.ASCII)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


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


# What a duration may be written as: 30, 0.5, "10m", timedelta(minutes=10).
Duration = float | str | timedelta
MOST_SECONDS = 3e8  # about ten years, as for durations in settings


class Declared(TypedDict, total=False):
    """What `@jobs.job(…)` takes."""

    queue: str
    priority: int | str
    attempts: int
    backoff: Backoff | Duration
    retry_on: type[BaseException] | tuple[type[BaseException], ...]
    discard_on: type[BaseException] | tuple[type[BaseException], ...]
    timeout: Duration
    expires: Duration
    keep: Duration
    keep_failed: Duration
    name: str
    aliases: Sequence[str]


class Given(TypedDict, total=False):
    """What `job.options(…)` takes."""

    delay: Duration
    at: datetime
    priority: int | str
    queue: str
    expires: Duration
    attempts: int
    timeout: Duration
    unique: str


def read_declared(declared: Declared) -> JobOptions:
    """Return a job's options. Raises TypeError or ValueError that names the option."""
    options: dict[str, Any] = {
        name: READERS[name](name, value)
        for name, value in declared.items()
        if name not in ("name", "aliases")
    }
    if "keep" in options:
        options["keep_completed"] = options.pop("keep")
    return JobOptions(**options)


def read_given(given: Given) -> dict[str, Any]:
    """Return the options of one enqueue, checked; `at` in microseconds since the epoch."""
    read = {name: READERS[name](name, value) for name, value in given.items()}
    if "delay" in read and "at" in read:
        raise ValueError("delay and at exclude each other")
    return read


def read_seconds(name: str, value: object) -> float:
    """Return a duration in seconds. Raises TypeError or ValueError that names the option."""
    if isinstance(value, timedelta):
        seconds = value.total_seconds()
    elif isinstance(value, str):
        try:
            seconds = parse_seconds(value)
        except ValueError:
            raise ValueError(f"{name}={value!r} is not a duration such as 30 or '10m'") from None
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        seconds = float(value)
    else:
        raise TypeError(f"{name} is a duration such as 30 or '10m', not {value!r}")
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f"{name}={value!r} is not a duration from 0 to ten years")
    return seconds


def _read_timeout(name: str, value: object) -> float:
    if (seconds := read_seconds(name, value)) <= 0:
        raise ValueError(f"{name} must be longer than 0")
    return seconds


def _read_priority(name: str, value: object) -> int:
    if isinstance(value, str):
        if value not in PRIORITIES:
            raise ValueError(f"{name}={value!r} is not one of {', '.join(PRIORITIES)}")
        return PRIORITIES[value]
    return _read_whole(name, value, -MOST_PRIORITY, MOST_PRIORITY)


def _read_attempts(name: str, value: object) -> int:
    return _read_whole(name, value, 1, MOST_ATTEMPTS)


def _read_whole(name: str, value: object, low: int, high: int) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not low <= value <= high:
        raise ValueError(f"{name}={value} is not from {low} to {high}")
    return value


def _read_queue(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {value!r}")
    # Lists of queues are written with commas, so a name has none.
    if not NAME.fullmatch(value):
        raise ValueError(f"{name}={value!r} is not a name of 1 to 64 letters, digits, _ . : or -")
    return value


def _read_unique(name: str, value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {value!r}")
    if not 0 < len(value) <= LONGEST_KEY:
        raise ValueError(f"{name} has 1 to {LONGEST_KEY} characters, not {len(value)}")
    return value


def _read_at(name: str, value: object) -> int:
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is a datetime, not {value!r}")
    if value.tzinfo is None:
        raise ValueError(f"{name}={value} has no time zone: say datetime(…, tzinfo=…)")
    return (value - EPOCH) // timedelta(microseconds=1)


def _read_backoff(name: str, value: object) -> Backoff:
    if callable(value):
        return value
    return constant(read_seconds(name, value))


def _read_errors(name: str, value: object) -> tuple[type[BaseException], ...]:
    errors = value if isinstance(value, tuple) else (value,)
    for error in errors:
        if not (isinstance(error, type) and issubclass(error, BaseException)):
            raise TypeError(f"{name} takes types of exceptions, not {error!r}")
    return errors


READERS: dict[str, Callable[[str, Any], Any]] = {
    "queue": _read_queue,
    "priority": _read_priority,
    "attempts": _read_attempts,
    "backoff": _read_backoff,
    "retry_on": _read_errors,
    "discard_on": _read_errors,
    "timeout": _read_timeout,
    "expires": read_seconds,
    "keep": read_seconds,
    "keep_failed": read_seconds,
    "delay": read_seconds,
    "at": _read_at,
    "unique": _read_unique,
}
