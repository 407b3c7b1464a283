"""The app that every Python server serves: no framework, so that only the server is measured."""

import os
import time
from typing import Any

HELLO = b"Hello, world!"


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`/` says hello, `/pid` who answers, `/block` holds its whole worker for 20 ms."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    path = scope["path"]
    body = HELLO
    if path == "/pid":
        body = str(os.getpid()).encode()
    elif path == "/block":
        time.sleep(0.02)
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [
                (b"content-type", b"text/plain"),
                (b"content-length", str(len(body)).encode()),
            ],
        }
    )
    await send({"type": "http.response.body", "body": body})
