"""Options of jobs and of one enqueue: what may be written, and errors that name the option."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from clusterd.jobs.options import constant, exponential, linear, read_declared, read_given


@pytest.mark.parametrize(
    ("written", "seconds"),
    [(30, 30.0), (0.5, 0.5), ("10m", 600.0), ("500ms", 0.5), (timedelta(minutes=2), 120.0)],
)
def test_a_duration_is_written_as_in_the_settings(written: Any, seconds: float) -> None:
    assert read_declared({"timeout": written}).timeout == seconds
    assert read_given({"delay": written}) == {"delay": seconds}


def test_options_of_a_job_have_their_defaults_and_take_what_is_said() -> None:
    usual = read_declared({})
    assert (usual.queue, usual.priority, usual.attempts) == ("default", 0, 3)
    assert (usual.timeout, usual.keep_completed, usual.keep_failed) == (3600, 86400, 30 * 86400)
    said = read_declared(
        {
            "queue": "mail",
            "priority": "high",
            "attempts": 5,
            "retry_on": OSError,
            "discard_on": (KeyError, ValueError),
            "expires": "1h",
            "keep": "1d",
            "keep_failed": "2d",
            "name": "x",
            "aliases": ["y"],
        }
    )
    assert (said.queue, said.priority, said.attempts, said.expires) == ("mail", 10, 5, 3600)
    assert (said.retry_on, said.discard_on) == ((OSError,), (KeyError, ValueError))
    assert (said.keep_completed, said.keep_failed) == (86400, 2 * 86400)


def test_a_backoff_is_a_function_or_a_duration() -> None:
    assert read_declared({"backoff": lambda attempt: attempt * 7.0}).backoff(3) == 21
    assert 10 <= read_declared({"backoff": "10s"}).backoff(5) <= 11
    assert [linear(5, max=12, jitter=0)(n) for n in (1, 2, 3)] == [5, 10, 12]
    assert [exponential(2, max=9, jitter=0)(n) for n in (1, 2, 3, 4)] == [2, 4, 8, 9]
    assert constant(3, jitter=0)(100) == 3


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"timeout": "10 parsecs"}, ValueError, "timeout='10 parsecs'"),
        ({"timeout": 0}, ValueError, "timeout"),
        ({"timeout": True}, TypeError, "timeout"),
        ({"timeout": float("nan")}, ValueError, "timeout"),
        ({"expires": -1}, ValueError, "expires=-1"),
        ({"priority": "urgent"}, ValueError, "priority='urgent' is not one of lowest, low"),
        ({"priority": 201}, ValueError, "priority=201 is not from -200 to 200"),
        ({"priority": 1.5}, TypeError, "priority"),
        ({"attempts": 0}, ValueError, "attempts=0"),
        ({"queue": "a,b"}, ValueError, "queue='a,b'"),
        ({"queue": ""}, ValueError, "queue"),
        ({"queue": 1}, TypeError, "queue"),
        ({"retry_on": "OSError"}, TypeError, "retry_on takes types"),
        ({"backoff": "soon"}, ValueError, "backoff='soon'"),
    ],
)
def test_an_option_of_a_job_that_cannot_be_is_named(
    options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        read_declared(options)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"delay": -1}, ValueError, "delay=-1"),
        ({"delay": "1m", "at": datetime(2030, 1, 1, tzinfo=UTC)}, ValueError, "delay and at"),
        ({"at": datetime(2030, 1, 1)}, ValueError, "no time zone"),
        ({"at": "2030-01-01"}, TypeError, "at is a datetime"),
        ({"unique": ""}, ValueError, "unique has 1 to 256"),
        ({"unique": 5}, TypeError, "unique"),
    ],
)
def test_an_option_of_an_enqueue_that_cannot_be_is_named(
    options: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error) as caught:
        read_given(options)
    assert says in str(caught.value)


def test_at_is_microseconds_since_the_epoch_whatever_its_zone() -> None:
    at = datetime(2030, 1, 1, 12, 0, 0, 7, tzinfo=UTC)
    assert read_given({"at": at})["at"] == 1893499200_000007
