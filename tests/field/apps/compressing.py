"""A large file below middlewares that compress."""

import pathlib

from brotli_asgi import BrotliMiddleware
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import FileResponse
from starlette.routing import Mount, Route

page = pathlib.Path("page.html")
page.write_text("<p>hello</p>" * 10_000)


async def index(request):
    return FileResponse(page)


def below(middleware):
    return Starlette(routes=[Route("/", index)], middleware=[Middleware(middleware)])


app = Starlette(
    routes=[
        Mount("/brotli", app=below(BrotliMiddleware)),
        Mount("/gzip", app=below(GZipMiddleware)),
    ]
)
