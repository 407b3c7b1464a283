"""The conformance routes on Flask."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

from flask import Flask, Response, redirect, request, send_file
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256
PIECE = 65536

app = Flask(__name__)


@app.get("/")
def hello() -> Response:
    return Response("Hello from Flask", mimetype="text/plain")


@app.get("/pid")
def who() -> str:
    return str(os.getpid())


@app.post("/echo")
def echo() -> Response:
    return Response(request.get_data(), mimetype="application/json")


@app.get("/empty")
def empty() -> tuple[str, int]:
    return "", 204


@app.get("/cached")
def cached() -> Response:
    response = Response("fresh", mimetype="text/plain")
    response.set_etag("one")
    return response.make_conditional(request)


@app.get("/moved")
def moved() -> Any:
    return redirect("/")


@app.get("/cookie")
def cookie() -> Response:
    response = Response(request.cookies.get("flavour", "none"))
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


@app.get("/stream")
def stream() -> Response:
    return Response((f"{number}\n" for number in range(100)), mimetype="text/plain")


@app.post("/upload")
def upload() -> dict[str, object]:
    digest, size = hashlib.sha256(), 0
    while piece := request.stream.read(PIECE):
        digest.update(piece)
        size += len(piece)
    return {"size": size, "sha256": digest.hexdigest()}


@app.get("/download/<int:blocks>")
def download(blocks: int) -> Response:
    headers = {"content-length": str(len(BLOCK) * blocks)}
    return Response((BLOCK for _ in range(blocks)), headers=headers)


@app.get("/endless")
def endless() -> Response:
    def pieces() -> Iterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return Response(pieces())


@app.get("/fail")
def fail() -> Response:
    raise RuntimeError("on purpose")


@app.post("/form")
def form() -> dict[str, object]:
    file = request.files["file"]
    data = file.read()
    return {
        "title": request.form["title"],
        "name": file.filename,
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


@app.get("/file")
def file() -> Response:
    return send_file(os.environ["CONFORMANCE_FILE"], mimetype="application/octet-stream")


@app.get("/environ")
def environ() -> dict[str, object]:
    return {
        name: value
        for name, value in request.environ.items()
        if isinstance(value, str | bool) and name.isascii()
    }


@app.get("/url")
def url() -> dict[str, object]:
    return {"url": request.url, "root": request.script_root, "args": request.args}


@app.post("/cleanup")
def cleanup() -> Response:
    response = Response("soon", 202)
    response.call_on_close(lambda: tell("done"))
    return response
