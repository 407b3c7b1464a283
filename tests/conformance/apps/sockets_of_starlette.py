"""The WebSocket routes on Starlette."""

import contextlib

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect
from tell import tell


@contextlib.asynccontextmanager
async def lifespan(app):
    yield {"answer": 42}


async def echo(websocket: WebSocket) -> None:
    await websocket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await websocket.send_text(await websocket.receive_text())


async def blob(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_bytes(await websocket.receive_bytes())
    await websocket.close()


async def chosen(websocket: WebSocket) -> None:
    await websocket.accept(subprotocol="b", headers=[(b"x-a", b"b")])
    await websocket.send_json({"answer": websocket.state.answer, "q": websocket.query_params["q"]})
    await websocket.close(4000, "bye")


async def closed(websocket: WebSocket) -> None:
    await websocket.close()


async def denied(websocket: WebSocket) -> None:
    await websocket.send_denial_response(PlainTextResponse("who are you", 401))


async def hears(websocket: WebSocket) -> None:
    await websocket.accept()
    try:
        await websocket.receive_text()
    except WebSocketDisconnect as gone:
        tell(f"{gone.code} {gone.reason}")


app = Starlette(
    lifespan=lifespan,
    routes=[
        WebSocketRoute("/echo", echo),
        WebSocketRoute("/blob", blob),
        WebSocketRoute("/chosen", chosen),
        WebSocketRoute("/closed", closed),
        WebSocketRoute("/denied", denied),
        WebSocketRoute("/hears", hears),
    ],
)
