"""The workloads' ASGI app: no framework, so that what they ask for is all there is."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import tasks  # type: ignore[import-not-found]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
TEXT, JSON, HTML = b"text/plain", b"application/json", b"text/html; charset=utf-8"


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """One path a workload; a WebSocket is an echo."""
    if scope["type"] == "http":
        path: str = scope["path"]
        handler = ROUTES.get(path)
        if handler is not None:
            await handler(receive, send)
        elif path.startswith("/items/") and path[7:].isdecimal():
            await _answer(send, tasks.item(int(path[7:])), JSON)
        else:
            await _answer(send, b"", TEXT, 404)
    elif scope["type"] == "websocket":
        await _echo(receive, send)
    else:
        await _lifespan(receive, send)


async def _hello(_: Receive, send: Send) -> None:
    await _answer(send, tasks.HELLO)


async def _page(_: Receive, send: Send) -> None:
    await _answer(send, tasks.page(), HTML)


async def _wait(_: Receive, send: Send) -> None:
    """What a call to another service looks like from here."""
    await asyncio.sleep(tasks.WAIT)
    await _answer(send, tasks.HELLO)


async def _compute(_: Receive, send: Send) -> None:
    await _answer(send, tasks.compute())


async def _block(_: Receive, send: Send) -> None:
    """A driver that knows no await: the whole worker is held."""
    time.sleep(tasks.BLOCK)  # noqa: ASYNC251 - to block is the point
    await _answer(send, tasks.HELLO)


async def _upload(receive: Receive, send: Send) -> None:
    """Take a body piece by piece, and answer how long it was."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message.get("body", b""))
        more = message.get("more_body", False)
    await _answer(send, str(size).encode())


async def _stream(_: Receive, send: Send) -> None:
    """100 KiB in a hundred pieces, its length not told."""
    headers = [(b"content-type", TEXT)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for piece in tasks.PIECES:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


ROUTES = {
    "/": _hello,
    "/page": _page,
    "/wait": _wait,
    "/compute": _compute,
    "/block": _block,
    "/upload": _upload,
    "/stream": _stream,
}


async def _answer(send: Send, body: bytes, kind: bytes = TEXT, status: int = 200) -> None:
    headers = [(b"content-type", kind), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _echo(receive: Receive, send: Send) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        kind = "text" if message.get("text") is not None else "bytes"
        await send({"type": "websocket.send", kind: message[kind]})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": message["type"] + ".complete"})
        if message["type"] == "lifespan.shutdown":
            return
