"""An application that says what it was when it was imported, and what it is when it is asked."""

import json
import os
import resource
from pathlib import Path


def state():
    return {
        "pid": os.getpid(),
        "ids": [*os.getresuid(), *os.getresgid()],
        "groups": os.getgroups(),
        "nice": os.nice(0),
        "cpus": sorted(os.sched_getaffinity(0)),
        "nofile": resource.getrlimit(resource.RLIMIT_NOFILE),
        "home": os.environ["HOME"],
    }


AT_IMPORT = state()


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    if scope["path"] == "/write":
        Path(os.environ["RIGHTS_FILE"]).write_text("written")  # noqa: ASYNC240  # nobody waits
    body = json.dumps({"import": AT_IMPORT, "now": state()}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
