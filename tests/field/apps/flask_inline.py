"""Flask with coroutines, and a view that runs a loop of its own."""

import asyncio

from flask import Flask

app = Flask(__name__)


@app.get("/view")
async def view():
    await asyncio.sleep(0)
    return "from a coroutine"


@app.get("/run")
def run():
    return asyncio.run(text())


async def text():
    await asyncio.sleep(0)
    return "from a loop of its own"


@app.get("/stream")
def stream():
    return pieces()


def pieces():
    yield asyncio.run(text())
    yield ", twice"


@app.get("/boom")
def boom():
    app.logger.warning("before it fails")
    raise RuntimeError("a bug")
