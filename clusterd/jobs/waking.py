"""Wait for an event, but never for long: a bell may have been missed."""

import asyncio


async def wait(event: asyncio.Event, seconds: float) -> None:
    """Wait until an event is set, and set it after so many seconds.

    Without the task that `asyncio.wait_for` makes on Python 3.11: idle processes wait all the time.
    """
    handle = asyncio.get_running_loop().call_later(seconds, event.set)
    try:
        await event.wait()
    finally:
        handle.cancel()
