"""Does what the row of the table says that the path names by its number; and waits, and streams."""

import asyncio

from tests.apps.tell import lifespan, who
from tests.unit.worker.nonsense import TABLE

APPS = [app for app, _ in TABLE.values()]


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return await lifespan(receive, send)
    path = scope["path"].removeprefix("/")
    if path.isdigit():
        return await APPS[int(path)](scope, receive, send)
    return await {"waits": waits, "streams": streams, "reads": reads}.get(path, who)(
        scope, receive, send
    )


async def waits(scope, receive, send):
    """Until the client leaves; reads nothing of what it sends."""
    await asyncio.get_running_loop().create_future()


async def reads(scope, receive, send):
    while (await receive()).get("more_body"):
        pass
    await who(scope, receive, send)


async def streams(scope, receive, send):
    """Megabytes without an end."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": bytes(65536), "more_body": True})
