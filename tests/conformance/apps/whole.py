"""Says what it was asked, once it has all of it; a request without an end gets no answer of it."""

import json
from typing import Any

SHOWN = ("method", "http_version", "path", "raw_path", "query_string")


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            return
        body += message["body"]
        more = message["more_body"]
    told: dict[str, Any] = {name: text(scope[name]) for name in SHOWN}
    told["headers"] = [[text(name), text(value)] for name, value in scope["headers"]]
    told["body"] = text(body)
    answer = json.dumps(told).encode()
    await send(
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(b"content-length", b"%d" % len(answer))],
        }
    )
    await send({"type": "http.response.body", "body": answer})


def text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
