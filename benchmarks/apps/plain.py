"""The app that every Python server serves: no framework, so that only the server is measured."""

import asyncio
import os
import time
from typing import Any

HELLO = b"Hello, world!"
MEGABYTE = bytes(1_000_000)
PIECES = [b"ten bytes\n"] * 100


def _start(length: int) -> dict[str, Any]:
    headers = [(b"content-type", b"text/plain"), (b"content-length", str(length).encode())]
    return {"type": "http.response.start", "status": 200, "headers": headers}


HELLO_START = _start(len(HELLO))
HELLO_BODY = {"type": "http.response.body", "body": HELLO}
STREAM_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain")],
}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """`/` says hello; every other path has a handler of its own; a WebSocket is an echo."""
    if scope["type"] == "http":
        handler = ROUTES.get(scope["path"])
        if handler is not None:
            await handler(receive, send)
        else:
            await send(HELLO_START)
            await send(HELLO_BODY)
    elif scope["type"] == "websocket":
        await _echo(receive, send)
    else:
        await _lifespan(receive, send)


async def _pid(_: Any, send: Any) -> None:
    """Who answers."""
    await _answer(send, str(os.getpid()).encode())


async def _block(_: Any, send: Any) -> None:
    """Hold the whole worker for 20 ms."""
    time.sleep(0.02)  # noqa: ASYNC251 - to block is the point
    await send(HELLO_START)
    await send(HELLO_BODY)


async def _stuck(_: Any, __: Any) -> None:
    """Hold the whole worker for good."""
    while True:
        pass


async def _post(receive: Any, send: Any) -> None:
    """Take a body and answer how long it was."""
    body = b""
    while True:
        message = await receive()
        body += message.get("body", b"")
        if not message.get("more_body"):
            break
    await _answer(send, str(len(body)).encode())


async def _large(_: Any, send: Any) -> None:
    """A megabyte in one piece."""
    await _answer(send, MEGABYTE)


async def _stream(_: Any, send: Any) -> None:
    """A kilobyte in a hundred pieces, its length not told."""
    await send(STREAM_START)
    for piece in PIECES:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _silent(receive: Any, send: Any) -> None:
    """An event stream that has begun, and no event until the client leaves."""
    began = str(time.monotonic_ns()).encode()
    headers = [(b"content-type", b"text/event-stream"), (b"x-began", began)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    while (await receive())["type"] != "http.disconnect":
        pass


async def _silent_later(receive: Any, send: Any) -> None:
    """The same, begun only after a wait."""
    await asyncio.sleep(0.001)
    await _silent(receive, send)


ROUTES = {
    "/silent": _silent,
    "/silent-later": _silent_later,
    "/pid": _pid,
    "/block": _block,
    "/stuck": _stuck,
    "/post": _post,
    "/large": _large,
    "/stream": _stream,
}


async def _answer(send: Any, body: bytes) -> None:
    await send(_start(len(body)))
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})


async def _lifespan(receive: Any, send: Any) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
