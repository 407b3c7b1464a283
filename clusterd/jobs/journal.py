"""Follow the master's journal: which processes ended, the moment it knows."""

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import Any

from clusterd.ipc.trusted import stranger

AGAIN = 1.0  # seconds until the master is asked again, which is away during an upgrade only
LONGEST_LINE = 1024 * 1024  # bytes of one event


async def follow(path: str, hear: Callable[[dict[str, Any]], None], log: logging.Logger) -> None:
    """Pass each event from now on to `hear`, for ever; over a new connection where one ends.

    What happens while there is none is not seen. `hear` gets an empty event at each connection, so
    that it can look for itself.
    """
    is_told = False
    while True:
        try:
            await _listen(path, hear)
            is_told = False
        except (OSError, ValueError, asyncio.LimitOverrunError) as error:
            if not is_told:
                is_told = True
                log.warning("the master's journal cannot be read, and is tried again: %s", error)
        await asyncio.sleep(AGAIN)


async def _listen(path: str, hear: Callable[[dict[str, Any]], None]) -> None:
    """Read events until the master hangs up. Raises OSError, or ValueError for what is no event."""
    reader, writer = await asyncio.open_unix_connection(path, limit=LONGEST_LINE)
    try:
        sock = writer.get_extra_info("socket")
        if stranger(sock, path) is not None:
            raise OSError(f"what listens at {path} is another user's")
        request = {"command": "events", "since": 0, "follow": True}
        writer.write(json.dumps(request).encode() + b"\n")
        hear({})
        while line := await reader.readline():
            event = json.loads(line)
            if not isinstance(event, dict):
                raise ValueError("what the master sent is no event")
            hear(event)
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
