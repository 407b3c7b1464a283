"""An application that says who answers, and does what a test tells it to."""

import asyncio
import json
import os
import re
import signal
import socket

VERSION = os.environ.get("VERSION", "1")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"]
    act = ROUTES.get(path, who)
    return await act(scope, receive, send)


async def lifespan(receive, send):
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return


async def answer(send, body, status=200):
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def who(scope, receive, send):
    await answer(send, {"pid": os.getpid(), "version": VERSION})


async def knock():
    """Tell the test that the request has begun; wait until it says go on."""
    reader, writer = await asyncio.open_unix_connection(os.environ["GATE"])
    writer.write(str(os.getpid()).encode())
    await reader.read(1)
    writer.close()


async def held(scope, receive, send):
    await knock()
    await who(scope, receive, send)


def knock_blocking(wait=False):
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(os.environ["GATE"])
    sock.sendall(str(os.getpid()).encode())
    if wait:
        sock.recv(1)
    sock.close()


async def blocked(scope, receive, send):
    """Hold the event loop until let go."""
    knock_blocking(wait=True)
    await who(scope, receive, send)


async def busy(scope, receive, send):
    """Never give the loop back, in Python."""
    knock_blocking()
    while True:
        pass


async def busy_in_c(scope, receive, send):
    """Never give the loop or the GIL back, in C: no signal handler of Python's runs."""
    knock_blocking()
    re.match(r"(a+)+$", "a" * 64 + "b")


async def stream(scope, receive, send):
    """An answer without an end of its own."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"first\n", "more_body": True})
    await knock()
    await send({"type": "http.response.body", "body": b"last\n"})


async def events(scope, receive, send):
    """A stream of events that the app would never end."""
    headers = [(b"content-type", b"text/event-stream")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": b"data: 1\n\n", "more_body": True})
    while (await receive())["type"] != "http.disconnect":
        pass


async def mirror(scope, receive, send):
    """Answer with the body, each piece as it comes."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def die(scope, receive, send):
    os.kill(os.getpid(), signal.SIGKILL)


async def fail(scope, receive, send):
    raise RuntimeError("the app's own fault")


ROUTES = {
    "/held": held,
    "/blocked": blocked,
    "/busy": busy,
    "/busy-in-c": busy_in_c,
    "/stream": stream,
    "/events": events,
    "/mirror": mirror,
    "/die": die,
    "/fail": fail,
}
