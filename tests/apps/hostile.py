"""What hostile clients like: an app that takes nothing, and one that sends much."""

import asyncio
import contextlib
import os
from typing import Any

LARGE = 2_000_000
SECONDS = float(os.environ.get("TAKES_EVERY", "1"))  # from one piece of a body that it takes on
BEAT = 3.0  # seconds from one message that it sends to the next


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        # It receives no message, and returns some time after its client is gone. Sessions with
        # which an application goes on for ever count nowhere: 6.7 KiB each were measured.
        with contextlib.suppress(OSError):
            while True:
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=BEAT)
                await send({"type": "websocket.send", "bytes": b"x"})
    elif scope["type"] == "http":
        if scope["method"] == "POST":
            while (await receive())["type"] != "http.disconnect":
                # It takes a body, but slowly.
                await asyncio.wait([asyncio.get_running_loop().create_future()], timeout=SECONDS)
        size = LARGE if scope["path"] == "/large" else 5
        headers = [(b"content-length", b"%d" % size)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        # Made anew for each: what all share costs nothing.
        await send({"type": "http.response.body", "body": b"x" * size})


def wsgi(environ: Any, start_response: Any) -> list[bytes]:
    start_response("200 OK", [("Content-Length", "5")])
    return [b"xxxxx"]
