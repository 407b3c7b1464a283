"""An application with an identity per process, and generators of random numbers, made at import."""

import json
import os
import random
from pathlib import Path
from uuid import uuid4

NODE = uuid4().hex if "IDENTITY" in os.environ else ""
rng = random.Random()
dice = random.Random(6)


def tell():
    drawn = {"node": NODE, "rng": rng.random(), "dice": dice.random()}
    Path(os.environ["TOLD"], str(os.getpid())).write_text(json.dumps(drawn))


async def app(scope, receive, send):
    if scope["type"] != "lifespan":
        return
    await receive()
    tell()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})
