"""Applications that configure logging as tutorials do, where WHERE says, and then fail."""

import logging.config
import os

WHERE = os.environ.get("WHERE", "import")


def configure(place):
    if place == WHERE:
        logging.config.dictConfig({"version": 1, "root": {"level": "CRITICAL"}})
        logging.disable(logging.CRITICAL)


configure("import")


async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            configure("lifespan")
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    configure("request")
    raise RuntimeError("a bug of the application")


def wsgi(environ, start_response):
    configure("request")
    raise RuntimeError("a bug of the application")
