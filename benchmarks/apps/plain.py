"""The app that every Python server serves: no framework, so that only the server is measured."""

import os
import time
from typing import Any

HELLO = b"Hello, world!"


def _start(length: int) -> dict[str, Any]:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


HELLO_START = _start(len(HELLO))
HELLO_BODY = {"type": "http.response.body", "body": HELLO}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`/` says hello, `/pid` who answers, `/block` holds its whole worker for 20 ms."""
    if scope["type"] == "lifespan":
        await _lifespan(receive, send)
    elif scope["path"] == "/pid":
        body = str(os.getpid()).encode()
        await send(_start(len(body)))
        await send({"type": "http.response.body", "body": body})
    else:
        if scope["path"] == "/block":
            time.sleep(0.02)  # noqa: ASYNC251 - to block is the point
        await send(HELLO_START)
        await send(HELLO_BODY)


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
