"""An application that takes what it is asked to take: memory for good, or the CPU for a while."""

import os
import time

kept = []


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/leak":
        kept.append(os.urandom(1024) * 128)
    elif scope["path"] == "/spin":
        end = time.thread_time() + 0.05
        while time.thread_time() < end:
            pass
    body = str(os.getpid()).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
