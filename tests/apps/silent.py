"""Event streams that have begun and say nothing, as those of a quiet day do. ASGI and WSGI."""

import asyncio
import threading

from tell import lifespan

HEADERS = [("Content-Type", "text/event-stream")]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await lifespan(receive, send)
        return
    headers = [(name.lower().encode(), value.encode()) for name, value in HEADERS]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if scope["path"] == "/hello":
        await send({"type": "http.response.body", "body": b"hello"})
    else:
        await asyncio.Event().wait()


def wsgi(environ, start_response):
    start_response("200 OK", HEADERS)
    return [b"hello"] if environ["PATH_INFO"] == "/hello" else silence()


def silence():
    threading.Event().wait(2)
    yield b""
