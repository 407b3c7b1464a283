"""The WebSocket routes on Quart."""

import asyncio

from quart import Quart, websocket
from tell import tell

app = Quart(__name__)


@app.websocket("/echo")
async def echo() -> None:
    while True:
        await websocket.send(await websocket.receive())


@app.websocket("/blob")
async def blob() -> None:
    await websocket.send(await websocket.receive())


@app.websocket("/chosen")
async def chosen() -> None:
    await websocket.accept(subprotocol="b", headers={"x-a": "b"})
    await websocket.send_json({"answer": 42, "q": websocket.args["q"]})
    await websocket.close(4000, "bye")


@app.websocket("/closed")
async def closed():
    return "Forbidden", 403


@app.websocket("/denied")
async def denied():
    return "who are you", 401


@app.websocket("/hears")
async def hears() -> None:
    """Quart tells its handlers of the end by cancelling them."""
    try:
        await websocket.receive()
    except asyncio.CancelledError:
        tell("4001 enough")
        raise
