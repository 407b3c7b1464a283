"""The conformance routes on FastAPI."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import BackgroundTasks, Depends, FastAPI, File, Form, Header, Request, UploadFile
from fastapi.responses import (
    FileResponse,
    PlainTextResponse,
    RedirectResponse,
    Response,
    StreamingResponse,
)
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256
PIECE = 65536


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    """The state that requests see; its end is told."""
    yield {"answer": 42}
    tell("lifespan over")


app = FastAPI(lifespan=lifespan)


class Order(BaseModel):
    """What /orders accepts."""

    name: str = Field(min_length=1)
    count: int = Field(ge=1, le=10)


@app.api_route("/", methods=["GET", "HEAD"], response_class=PlainTextResponse)
async def hello() -> str:
    return "Hello from FastAPI"


@app.get("/pid", response_class=PlainTextResponse)
async def who() -> str:
    return str(os.getpid())


@app.post("/echo")
async def echo(request: Request) -> Any:
    return await request.json()


@app.get("/empty", status_code=204)
async def empty() -> None:
    return None


@app.get("/cached")
async def cached(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    headers = {"ETag": '"one"'}
    if if_none_match == '"one"':
        return Response(status_code=304, headers=headers)
    return PlainTextResponse("fresh", headers=headers)


@app.get("/moved")
async def moved() -> Response:
    return RedirectResponse("/", status_code=302)


@app.get("/cookie")
async def cookie(request: Request) -> Response:
    response = PlainTextResponse(request.cookies.get("flavour", "none"))
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


@app.get("/stream")
async def stream() -> Response:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return StreamingResponse(pieces(), media_type="text/plain")


@app.post("/upload")
async def upload(request: Request) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/download/{blocks}")
async def download(blocks: int) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield BLOCK

    return StreamingResponse(pieces(), headers={"content-length": str(len(BLOCK) * blocks)})


@app.get("/endless")
async def endless() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return StreamingResponse(pieces())


@app.post("/half")
async def half(request: Request) -> str:
    try:
        await request.body()
    except ClientDisconnect:
        tell("upload broke off")
        raise
    return "whole"


@app.get("/file")
async def file() -> Response:
    return FileResponse(os.environ["CONFORMANCE_FILE"])


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("on purpose")


@app.post("/form")
async def form(title: Annotated[str, Form()], file: Annotated[UploadFile, File()]) -> Any:
    digest, size = hashlib.sha256(), 0
    while piece := await file.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return {
        "title": title,
        "name": file.filename,
        "size": size,
        "sha256": digest.hexdigest(),
    }


@app.get("/state")
async def state(request: Request) -> dict[str, int]:
    return {"answer": request.state.answer}


@app.post("/later", status_code=202, response_class=PlainTextResponse)
async def later(background: BackgroundTasks) -> str:
    background.add_task(tell, "done")
    return "soon"


async def user(authorization: Annotated[str, Header()]) -> AsyncIterator[str]:
    """A dependency with an end: it is told when the request is over."""
    yield authorization.removeprefix("Bearer ")
    tell("dependency closed")


@app.get("/whoami")
async def whoami(name: Annotated[str, Depends(user)]) -> dict[str, str]:
    return {"name": name}


@app.get("/blocking", response_class=PlainTextResponse)
def blocking() -> str:
    """A plain function: the framework runs it on a thread."""
    return "from a thread"


@app.post("/orders", status_code=201)
async def orders(order: Order) -> Order:
    return order
