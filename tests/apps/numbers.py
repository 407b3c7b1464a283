"""Streams of numbers over events and WebSockets, which go on where their client says it stopped.

What `send` has taken is written down, stream by stream, so that a test can ask for every bit of it.
The last part of the path says how a stream takes it that its worker leaves: `polite` ends at the
notice, `plain` knows of nothing, `deaf` does not even hear that it is cancelled.
"""

import asyncio
import json
import os
import uuid

from tell import lifespan

PAUSE = 0.05  # seconds between two numbers


async def app(scope, receive, send):
    kind = scope.get("path", "")
    if scope["type"] == "lifespan":
        hearing = asyncio.ensure_future(hear(scope["extensions"]["clusterd.drain"]))
        await lifespan(receive, send)
        hearing.cancel()
    elif kind == "/deaf":
        await deaf(send)
    elif kind == "/upload":
        await upload(receive, send)
    else:
        over = events if scope["type"] == "http" else messages
        await over(scope, receive, send, kind == "/polite")


def note(suffix, line):
    with open(os.environ["TAKEN"] + suffix, "a") as file:
        file.write(f"{line}\n")  # one write: others append to the same file


async def hear(drain):
    """What the lifespan is told of its worker's leaving."""
    note(".left", str(await drain["wait"]()))


class Stream:
    """One stream's numbers, from where its client says that it stopped."""

    def __init__(self, last):
        self.name = uuid.uuid4().hex
        self.taken = last

    def next(self):
        return {"stream": self.name, "number": self.taken + 1, "pid": os.getpid()}

    def over(self):
        note("", json.dumps({"stream": self.name, "taken": self.taken}))


async def pause(receive):
    """Whether the client is still there after a while."""
    try:
        message = await asyncio.wait_for(receive(), PAUSE)
    except TimeoutError:
        return True
    return not message["type"].endswith("disconnect")


async def events(scope, receive, send, polite):
    """Server-sent events; `polite` says goodbye at the drain notice."""
    drain = scope["extensions"]["clusterd.drain"]
    stream = Stream(int(dict(scope["headers"]).get(b"last-event-id", 0)))
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    try:
        while not (polite and drain["left"]() is not None):
            told = stream.next()
            event = f"id: {told['number']}\ndata: {json.dumps(told)}\n\n".encode()
            await send({"type": "http.response.body", "body": event, "more_body": True})
            stream.taken += 1
            if not await pause(receive):
                return
        await send({"type": "http.response.body", "body": b"event: bye\n\n"})
    except OSError:
        pass  # ended for us
    finally:
        stream.over()


async def messages(scope, receive, send, polite):
    """The same over a WebSocket."""
    drain = scope["extensions"]["clusterd.drain"]
    stream = Stream(int(scope["query_string"] or 0))
    await receive()
    await send({"type": "websocket.accept"})
    try:
        while not (polite and drain["left"]() is not None):
            await send({"type": "websocket.send", "text": json.dumps(stream.next())})
            stream.taken += 1
            if not await pause(receive):
                return
        await send({"type": "websocket.close", "code": 1012})
    except OSError:
        pass
    finally:
        stream.over()


async def deaf(send):
    """Nothing stops it but the end of its process."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    never = asyncio.get_running_loop().create_future()
    while True:
        try:
            await send({"type": "http.response.body", "body": b": x\n\n", "more_body": True})
            await asyncio.wait({never}, timeout=PAUSE)
        except (asyncio.CancelledError, OSError):
            await asyncio.sleep(0)


async def upload(receive, send):
    """How many bytes came, after all of them did."""
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    body = str(size).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
