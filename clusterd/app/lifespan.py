"""ASGI lifespan: the app's own start-up and shutdown, around everything that a worker serves.

Supported or not is found out by asking: an app that raises or returns without an answer has no
lifespan, which is no fault. One that says `startup.failed` does not want to serve.
"""

import asyncio
import contextlib
import re
from collections.abc import Awaitable, Callable
from typing import Any

from clusterd.app.importer import own_traceback
from clusterd.core.errors import AppError
from clusterd.core.log import block, get_logger

logger = get_logger("clusterd.lifespan")

Event = dict[str, Any]
App = Callable[[Event, Callable[[], Awaitable[Event]], Callable[[Event], Awaitable[None]]], Any]


# Of a traceback, or of one in an exception group, whose lines have a margin of spaces and bars.
FRAME = re.compile(r'([ |+]*)  File ".*", line \d+')


class StartupFailed(AppError):
    """The app does not want to serve. `trace` is what it sent, which often is a traceback."""

    def __init__(self, said: str, trace: str = "") -> None:
        super().__init__(f"the application's lifespan startup failed: {headline(said)}")
        self.trace = trace or (said if len(said.strip().splitlines()) > 1 else "")


def headline(said: str) -> str:
    """Return the line that says what went wrong: of a traceback the exception's own first line.

    Its message may have more lines: SQLAlchemy's end with the address of a page about errors.
    """
    lines = said.strip("\n").splitlines()
    frames = [n for n, line in enumerate(lines) if FRAME.match(line)]
    if not frames:
        said_first = (line.strip() for line in lines if not line.startswith("Traceback"))
        return next(filter(None, said_first), "it gave no reason")
    margin = lines[frames[-1]].index('  File "')
    rest = [line[margin:] for line in lines[frames[-1] + 1 :]]
    found = [line.strip() for line in rest if line[:1].strip()] or [lines[-1].strip()]
    if found[0].endswith(":") and len(found) > 1:
        return f"{found[0]} {found[1]}"  # a message that begins with the end of a line
    return found[0]


class Lifespan:
    """One worker's conversation with its app. `state` is shared with every request's scope."""

    def __init__(self, app: App) -> None:
        self.state: dict[str, Any] = {}
        self.extensions: dict[str, Any] = {}
        self.supported = False
        self._app = app
        self._inbox: asyncio.Queue[Event] = asyncio.Queue()
        self._task: asyncio.Task[None] | None = None
        self._answer: asyncio.Future[str] | None = None  # '' for complete, else the failure
        self._asked = False  # the app took an event: it knows what a lifespan is

    async def startup(self) -> None:
        """Returns once the app is ready to serve; raises StartupFailed when it will not be."""
        loop = asyncio.get_running_loop()
        self._answer = loop.create_future()
        self._inbox.put_nowait({"type": "lifespan.startup"})
        self._task = loop.create_task(self._run(), name="lifespan")
        try:
            both: set[asyncio.Future[Any]] = {self._answer, self._task}
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        except asyncio.CancelledError:
            await self._give_up()
            raise
        if not self._answer.done():
            self._judge_silence(self._task)
            return
        failure = self._answer.result()
        if failure:
            await self._give_up()
            raise StartupFailed(failure)
        self.supported = True

    async def shutdown(self, within: float) -> None:
        """Tell the app to clean up, and wait for it no longer than `within` seconds."""
        task = self._task
        if not self.supported or task is None or task.done():
            return
        self._answer = asyncio.get_running_loop().create_future()
        self._inbox.put_nowait({"type": "lifespan.shutdown"})
        # Also waits for what the app does after its answer, which is the end of its cleaning up.
        await asyncio.wait({task}, timeout=max(0.0, within))
        if self._answer.done() and self._answer.result():
            said = self._answer.result()
            more = block(said) if "\n" in said.strip() else None
            logger.error("lifespan shutdown failed: %s", headline(said), extra=more)
        if not task.done():
            if not self._answer.done():
                logger.warning("lifespan shutdown was cut short after %.1f s", within)
            await self._give_up()

    async def _run(self) -> None:
        scope: Event = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self.state,
            "extensions": self.extensions,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except asyncio.CancelledError:
            raise
        except Exception:
            if self.supported:
                logger.exception("the application's lifespan raised")
            else:
                raise

    async def _receive(self) -> Event:
        self._asked = True
        return await self._inbox.get()

    async def _send(self, event: Event) -> None:
        kind = event["type"]
        stage, _, outcome = kind.removeprefix("lifespan.").partition(".")
        expected = "shutdown" if self.supported else "startup"
        if stage != expected or outcome not in ("complete", "failed"):
            raise RuntimeError(f"the application sent {kind!r} where {expected} is answered")
        if self._answer is None or self._answer.done():
            raise RuntimeError(f"the application answered lifespan.{stage} twice")
        if outcome == "complete":
            self._answer.set_result("")
        else:
            self._answer.set_result(event.get("message") or "it gave no reason")

    def _judge_silence(self, task: asyncio.Task[None]) -> None:
        """It ended without an answer: no lifespan, which is fine, unless it looks like a fault."""
        error = task.exception()
        if isinstance(error, SystemExit | KeyboardInterrupt):
            said = f"it called sys.exit({getattr(error, 'code', '')!r})"
            raise StartupFailed(said, own_traceback(error))
        if error is None or not self._asked:
            why = "" if error is None else f" ({type(error).__name__}: {error})"
            logger.debug("the application has no lifespan%s", why)
            return
        # The specification wants it served on. Someone will want to know, though.
        logger.warning(
            "the application's lifespan raised in startup without an answer, taken as no lifespan",
            exc_info=error,
        )

    async def _give_up(self) -> None:
        """Cancel the app's task, and let it see the cancellation."""
        if self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait({self._task}, timeout=1.0)
        if self._task is not None and self._task.done() and not self._task.cancelled():
            with contextlib.suppress(Exception):
                self._task.result()
