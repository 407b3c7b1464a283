"""The conformance routes on Starlette."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect, Request
from starlette.responses import (
    FileResponse,
    JSONResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from starlette.routing import Route
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256
PIECE = 65536


@contextlib.asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[dict[str, Any]]:
    """The state that requests see; its end is told."""
    yield {"answer": 42}
    tell("lifespan over")


async def hello(request: Request) -> Response:
    return PlainTextResponse("Hello from Starlette")


async def who(request: Request) -> Response:
    return PlainTextResponse(str(os.getpid()))


async def echo(request: Request) -> Response:
    return JSONResponse(await request.json())


async def empty(request: Request) -> Response:
    return Response(status_code=204)


async def cached(request: Request) -> Response:
    headers = {"ETag": '"one"'}
    if request.headers.get("if-none-match") == '"one"':
        return Response(status_code=304, headers=headers)
    return PlainTextResponse("fresh", headers=headers)


async def moved(request: Request) -> Response:
    return RedirectResponse("/", status_code=302)


async def cookie(request: Request) -> Response:
    response = PlainTextResponse(request.cookies.get("flavour", "none"))
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


async def stream(request: Request) -> Response:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return StreamingResponse(pieces(), media_type="text/plain")


async def upload(request: Request) -> Response:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return JSONResponse({"size": size, "sha256": digest.hexdigest()})


async def download(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(request.path_params["blocks"]):
            yield BLOCK

    length = len(BLOCK) * request.path_params["blocks"]
    return StreamingResponse(pieces(), headers={"content-length": str(length)})


async def endless(request: Request) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return StreamingResponse(pieces())


async def half(request: Request) -> Response:
    try:
        await request.body()
    except ClientDisconnect:
        tell("upload broke off")
        raise
    return PlainTextResponse("whole")


async def file(request: Request) -> Response:
    return FileResponse(os.environ["CONFORMANCE_FILE"])


async def hinted(request: Request) -> Response:
    await request.send_early_hints("</style.css>; rel=preload; as=style")
    return PlainTextResponse("styled")


async def fail(request: Request) -> Response:
    raise RuntimeError("on purpose")


async def form(request: Request) -> Response:
    async with request.form() as fields:
        file = fields["file"]
        assert not isinstance(file, str)
        digest, size = hashlib.sha256(), 0
        while piece := await file.read(PIECE):
            digest.update(piece)
            size += len(piece)
        return JSONResponse(
            {
                "title": fields["title"],
                "name": file.filename,
                "size": size,
                "sha256": digest.hexdigest(),
            }
        )


async def state(request: Request) -> Response:
    return JSONResponse({"answer": request.state.answer})


async def later(request: Request) -> Response:
    return PlainTextResponse("soon", status_code=202, background=BackgroundTask(tell, "done"))


async def item(request: Request) -> Response:
    return JSONResponse({"id": request.path_params["id"], "query": dict(request.query_params)})


app = Starlette(
    lifespan=lifespan,
    routes=[
        Route("/", hello),
        Route("/pid", who),
        Route("/echo", echo, methods=["POST"]),
        Route("/empty", empty),
        Route("/cached", cached),
        Route("/moved", moved),
        Route("/cookie", cookie),
        Route("/stream", stream),
        Route("/upload", upload, methods=["POST"]),
        Route("/download/{blocks:int}", download),
        Route("/endless", endless),
        Route("/file", file),
        Route("/hinted", hinted),
        Route("/half", half, methods=["POST"]),
        Route("/fail", fail),
        Route("/form", form, methods=["POST"]),
        Route("/state", state),
        Route("/later", later, methods=["POST"]),
        Route("/item/{id:int}", item),
    ],
)
