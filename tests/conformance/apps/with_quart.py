"""The conformance routes on Quart."""

import hashlib
import itertools
import os
from collections.abc import AsyncIterator
from typing import Any

from quart import Quart, Response, current_app, redirect, request, send_file
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256

app = Quart(__name__)
app.config["MAX_CONTENT_LENGTH"] = None
app.config["BODY_TIMEOUT"] = None
app.config["RESPONSE_TIMEOUT"] = None


@app.before_serving
async def begin() -> None:
    app.config["ANSWER"] = 42


@app.after_serving
async def end() -> None:
    tell("lifespan over")


@app.get("/")
async def hello() -> Response:
    return Response("Hello from Quart", content_type="text/plain")


@app.get("/pid")
async def who() -> str:
    return str(os.getpid())


@app.post("/echo")
async def echo() -> Any:
    return await request.get_json()


@app.get("/empty")
async def empty() -> Response:
    return Response(status=204)


@app.get("/cached")
async def cached() -> Response:
    headers = {"ETag": '"one"'}
    if request.headers.get("if-none-match") == '"one"':
        return Response(status=304, headers=headers)
    return Response("fresh", headers=headers)


@app.get("/moved")
async def moved() -> Any:
    return redirect("/")


@app.get("/cookie")
async def cookie() -> Response:
    response = Response(request.cookies.get("flavour", "none"))
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


@app.get("/stream")
async def stream() -> Response:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return Response(pieces(), content_type="text/plain")


@app.post("/upload")
async def upload() -> dict[str, Any]:
    digest, size = hashlib.sha256(), 0
    async for piece in request.body:
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/download/<int:blocks>")
async def download(blocks: int) -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield BLOCK

    return Response(pieces(), headers={"content-length": str(len(BLOCK) * blocks)})


@app.get("/file")
async def file() -> Any:
    return await send_file(os.environ["CONFORMANCE_FILE"], conditional=True)


@app.get("/endless")
async def endless() -> Response:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return Response(pieces())


@app.get("/fail")
async def fail() -> None:
    raise RuntimeError("on purpose")


@app.post("/form")
async def form() -> dict[str, Any]:
    fields, files = await request.form, await request.files
    sent = files["file"]
    digest, size = hashlib.sha256(), 0
    while piece := sent.read(65536):
        digest.update(piece)
        size += len(piece)
    return {
        "title": fields["title"],
        "name": sent.filename,
        "size": size,
        "sha256": digest.hexdigest(),
    }


@app.get("/state")
async def state() -> dict[str, int]:
    return {"answer": current_app.config["ANSWER"]}


@app.post("/later")
async def later() -> Response:
    app.add_background_task(tell, "done")
    return Response("soon", status=202)
