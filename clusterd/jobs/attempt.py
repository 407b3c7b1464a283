"""Run one attempt of a job and decide how it ended. The worker and the tests of users share it."""

import asyncio
import contextlib
import functools
import inspect
import traceback
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from clusterd.core.log import get_logger
from clusterd.jobs.api import Jobs
from clusterd.jobs.current import CurrentJob, reset_current, set_current
from clusterd.jobs.errors import Discard, Retry
from clusterd.jobs.job import Job
from clusterd.jobs.options import DEFAULT_BACKOFF, JobOptions, read_seconds
from clusterd.jobs.records import MOST_ERROR, Claimed, Outcome
from clusterd.jobs.states import Event
from clusterd.jobs.text import tail
from clusterd.kernel.fork import ending_children

logger = get_logger("clusterd.jobs")

# Runs a plain function: in a thread, or right here in tests. The context variables are its own.
RunPlain = Callable[[Callable[[], Any]], Awaitable[Any]]


class Misfit(Exception):
    """The result of a job cannot be stored. The job has done its work, so it is not run again."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How an attempt ended: what the store is to know, and the error behind it, if any."""

    outcome: Outcome
    error: BaseException | None = None


async def run_attempt(
    jobs: Jobs, job: Job[Any, Any], claimed: Claimed, current: CurrentJob, run_plain: RunPlain
) -> Ended:
    """Run the job with its middlewares and return how it ended: SUCCEEDED, FAILED or EXHAUSTED.

    Raises CancelledError where the caller cancelled it; a timeout is for the caller to make.
    """
    token = set_current(current)
    try:
        payload = jobs.backend.codec.decode(claimed.payload)
        args, kwargs = job.signature.decode(payload)
        function = functools.partial(job.function, *args, **kwargs)
        if not job.is_async:
            function = functools.partial(_around, jobs.plain_middlewares, current, function)
        call = _call(job, function, run_plain)
        value = await _around(jobs.middlewares, current, call)
        result = _encoded(jobs, job, value)
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if current.cancelled or (task is not None and task.cancelling()):
            raise
        # A task that the job awaits was cancelled, not the job: an error like any other.
        return ended_by(error, job.declared, claimed, jobs.backend.now())
    except BaseException as error:  # also SystemExit: a job that calls sys.exit() stops no worker
        return ended_by(error, job.declared, claimed, jobs.backend.now())
    finally:
        reset_current(token)
    return Ended(Outcome(claimed.id, claimed.token, Event.SUCCEEDED, result=result))


def ended_by(error: BaseException, options: JobOptions, claimed: Claimed, now: int) -> Ended:
    """Decide whether an attempt that ended by an error is followed by another one, and when."""
    text = describe_error(error)
    delay = _delay(error, options, claimed.attempt)
    if delay is None or claimed.attempt >= claimed.max_attempts:
        outcome = Outcome(claimed.id, claimed.token, Event.EXHAUSTED, error=text)
    else:
        run_at = now + round(delay * 1e6)
        outcome = Outcome(claimed.id, claimed.token, Event.FAILED, error=text, run_at=run_at)
    return Ended(outcome, error)


def describe_error(error: BaseException) -> str:
    """Return the traceback's text, its end where it is long; of Retry and Discard a sentence."""
    if isinstance(error, Retry | Discard) and error.__cause__ is None and str(error):
        return f"{type(error).__name__}: {error}"
    return tail("".join(traceback.format_exception(error)), MOST_ERROR)


def summary(error: BaseException) -> str:
    """Return the error in one line: its type and the first line of its message."""
    if isinstance(error, Retry | Discard):
        return describe_error(error).strip().rpartition("\n")[2]
    lines = "".join(traceback.format_exception_only(error)).splitlines()
    # Those of a SyntaxError begin with the place, which is indented; notes come last.
    return next((line for line in lines if line and not line[0].isspace()), type(error).__name__)


async def tell_discarded(jobs: Jobs, current: CurrentJob, error: BaseException) -> None:
    """Call the handlers of `on_discarded`. Their errors are logged."""
    for handler in jobs.discarded_handlers:
        try:
            answer = handler(current, error)
            if inspect.isawaitable(answer):
                await answer
        except Exception:
            logger.exception("an on_discarded handler failed for the job %s", current.name)


def _call(
    job: Job[Any, Any], function: Callable[[], Any], run_plain: RunPlain
) -> Callable[[], Awaitable[Any]]:
    """Return a coroutine function that calls a job's function."""
    tell = functools.partial(_tell_of_child, job.name)

    async def run() -> Any:
        with ending_children(tell):
            return await function()

    def run_here() -> Any:  # in a thread, which is the only one in a child
        with ending_children(tell):
            return function()

    return run if job.is_async else functools.partial(run_plain, run_here)


def _tell_of_child(name: str, pid: int) -> None:
    logger.warning(
        "job %s forked, and the child %d came out of the job's function: it is ended", name, pid
    )


def _around(
    middlewares: Sequence[Callable[..., Any]], current: CurrentJob, run: Callable[[], Any]
) -> Any:
    """Call a function with middlewares around it: the first is the outermost."""
    for middleware in reversed(middlewares):
        run = functools.partial(middleware, current, run)
    return run()


def _encoded(jobs: Jobs, job: Job[Any, Any], value: Any) -> bytes:
    try:
        return jobs.backend.codec.encode(job.signature.encode_result(value))
    except (TypeError, ValueError) as error:
        raise Misfit(str(error)) from None


def _delay(error: BaseException, options: JobOptions, attempt: int) -> float | None:
    """Return the seconds until the next attempt, or None where there is to be none."""
    if isinstance(error, Retry) and error.delay is not None:
        with contextlib.suppress(TypeError, ValueError):
            return read_seconds("delay", error.delay)
    elif not isinstance(error, Retry) and (
        isinstance(error, (Discard, Misfit, *options.discard_on))
        or not isinstance(error, options.retry_on)
    ):
        return None
    try:
        return read_seconds("backoff", options.backoff(attempt))
    except Exception:
        logger.exception("the backoff of a job failed: the usual one is used")
        return DEFAULT_BACKOFF(attempt)
