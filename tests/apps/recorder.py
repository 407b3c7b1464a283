"""An application that writes down every request that it sees, and answers with what it was."""

import json
import os

RECORD = os.environ.get("RECORD", os.devnull)
SHOWN = ("type", "client", "scheme", "server", "path", "root_path")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    body = b""
    if not scope["path"].startswith("/unread"):
        more = True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                break
            body += message["body"]
            more = message["more_body"]
    seen = {name: scope[name] for name in SHOWN} | {
        "method": scope["method"],
        "headers": [
            [name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]
        ],
        "body": body.decode("latin-1"),
    }
    line = json.dumps(seen).encode()
    with open(RECORD, "ab", buffering=0) as file:  # noqa: ASYNC230 - one write, of a test app
        file.write(line + b"\n")
    headers = [(b"content-length", b"%d" % len(line)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": line})
