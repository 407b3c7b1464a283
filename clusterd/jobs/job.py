"""A function that can be enqueued, and what is decided for one enqueue of it."""

import functools
import inspect
import sys
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Generic, ParamSpec, Protocol, TypeVar, Unpack

from clusterd.jobs.awaited import MustBeAwaited
from clusterd.jobs.backend import Backend, refuse_event_loop
from clusterd.jobs.handle import Handle
from clusterd.jobs.ids import new_id
from clusterd.jobs.options import Declared, Given, JobOptions, read_declared, read_given
from clusterd.jobs.records import NewJob, Stored
from clusterd.jobs.signature import Signature

P = ParamSpec("P")
R = TypeVar("R")

MAIN = "__main__"


class Home(Protocol):
    """What a job needs of the `Jobs` that it belongs to."""

    @property
    def backend(self) -> Backend: ...


@dataclass(frozen=True, slots=True)
class Call(Generic[R]):
    """A call of a job with its arguments and options, to be enqueued: see `Jobs.enqueue_many`."""

    job: "Job[..., R]"
    payload: bytes
    given: dict[str, Any]

    def new(self, backend: Backend) -> NewJob:
        """Return the job to be stored, as it is enqueued now."""
        now, given, declared = backend.now(), self.given, self.job.declared
        expires = given.get("expires", declared.expires)
        run_at = given.get("at", 0)
        if given.get("delay"):
            run_at = now + round(given["delay"] * 1e6)
        if expires and run_at >= now + round(expires * 1e6):
            raise ValueError(f"{self.job.name}: it would expire before it is due")
        unique = given.get("unique", "")
        return NewJob(
            id=new_id(now),
            name=self.job.name,
            payload=backend.codec.encode(self.payload),
            queue=given.get("queue", declared.queue),
            priority=given.get("priority", declared.priority),
            run_at=run_at,
            expires_at=now + round(expires * 1e6) if expires else 0,
            timeout=given.get("timeout", declared.timeout),
            max_attempts=given.get("attempts", declared.attempts),
            keep_completed=declared.keep_completed,
            keep_failed=declared.keep_failed,
            # Of this job only: a handle must not be that of another function's result.
            unique_key=f"{self.job.name}:{unique}" if unique else "",
        )

    def handle(self, stored: Stored, backend: Backend) -> Handle[R]:
        """Return the handle of what was stored."""
        return Handle(stored.id, self.job.name, backend, self.job.signature, stored.created)


class Enqueues(Generic[P, R]):
    """What can be enqueued with a function's own arguments."""

    _shown: str  # what it is, in errors

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        """Return a call for `Jobs.enqueue_many`. Raises TypeError or ValueError that names the
        argument that does not fit."""
        raise NotImplementedError

    def enqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        """Store a call of the function with these arguments, and return its handle.

        Raises TypeError or ValueError that names the argument that does not fit, StoreUnavailable,
        StoreError; RuntimeError where an event loop runs in this thread.
        """
        refuse_event_loop("enqueue")
        call = self.call(*args, **kwargs)
        backend = call.job.backend
        return call.handle(backend.enqueue([call.new(backend)])[0], backend)

    def aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, Handle[R]]:
        """Store a call of the function with these arguments, and return its handle.

        Raises what `enqueue` raises. A coroutine that is not awaited is logged as an ERROR.
        """
        return MustBeAwaited(self._aenqueue(*args, **kwargs), self._shown)

    async def _aenqueue(self, *args: P.args, **kwargs: P.kwargs) -> Handle[R]:
        call = self.call(*args, **kwargs)
        backend = call.job.backend
        return call.handle((await backend.aenqueue([call.new(backend)]))[0], backend)


class Job(Enqueues[P, R]):
    """A function that job workers run. `job(…)` calls it here and now, as if it were no job."""

    def __init__(
        self, function: Callable[..., Any], options: Declared, home: Home | None = None
    ) -> None:
        # Its name, documentation and signature are those of the function, for help and frameworks.
        wrapper: Any = self  # to the type checker only a subclass can be called
        functools.update_wrapper(wrapper, function, updated=())
        self.function = function
        self.name = _name_of(function, options.get("name"))
        self._shown = f"the job {self.name}"
        self.aliases = _aliases(options.get("aliases", ()))
        self.declared: JobOptions = read_declared(options)
        self.signature = Signature(self.name, function)
        self.is_async = inspect.iscoroutinefunction(function)
        self.home = home
        self.is_shared = home is None  # it belongs to the Jobs that includes its module

    def __repr__(self) -> str:
        return f"<Job {self.name}>"

    @property
    def backend(self) -> Backend:
        """Return where the job is enqueued. Raises RuntimeError where no `Jobs` includes it, or
        where job workers cannot know it."""
        if self.home is None:
            raise RuntimeError(
                f"the job {self.name} belongs to no Jobs yet: call "
                f"jobs.include({self.function.__module__!r}) where your Jobs is made"
            )
        backend = self.home.backend
        if self.name.startswith(f"{MAIN}.") and not backend.immediate:
            raise RuntimeError(
                f"the job {self.name} is defined in the script that runs, so that no job worker "
                "knows it: define it in a module, or say name="
            )
        return backend

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        return Call(self, self.signature.encode(args, kwargs), {})

    def handle(self, id: str) -> Handle[R]:
        """Return the handle of a job of this function that was enqueued earlier, by its `id`."""
        return Handle(id, self.name, self.backend, self.signature, created=False)

    def options(self, **options: Unpack[Given]) -> "JobWithOptions[P, R]":
        """Return this job with options for what is enqueued through it.

        delay, at: not before; priority, queue, expires, attempts, timeout: in place of those of the
        job; unique: while an unfinished job has the same text here, that one's handle is returned.
        """
        return JobWithOptions(self, read_given(options))


class PlainJob(Job[P, R]):
    """The job of a plain function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        result: R = self.function(*args, **kwargs)
        return result


class AsyncJob(Job[P, R]):
    """The job of a coroutine function."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[Any, Any, R]:
        coroutine: Coroutine[Any, Any, R] = self.function(*args, **kwargs)
        return coroutine


class JobWithOptions(Enqueues[P, R]):
    """A job, with the options of `job.options(…)`."""

    def __init__(self, job: Job[P, R], given: dict[str, Any]) -> None:
        self._job = job
        self._given = given
        self._shown = job._shown

    def call(self, *args: P.args, **kwargs: P.kwargs) -> Call[R]:
        return Call(self._job, self._job.signature.encode(args, kwargs), self._given)


def make_job(function: Callable[..., Any], options: Declared, home: Home | None) -> Job[Any, Any]:
    """Return the job of a function. Raises TypeError or ValueError for one that cannot be a job."""
    if isinstance(function, Job):
        raise TypeError(f"{function.name} is a job already")
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is a generator: a job returns its result")
    if not inspect.isroutine(function):
        raise TypeError(f"a job is a function, not {function!r}")
    kind = AsyncJob if inspect.iscoroutinefunction(function) else PlainJob
    return kind(function, options, home)


def _name_of(function: Callable[..., Any], name: str | None) -> str:
    """Return the name that the store knows the job by. It must be the same in all processes."""
    if name is not None:
        return _checked(name)
    qualname = function.__qualname__
    if "<lambda>" in qualname or "<locals>" in qualname:
        raise ValueError(
            f"{qualname} is inside of a function, so that nothing tells it from others: define it "
            "in a module, or say name="
        )
    return f"{_module_of(function)}.{qualname}"


def _module_of(function: Callable[..., Any]) -> str:
    """Return the module that job workers import the function from."""
    if function.__module__ != MAIN:
        return function.__module__
    # `python -m shop.jobs` runs the module by another name than job workers know it by.
    spec = getattr(sys.modules[MAIN], "__spec__", None)
    return MAIN if spec is None else str(spec.name)


def _aliases(aliases: Sequence[str]) -> tuple[str, ...]:
    if isinstance(aliases, str):
        raise TypeError("aliases is a list of names, not a text")
    return tuple(_checked(alias) for alias in aliases)


def _checked(name: object) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the name of a job is a text, not {name!r}")
    if not 0 < len(name) <= 200 or not name.isprintable() or any(map(str.isspace, name)):
        raise ValueError(f"{name!r} is not a name of a job: 1 to 200 characters without spaces")
    return name
