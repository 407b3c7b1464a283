"""An application that blocks its event loop for 20 ms with each request and each message."""

import threading

BLOCK = 0.02  # seconds


def block():
    threading.Event().wait(BLOCK)


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": f"{message['type']}.complete"})
    elif scope["type"] == "websocket":
        await echo(receive, send)
    else:
        block()
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})


async def echo(receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        block()
        await send({"type": "websocket.send", "text": message["text"]})
