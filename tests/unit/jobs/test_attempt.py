"""One attempt: run with its middlewares, and how it ended."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from clusterd.jobs import CurrentJob, Discard, Job, Jobs, Retry, current_job
from clusterd.jobs.attempt import Ended, run_attempt, summary, tell_discarded
from clusterd.jobs.options import Declared
from clusterd.jobs.records import MOST_ERROR, Claimed
from clusterd.jobs.states import Event

NOW = 2_000_000_000_000_000
DOUBLE: Declared = {"name": "job", "backoff": lambda attempt: 10.0 * attempt}


class Attempt:
    """A job and one attempt of it, whose function is given."""

    def __init__(self, function: Callable[..., Any], **options: Any) -> None:
        self.jobs = Jobs()
        self.jobs.backend.now = lambda: NOW  # type: ignore[method-assign]
        self.job: Job[Any, Any] = self.jobs.job(**{**DOUBLE, **options})(function)

    def run(self, *args: Any, attempt: int = 1, of: int = 3, payload: bytes = b"") -> Ended:
        return asyncio.run(self.arun(*args, attempt=attempt, of=of, payload=payload))

    async def arun(self, *args: Any, attempt: int = 1, of: int = 3, payload: bytes = b"") -> Ended:
        payload = payload or self.job.signature.encode(args, {})
        claimed = Claimed("i", "job", payload, "default", 0, 7, attempt, of, 0, 60.0, 1, 1)
        self.current = CurrentJob(claimed, 0.0)
        return await run_attempt(self.jobs, self.job, claimed, self.current, right_here)


async def right_here(function: Callable[[], Any]) -> Any:
    return function()


def raising(error: BaseException) -> Callable[[], None]:
    def function() -> None:
        raise error

    return function


def test_a_result_is_encoded_for_the_store() -> None:
    async def greet(name: str) -> str:
        assert current_job().name == "job"
        return f"hello {name}"

    def add(a: int, b: int) -> int:
        assert current_job().attempt == 1
        return a + b

    for attempt, args, result in (
        (Attempt(greet), ("x",), b'"hello x"'),
        (Attempt(add), (1, 2), b"3"),
    ):
        ended = attempt.run(*args)
        assert (ended.outcome.event, ended.outcome.result) == (Event.SUCCEEDED, result)
        assert (ended.outcome.id, ended.outcome.token, ended.error) == ("i", 7, None)
    with pytest.raises(RuntimeError):
        current_job()


@pytest.mark.parametrize(
    ("error", "options", "attempt", "delay"),
    [
        (OSError("x"), {}, 1, 10),
        (OSError("x"), {}, 2, 20),
        (OSError("x"), {}, 3, None),  # none is left
        (OSError("x"), {"retry_on": KeyError}, 1, None),
        (OSError("x"), {"retry_on": (KeyError, OSError)}, 1, 10),
        (FileNotFoundError("x"), {"discard_on": OSError}, 1, None),
        (Retry("later"), {}, 2, 20),
        (Retry("later", delay="1m"), {}, 1, 60),
        (Retry("later", delay=0), {"retry_on": KeyError}, 1, 0),
        (Retry("later", delay="never"), {}, 1, 10),  # a delay that cannot be read
        (Retry("later"), {"discard_on": Exception}, 1, 10),
        (Retry("later"), {}, 3, None),
        (Discard("why"), {}, 1, None),
        (SystemExit(1), {}, 1, None),
        (asyncio.CancelledError(), {}, 1, None),
    ],
)
def test_an_error_decides_whether_the_job_is_tried_again(
    error: BaseException, options: dict[str, Any], attempt: int, delay: float | None
) -> None:
    ended = Attempt(raising(error), **options).run(attempt=attempt)
    assert ended.error is error
    if delay is None:
        assert (ended.outcome.event, ended.outcome.run_at) == (Event.EXHAUSTED, 0)
    else:
        assert ended.outcome.event is Event.FAILED
        assert ended.outcome.run_at == NOW + delay * 1_000_000


def test_the_traceback_is_kept_and_its_end_says_what_it_was() -> None:
    text = Attempt(raising(OSError("x" * 2 * MOST_ERROR + " the end"))).run().outcome.error
    assert len(text) <= MOST_ERROR
    assert text.strip().endswith("the end")
    text = Attempt(raising(KeyError("gone"))).run().outcome.error
    assert text.startswith("Traceback")
    assert "in function" in text
    assert text.strip().endswith("KeyError: 'gone'")
    assert Attempt(raising(Discard("no such user"))).run().outcome.error == "Discard: no such user"


def test_a_result_that_does_not_fit_discards_the_job_which_has_done_its_work() -> None:
    def function() -> int:
        return "x"  # type: ignore[return-value]

    ended = Attempt(function).run()
    assert ended.outcome.event is Event.EXHAUSTED
    assert "job: the result: expected int, not str 'x'" in ended.outcome.error


def test_arguments_that_no_longer_fit_are_an_error_of_the_attempt() -> None:
    def function(a: int) -> None: ...

    ended = Attempt(function).run(payload=b'{"b": 1}')
    assert ended.outcome.event is Event.FAILED
    assert "job: there is no argument 'b'" in ended.outcome.error


def test_a_backoff_that_fails_is_replaced(caplog: pytest.LogCaptureFixture) -> None:
    for backoff in (lambda _: 1 / 0, lambda _: -5.0, lambda _: "soon"):
        ended = Attempt(raising(OSError()), backoff=backoff).run()
        assert ended.outcome.event is Event.FAILED
        assert 2_000_000 <= ended.outcome.run_at - NOW <= 2_200_000


def test_middlewares_are_around_the_job_the_first_outermost() -> None:
    seen: list[Any] = []

    def function() -> int:
        seen.append("job")
        return 1

    attempt = Attempt(function)

    @attempt.jobs.middleware
    async def outer(job: CurrentJob, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append(("outer", job.name))
        value = await call_next()
        seen.append(value)
        return value + 1

    @attempt.jobs.middleware
    async def inner(job: CurrentJob, call_next: Callable[[], Awaitable[Any]]) -> Any:
        seen.append("inner")
        return await call_next() + 10

    assert attempt.run().outcome.result == b"12"
    assert seen == [("outer", "job"), "inner", "job", 11]


def test_a_plain_middleware_is_around_plain_jobs_where_they_run() -> None:
    seen: list[str] = []

    def plain() -> int:
        seen.append("job")
        return 1

    async def coroutine() -> int:
        return 2

    for function in (plain, coroutine):
        attempt = Attempt(function)

        @attempt.jobs.middleware
        def inner(job: CurrentJob, call_next: Callable[[], Any]) -> Any:
            assert current_job() is job
            seen.append("inner")
            return call_next() + 10

        @attempt.jobs.middleware
        async def outer(job: CurrentJob, call_next: Callable[[], Awaitable[Any]]) -> Any:
            seen.append("outer")
            return await call_next()

        expected = b"11" if function is plain else b"2"
        assert attempt.run().outcome.result == expected
    assert seen == ["outer", "inner", "job", "outer"]


def noted() -> Exception:
    error = ValueError("first\nsecond")
    error.add_note("a note")
    return error


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("no such user"), "ValueError: no such user"),
        (noted(), "ValueError: first"),
        (ValueError(), "ValueError"),
        (SyntaxError("bad", ("x.py", 1, 1, "x=", 1, 2)), "SyntaxError: bad"),
        (
            ExceptionGroup("both", [ValueError(), KeyError()]),
            "ExceptionGroup: both (2 sub-exceptions)",
        ),
        (Discard("no such user"), "Discard: no such user"),
    ],
)
def test_an_error_is_summed_up_in_a_line(error: Exception, line: str) -> None:
    assert summary(error) == line


def test_the_error_of_a_middleware_is_the_jobs() -> None:
    attempt = Attempt(lambda: None)

    @attempt.jobs.middleware
    async def refuse(job: CurrentJob, call_next: Callable[[], Awaitable[Any]]) -> Any:
        raise Discard("not today")

    assert attempt.run().outcome.event is Event.EXHAUSTED


def test_a_job_that_is_cancelled_from_outside_ends_by_that() -> None:
    async def main() -> None:
        begun = asyncio.Event()

        async def function() -> None:
            begun.set()
            await asyncio.Event().wait()

        attempt = Attempt(function)
        task = asyncio.create_task(attempt.arun())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())


def test_the_caller_of_an_attempt_is_in_no_job_afterwards() -> None:
    async def main() -> None:
        for function in (lambda: None, raising(OSError())):
            await Attempt(function).arun()
            with pytest.raises(RuntimeError, match="no job runs here"):
                current_job()

    asyncio.run(main())


def test_handlers_of_discarded_jobs_are_called_and_may_fail() -> None:
    seen: list[Any] = []
    attempt = Attempt(raising(OSError("x")))

    @attempt.jobs.on_discarded
    def broken(job: CurrentJob, error: BaseException) -> None:
        raise KeyError

    @attempt.jobs.on_discarded
    async def note(job: CurrentJob, error: BaseException) -> None:
        seen.append((job.name, error))

    ended = attempt.run(attempt=3)
    assert ended.error is not None
    asyncio.run(tell_discarded(attempt.jobs, attempt.current, ended.error))
    assert seen == [("job", ended.error)]


def test_sys_exit_in_a_coroutine_stops_nothing_else() -> None:
    async def function() -> None:
        sys.exit(3)

    assert Attempt(function).run().outcome.event is Event.EXHAUSTED
