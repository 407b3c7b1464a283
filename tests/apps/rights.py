"""An application that says what it was when it was imported, and what it is when it is asked."""

import json
import os
import resource


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
        with open(os.environ["RIGHTS_FILE"], "w") as file:
            file.write("written")
    body = json.dumps({"import": AT_IMPORT, "now": state()}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
