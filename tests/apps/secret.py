"""An application that tells what it is told of TLS, and takes and gives large bodies."""

import json
import os

PIECE = bytes(range(256)) * 256


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    act = talk if scope["type"] == "websocket" else ROUTES.get(scope["path"], tell)
    await act(scope, receive, send)


async def answer(send, what):
    body = json.dumps(what).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def tell(scope, receive, send):
    tls = scope["extensions"].get("tls")
    told = {"pid": os.getpid(), "scheme": scope["scheme"], "tls": tls, "client": scope["client"]}
    await answer(send, told)


async def talk(scope, receive, send):
    await receive()
    await send({"type": "websocket.accept"})
    text = (await receive())["text"]
    told = [scope["scheme"], scope["extensions"]["tls"]["tls_version"], text]
    await send({"type": "websocket.send", "text": json.dumps(told)})
    await receive()


async def swallow(scope, receive, send):
    size, more = 0, True
    while more:
        message = await receive()
        size += len(message["body"])
        more = message["more_body"]
    await answer(send, size)


async def echo(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    more = True
    while more:
        message = await receive()
        more = message["more_body"]
        await send({"type": "http.response.body", "body": message["body"], "more_body": more})


async def pour(scope, receive, send):
    """16 MiB, as fast as the client takes them."""
    count = 256
    headers = [(b"content-length", str(count * len(PIECE)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    for left in range(count, 0, -1):
        await send({"type": "http.response.body", "body": PIECE, "more_body": left > 1})


ROUTES = {"/swallow": swallow, "/echo": echo, "/pour": pour}
