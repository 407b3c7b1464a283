"""`Jobs`: what an application makes, and declares its jobs with."""

import contextlib
import importlib
import inspect
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from types import ModuleType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, Unpack, overload

from clusterd.jobs.awaited import MustBeAwaited
from clusterd.jobs.backend import Backend, Codec, PlainCodec, refuse_event_loop
from clusterd.jobs.current import CurrentJob
from clusterd.jobs.handle import Handle
from clusterd.jobs.job import AsyncJob, Call, Job, P, PlainJob, R, make_job
from clusterd.jobs.options import Declared
from clusterd.jobs.records import NewJob

if TYPE_CHECKING:
    from clusterd.jobs.testing import Testing

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
CallNext = Callable[[], Awaitable[Any]]
Middleware = Callable[[CurrentJob, CallNext], Awaitable[Any]]
PlainMiddleware = Callable[[CurrentJob, Callable[[], Any]], Any]
OnDiscarded = Callable[[CurrentJob, BaseException], Any]
Lifespan = Callable[[], AbstractAsyncContextManager[Any]] | Callable[[], AsyncIterator[Any]]
M = TypeVar("M", bound=Middleware | PlainMiddleware)
D = TypeVar("D", bound=OnDiscarded)
L = TypeVar("L", bound=Lifespan)

GRACEFUL_TIMEOUT = 25.0  # seconds that jobs may take to end, under a server that does not say

# The overloads below overlap: to a type checker a coroutine function is also a plain function whose
# result is a coroutine. The first that fits counts, which is what is meant.


class Declare(Protocol):
    """The decorator that `@jobs.job(…)` returns."""

    @overload
    def __call__(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncJob[P, R]: ...

    @overload
    def __call__(self, function: Callable[P, R], /) -> PlainJob[P, R]: ...

    def __call__(self, function: Callable[..., Any], /) -> Any: ...


class Jobs:
    """The jobs of an application and where they are stored.

    `store` is a URL such as "sqlite:jobs.sqlite3"; without one the settings say it. `codec` has
    `encode` and `decode`, from bytes to bytes, for arguments and results in the store.

    It is an ASGI application that knows only `lifespan`: a group of workers runs it as any other.
    """

    def __init__(self, store: str = "", *, codec: Codec | None = None) -> None:
        self.registry: dict[str, Job[Any, Any]] = {}  # by name and alias
        self.backend = Backend(store, codec or PlainCodec())
        self.middlewares: list[Middleware] = []  # the first is the outermost
        self.plain_middlewares: list[PlainMiddleware] = []
        self.discarded_handlers: list[OnDiscarded] = []
        self._lifespan: Lifespan | None = None

    # --- declaring

    @overload
    def job(  # type: ignore[overload-overlap]
        self, function: Callable[P, Coroutine[Any, Any, R]], /
    ) -> AsyncJob[P, R]: ...

    @overload
    def job(self, function: Callable[P, R], /) -> PlainJob[P, R]: ...

    @overload
    def job(self, /, **options: Unpack[Declared]) -> Declare: ...

    def job(
        self, function: Callable[..., Any] | None = None, /, **options: Unpack[Declared]
    ) -> Any:
        """Declare a function as a job: `@jobs.job` or `@jobs.job(queue="mail", attempts=5)`.

        queue; priority, from -200 to 200 or a name; attempts (3); backoff, a function or a
        duration; retry_on and discard_on, types of exceptions; timeout (1 h); expires; keep (24 h),
        how long it is kept once it completed, and keep_failed (30 d); name; aliases, its earlier
        names. Durations are seconds, texts such as "10m", or timedelta.
        """

        def declare(function: Callable[..., Any]) -> Job[Any, Any]:
            job = make_job(function, options, self)
            self._register(job)
            return job

        return declare if function is None else declare(function)

    def include(self, module: str | ModuleType) -> None:
        """Import a module and take in the jobs that it declares by `clusterd.jobs.job`."""
        if isinstance(module, str):
            module = importlib.import_module(module)
        found = [one for one in vars(module).values() if isinstance(one, Job)]
        for job in dict.fromkeys(one for one in found if one.is_shared):
            if job.home is None:
                self._register(job)
                job.home = self
            elif job.home is not self and job.function.__module__ == module.__name__:
                raise ValueError(f"the job {job.name} belongs to another Jobs")

    def _register(self, job: Job[Any, Any]) -> None:
        names = (job.name, *job.aliases)
        for name in names:
            if name in self.registry:
                taken = self.registry[name].function
                raise ValueError(
                    f"two jobs are called {name}: {taken.__module__}.{taken.__qualname__} and "
                    f"{job.function.__module__}.{job.function.__qualname__}"
                )
        self.registry.update(dict.fromkeys(names, job))

    def lifespan(self, function: L, /) -> L:
        """Have each job worker run this around its jobs: an async generator that yields once, or a
        function that returns an async context manager."""
        if self._lifespan is not None:
            raise ValueError("these Jobs have a lifespan already")
        self._lifespan = function
        return function

    def middleware(self, function: M, /) -> M:
        """Have this run around each job: `async def mw(job, call_next)`.

        `await call_next()` runs the job and returns its result. The first one is the outermost.

        A plain function runs around the jobs that are plain functions, in the job's thread, inside
        of the coroutine functions: for what belongs to a thread, as Django's connections do.
        """
        middlewares: list[Any] = self.plain_middlewares
        if inspect.iscoroutinefunction(function):
            middlewares = self.middlewares
        middlewares.append(function)
        return function

    def on_discarded(self, function: D, /) -> D:
        """Have this called with the job and its error when an attempt was its last one."""
        self.discarded_handlers.append(function)
        return function

    # --- enqueueing

    def enqueue_many(self, calls: Sequence[Call[R]]) -> list[Handle[R]]:
        """Store all of these calls in one transaction, or none: `job.call(…)` makes one."""
        refuse_event_loop("enqueue_many")
        new = self._new(calls)
        stored = self.backend.enqueue(new) if new else []
        return [call.handle(one, self.backend) for call, one in zip(calls, stored, strict=True)]

    def aenqueue_many(self, calls: Sequence[Call[R]]) -> Coroutine[Any, Any, list[Handle[R]]]:
        """Store all of these calls in one transaction, or none: `job.call(…)` makes one."""
        return MustBeAwaited(self._aenqueue_many(calls), f"{len(calls)} jobs")

    async def _aenqueue_many(self, calls: Sequence[Call[R]]) -> list[Handle[R]]:
        new = self._new(calls)
        stored = await self.backend.aenqueue(new) if new else []
        return [call.handle(one, self.backend) for call, one in zip(calls, stored, strict=True)]

    def _new(self, calls: Sequence[Call[Any]]) -> list[NewJob]:
        for call in calls:
            if call.job.home is not self:
                raise ValueError(f"the job {call.job.name} does not belong to these Jobs")
        return [call.new(self.backend) for call in calls]

    # --- tests of applications

    def testing(self, *, inline: bool = False, now: datetime | None = None) -> "Testing":
        """Return a context manager in which jobs are kept in memory and need no worker.

        They run at its `drain()`, or with `inline` where they are enqueued. Its clock begins at
        `now` and stands still until `move("10m")`. Use `async with` where an event loop runs.
        """
        # Here, since only tests need it: it imports asyncio.
        made: Testing = importlib.import_module("clusterd.jobs.testing").Testing(self, inline, now)
        return made

    # --- the job worker's application

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        """Run the jobs of a worker from its startup to its shutdown (ASGI lifespan)."""
        if scope["type"] != "lifespan":
            raise RuntimeError(f"a Jobs object serves no {scope['type']}: run it with --jobs")
        extensions = scope.get("extensions", {})
        await receive()
        async with contextlib.AsyncExitStack() as stack:
            try:
                for job in self.registry.values():
                    job.signature.shapes()  # what cannot be carried is refused before it is needed
                await stack.enter_async_context(self.entered())
                # Here, since a web worker that only enqueues does not need it.
                create = importlib.import_module("clusterd.jobs.worker").create
                worker = await create(self, extensions)
                await worker.start()
            except Exception:
                message = traceback.format_exc()
                await send({"type": "lifespan.startup.failed", "message": message})
                return
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await worker.stop(_time_left(extensions))
        await send({"type": "lifespan.shutdown.complete"})

    def entered(self) -> AbstractAsyncContextManager[Any]:
        """Return the context manager of the application's lifespan around its jobs."""
        function = self._lifespan
        if function is None:
            return contextlib.nullcontext()
        if inspect.isasyncgenfunction(function):
            return contextlib.asynccontextmanager(function)()
        made: Any = function()
        manager: AbstractAsyncContextManager[Any] = made
        return manager


def _time_left(extensions: dict[str, Any]) -> Callable[[], float]:
    """Return a function that returns the seconds until this process is ended."""
    end = time.monotonic() + GRACEFUL_TIMEOUT
    told = extensions.get("clusterd.drain", {}).get("left", lambda: None)

    def left() -> float:
        seconds: float | None = told()
        return end - time.monotonic() if seconds is None else seconds

    return left


@overload
def job(  # type: ignore[overload-overlap]
    function: Callable[P, Coroutine[Any, Any, R]], /
) -> AsyncJob[P, R]: ...


@overload
def job(function: Callable[P, R], /) -> PlainJob[P, R]: ...


@overload
def job(**options: Unpack[Declared]) -> Declare: ...


def job(function: Callable[..., Any] | None = None, /, **options: Unpack[Declared]) -> Any:
    """Declare a job of a package that does not know the application's `Jobs`.

    It belongs to the Jobs that includes its module: `jobs.include("shop.mail.jobs")`. It takes the
    options of `Jobs.job`.
    """

    def declare(function: Callable[..., Any]) -> Job[Any, Any]:
        return make_job(function, options, None)

    return declare if function is None else declare(function)
