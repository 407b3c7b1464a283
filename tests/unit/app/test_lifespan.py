"""ASGI lifespan: found out by asking, and never in the way of an app that has none."""

import asyncio
import logging
from typing import Any

import pytest

from clusterd.app.lifespan import Lifespan, StartupFailed

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
        message = "Traceback:\n  in shop\nOSError: no database\n"
        await send({"type": "lifespan.startup.failed", "message": message})
        raise OSError("no database")

    with pytest.raises(StartupFailed, match="startup failed: OSError: no database") as caught:
        run(Lifespan(app).startup())
    assert caught.value.trace.startswith("Traceback:")


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
