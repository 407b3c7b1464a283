"""The conformance routes on Litestar."""

import contextlib
import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from typing import Annotated, Any

from litestar import Litestar, MediaType, Request, Response, get, post, route
from litestar.background_tasks import BackgroundTask
from litestar.datastructures import State, UploadFile
from litestar.enums import RequestEncodingType
from litestar.params import Body
from litestar.response import File, Redirect, Stream
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256
AnyRequest = Request[Any, Any, State]


@contextlib.asynccontextmanager
async def lifespan(app: Litestar) -> AsyncIterator[None]:
    """Told when it is over, as every framework's is."""
    app.state.answer = 42
    yield
    tell("lifespan over")


@route("/", http_method=["GET", "HEAD"], media_type=MediaType.TEXT)
async def hello(request: AnyRequest) -> Response[str]:
    # Litestar sends nothing but the headers for HEAD, and leaves the length out: say it here.
    text = "Hello from Litestar"
    return Response("" if request.method == "HEAD" else text, headers={"content-length": "19"})


@get("/pid", media_type=MediaType.TEXT)
async def who() -> str:
    return str(os.getpid())


@post("/echo")
async def echo(request: AnyRequest) -> Any:
    return await request.json()


@get("/empty", status_code=204)
async def empty() -> None:
    return None


@get("/cached")
async def cached(request: AnyRequest) -> Response[str]:
    headers = {"ETag": '"one"'}
    if request.headers.get("if-none-match") == '"one"':
        return Response("", status_code=304, headers=headers)
    return Response("fresh", media_type=MediaType.TEXT, headers=headers)


@get("/moved", status_code=302)
async def moved() -> Redirect:
    return Redirect("/")


@get("/cookie")
async def cookie(request: AnyRequest) -> Response[str]:
    response = Response(request.cookies.get("flavour", "none"), media_type=MediaType.TEXT)
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


@get("/stream")
async def stream() -> Stream:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return Stream(pieces(), media_type=MediaType.TEXT)


@post("/upload", request_max_body_size=None)
async def upload(request: AnyRequest) -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for piece in request.stream():
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@get("/download/{blocks:int}")
async def download(blocks: int) -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield BLOCK

    return Stream(pieces(), headers={"content-length": str(len(BLOCK) * blocks)})


@get("/file")
async def file() -> File:
    return File(os.environ["CONFORMANCE_FILE"], filename="blob.bin")


@get("/endless")
async def endless() -> Stream:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return Stream(pieces())


@get("/fail")
async def fail() -> None:
    raise RuntimeError("on purpose")


@post("/form", request_max_body_size=None)
async def form(
    data: Annotated[dict[str, Any], Body(media_type=RequestEncodingType.MULTI_PART)],
) -> dict[str, Any]:
    sent = data["file"]
    assert isinstance(sent, UploadFile)
    digest, size = hashlib.sha256(), 0
    while piece := await sent.read(65536):
        digest.update(piece)
        size += len(piece)
    return {
        "title": data["title"],
        "name": sent.filename,
        "size": size,
        "sha256": digest.hexdigest(),
    }


@get("/state")
async def state(state: State) -> dict[str, int]:
    return {"answer": state.answer}


@post("/later", status_code=202)
async def later() -> Response[str]:
    return Response("soon", media_type=MediaType.TEXT, background=BackgroundTask(tell, "done"))


app = Litestar(
    [
        *(hello, who, echo, empty, cached, moved, cookie, stream, upload, download, file),
        *(endless, fail, form, state, later),
    ],
    lifespan=[lifespan],
    openapi_config=None,
)
