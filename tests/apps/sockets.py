"""An application of WebSockets: sends back, counts up until its client is gone, or ignores it."""

import asyncio
import os
from pathlib import Path

VERSION = os.environ.get("VERSION", "1")


async def app(scope, receive, send):
    if scope["type"] == "websocket":
        await receive()
        await ROUTES[scope["path"].split("/")[1]](scope, receive, send)
    elif scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"here"})
    else:
        raise NotImplementedError


async def echo(scope, receive, send):
    await send({"type": "websocket.accept", "subprotocol": next(iter(scope["subprotocols"]), None)})
    while (message := await receive())["type"] == "websocket.receive":
        await send({**message, "type": "websocket.send"})


async def closes(scope, receive, send):
    await send({"type": "websocket.accept"})
    await send({"type": "websocket.close", "code": 4321, "reason": "as asked"})


async def denies(scope, receive, send):
    kind = "websocket.http.response."
    headers = [(b"content-type", b"text/plain"), (b"x-why", b"because")]
    await send({"type": kind + "start", "status": 402, "headers": headers})
    await send({"type": kind + "body", "body": b"pay first"})


async def refuses(scope, receive, send):
    await send({"type": "websocket.close"})


async def fails(scope, receive, send):
    await send({"type": "websocket.accept"})
    raise ValueError("of the app's own")


async def counts(scope, receive, send):
    """Send ten numbers for each message of the client; at the end write down how many were sent."""
    sent = 0
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        try:
            for _ in range(10):
                await send({"type": "websocket.send", "text": str(sent)})
                sent += 1
        except OSError:
            pass  # why is what the next messages tell
    place = Path(os.environ["PLACE"])
    name = scope["path"].rpartition("/")[2]
    (place / f"{name}.new").write_text(f"{sent} {message['code']}")
    (place / f"{name}.new").rename(place / name)


async def ignores(scope, receive, send):
    await send({"type": "websocket.accept"})
    while True:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            pass


ROUTES = {
    "echo": echo,
    "closes": closes,
    "denies": denies,
    "refuses": refuses,
    "fails": fails,
    "counts": counts,
    "ignores": ignores,
}
