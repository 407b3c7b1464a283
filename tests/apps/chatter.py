"""Sends messages back, streams events, and counts both. Beyond BUDGET it falls silent: what a
client has counted by then can be held against it exactly."""

import asyncio
import json
import os
from collections import Counter

BUDGET = int(os.environ.get("BUDGET", "0")) or 10**9
EVENTS = 4  # of a stream

told = Counter()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    if scope["type"] == "websocket":
        return await echo(receive, send)
    if scope["path"] == "/told":
        return await whole(send, json.dumps(told).encode())
    if scope["path"] == "/events":
        return await events(receive, send)
    return await taken(receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def whole(send, body):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": body})


async def spent(kind, receive):
    """Whether the budget is; then this says nothing more, and ends with its client."""
    if told[kind] < BUDGET:
        told[kind] += 1
        return False
    while not (await receive())["type"].endswith(".disconnect"):
        pass
    return True


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        if await spent("echoes", receive):
            return
        told["bytes"] += len(message["text"])
        await send({"type": "websocket.send", "text": message["text"]})


async def events(receive, send):
    if await spent("streams", receive):
        return
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for number in range(EVENTS):
        data = b": still there\n\ndata: %d\n\n" % number
        await send({"type": "http.response.body", "body": data, "more_body": True})
        await asyncio.sleep(0)
    await send({"type": "http.response.body", "body": b""})


async def taken(receive, send):
    size, pieces = 0, 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        size += len(message["body"])
        pieces += bool(message["body"])
        if not message.get("more_body"):
            break
    told["in pieces" if pieces > 1 else "at once"] += 1
    told["bytes"] += size
    await whole(send, b"ok")
