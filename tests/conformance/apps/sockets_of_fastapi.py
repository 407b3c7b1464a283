"""The WebSocket routes on FastAPI."""

import contextlib

from fastapi import FastAPI, WebSocket, WebSocketDisconnect, WebSocketException
from fastapi.responses import PlainTextResponse
from tell import tell


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"answer": 42}


app = FastAPI(lifespan=lifespan)


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    async for words in websocket.iter_text():
        await websocket.send_text(words)


@app.websocket("/blob")
async def blob(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.close()


@app.websocket("/chosen")
async def chosen(websocket: WebSocket, q: str) -> None:
    await websocket.accept(subprotocol="b", headers=[(b"x-a", b"b")])
    await websocket.send_json({"answer": websocket.state.answer, "q": q})
    await websocket.close(4000, "bye")


@app.websocket("/closed")
async def closed(websocket: WebSocket) -> None:
    raise WebSocketException(1008)


@app.websocket("/denied")
async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("who are you", 401))


@app.websocket("/hears")
async def hears(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as gone:
        tell(f"{gone.code} {gone.reason}")
