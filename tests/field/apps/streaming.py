"""Event streams that have nothing to say for a while, as their libraries make them."""

import asyncio

from mcp.server.mcpserver import MCPServer
from sse_starlette.sse import EventSourceResponse
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import StreamingResponse
from starlette.routing import Mount, Route

server = MCPServer("calculator")


@server.tool()
def add(a: int, b: int) -> int:
    return a + b


async def nothing_yet():
    await asyncio.Event().wait()
    yield "data: first\n\n"


async def plain(request):
    return StreamingResponse(nothing_yet(), media_type="text/event-stream")


async def library(request):
    return EventSourceResponse(nothing_yet())


class Passing(BaseHTTPMiddleware):
    async def dispatch(self, request, call_next):
        return await call_next(request)


mcp = server.streamable_http_app()
app = Starlette(
    routes=[
        Route("/plain", plain),
        Route("/library", library),
        Mount(
            "/below",
            app=Starlette(routes=[Route("/plain", plain)], middleware=[Middleware(Passing)]),
        ),
        Mount("/", app=mcp),
    ],
    lifespan=lambda _: server.session_manager.run(),
)
