"""The WebSocket routes on Litestar."""

from litestar import Litestar, WebSocket, websocket
from litestar.exceptions import WebSocketDisconnect
from tell import tell


@websocket("/echo")
async def echo(socket: WebSocket) -> None:
    await socket.accept()
    try:
        while True:
            await socket.send_text(await socket.receive_text())
    except WebSocketDisconnect:
        pass


@websocket("/blob")
async def blob(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_bytes(await socket.receive_bytes())
    await socket.close()


@websocket("/chosen")
async def chosen(socket: WebSocket) -> None:
    await socket.accept(subprotocols="b", headers={"x-a": "b"})
    await socket.send_json({"answer": 42, "q": socket.query_params["q"]})
    await socket.close(4000, "bye")


@websocket("/closed")
async def closed(socket: WebSocket) -> None:
    await socket.close()


@websocket("/hears")
async def hears(socket: WebSocket) -> None:
    await socket.accept()
    try:
        await socket.receive_text()
    except WebSocketDisconnect as gone:
        tell(f"{gone.code} {gone.detail}")


app = Litestar(route_handlers=[echo, blob, chosen, closed, hears])
