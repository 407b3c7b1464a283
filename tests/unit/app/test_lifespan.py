"""ASGI lifespan: found out by asking, and never in the way of an app that has none."""

import asyncio
import logging
import traceback
from typing import Any

import pytest

from clusterd.app.lifespan import Lifespan, StartupFailed, headline

Call = Any


def run(story: Any) -> Any:
    return asyncio.run(story)


def test_an_app_starts_and_stops_and_shares_its_state() -> None:
    seen = []

    async def app(scope: Call, receive: Call, send: Call) -> None:
        assert scope["type"] == "lifespan"
        seen.append((await receive())["type"])
        scope["state"]["pool"] = "deep"
        await send({"type": "lifespan.startup.complete"})
        seen.append((await receive())["type"])
        await send({"type": "lifespan.shutdown.complete"})
        seen.append("cleaned up after its answer")

    async def story() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert lifespan.supported
        assert lifespan.state == {"pool": "deep"}
        await lifespan.shutdown(5.0)

    run(story())
    assert seen == ["lifespan.startup", "lifespan.shutdown", "cleaned up after its answer"]


async def raises(scope: Call, receive: Call, send: Call) -> None:
    assert scope["type"] == "http"


async def returns(scope: Call, receive: Call, send: Call) -> None:
    return


@pytest.mark.parametrize("app", [raises, returns])
def test_an_app_without_lifespan_is_served(app: Call, caplog: pytest.LogCaptureFixture) -> None:
    async def story() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        assert not lifespan.supported
        await lifespan.shutdown(5.0)

    caplog.set_level(logging.INFO)
    run(story())
    assert caplog.records == []  # it is no news to anybody


def test_one_that_raises_after_it_was_told_is_served_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The specification wants it so; it looks like a fault, though, so the traceback is logged."""

    async def app(scope: Call, receive: Call, send: Call) -> None:
        await receive()
        raise OSError("no database")

    run(Lifespan(app).startup())
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None


def test_startup_failed_is_a_refusal_with_its_reason() -> None:
    """Starlette sends the whole traceback as its message."""

    async def app(scope: Call, receive: Call, send: Call) -> None:
        message = 'Traceback:\n  File "shop.py", line 1\nOSError: no database\n'
        await send({"type": "lifespan.startup.failed", "message": message})
        raise OSError("no database")

    with pytest.raises(StartupFailed, match="startup failed: OSError: no database") as caught:
        run(Lifespan(app).startup())
    assert caught.value.trace.startswith("Traceback:")


def raised(error: Exception) -> str:
    """The traceback, as Starlette sends it."""
    try:
        raise error
    except Exception:
        return traceback.format_exc()


def in_a_group() -> str:
    try:
        raise ExceptionGroup("unhandled errors in a TaskGroup", [ValueError("x")])
    except ExceptionGroup:
        return traceback.format_exc()


ONE_PAGE = "(no) no such table: a\n[SQL: SELECT 1]\n(Background on this error at: https://sql.me/x)"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (raised(OSError("no database")), "OSError: no database"),
        (raised(OSError(ONE_PAGE)), "OSError: (no) no such table: a"),
        (raised(OSError("\nhost is away")), "OSError: host is away"),
        (raised(OSError()), "OSError"),
        (in_a_group(), "ExceptionGroup: unhandled errors in a TaskGroup (1 sub-exception)"),
        ("the database is away\n  see the manual", "the database is away"),
        ("\n", "it gave no reason"),
        ('  File "a", line 1', 'File "a", line 1'),
    ],
)
def test_of_a_failed_startup_the_exceptions_own_line_is_told(said: str, told: str) -> None:
    """Reports from the field, Q9."""
    assert StartupFailed(said).message == f"the application's lifespan startup failed: {told}"


def test_of_an_exception_in_a_group_the_innermost_is_told() -> None:
    async def fail() -> None:
        raise ValueError("no database")

    async def main() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())

    try:
        asyncio.run(main())
    except ExceptionGroup:
        assert headline(traceback.format_exc()) == "ValueError: no database"


def test_an_app_that_exits_in_startup_does_not_want_to_serve() -> None:
    async def app(scope: Call, receive: Call, send: Call) -> None:
        raise SystemExit(3)

    async def story() -> None:
        await Lifespan(app).startup()

    loop = asyncio.new_event_loop()
    task = loop.create_task(story())
    with pytest.raises(SystemExit):  # it breaks out of the loop first
        loop.run_until_complete(task)
    with pytest.raises(StartupFailed, match=r"sys\.exit\(3\)"):
        loop.run_until_complete(task)
    loop.close()


def test_shutdown_takes_no_longer_than_it_may(caplog: pytest.LogCaptureFixture) -> None:
    ended = []

    async def app(scope: Call, receive: Call, send: Call) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def story() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await lifespan.shutdown(0.0)

    run(story())
    assert ended == ["cancelled"]
    assert "cut short" in caplog.text


def test_a_failed_shutdown_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Call, receive: Call, send: Call) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await send({"type": "lifespan.shutdown.failed", "message": "the pool is stuck"})

    async def story() -> None:
        lifespan = Lifespan(app)
        await lifespan.startup()
        await lifespan.shutdown(5.0)

    run(story())
    assert "the pool is stuck" in caplog.text


def test_a_wrong_answer_is_the_apps_error() -> None:
    """It is told where it made it."""
    said = []

    async def app(scope: Call, receive: Call, send: Call) -> None:
        try:
            await send({"type": "lifespan.shutdown.complete"})
        except RuntimeError as error:
            said.append(str(error))
            raise

    run(Lifespan(app).startup())
    assert said == ["the application sent 'lifespan.shutdown.complete' where startup is answered"]


def test_cancelled_in_startup_the_app_is_cancelled_too() -> None:
    """A reload may land in the middle of a boot."""
    ended = []

    async def app(scope: Call, receive: Call, send: Call) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    async def story() -> None:
        task = asyncio.create_task(Lifespan(app).startup())
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(story())
    assert ended == ["cancelled"]
