"""The conformance routes on Falcon."""

import hashlib
import itertools
import os
from collections.abc import Iterator
from typing import Any

import falcon
from tell import tell  # type: ignore[import-not-found]

BLOCK = bytes(range(256)) * 256
PIECE = 65536


class Hello:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.text, response.content_type = "Hello from Falcon", falcon.MEDIA_TEXT

    on_head = on_get


class Who:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.text = str(os.getpid())


class Echo:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        response.media = request.get_media()


class Empty:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.status = falcon.HTTP_204


class Cached:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.etag = "one"
        if request.get_header("If-None-Match") == '"one"':
            response.status = falcon.HTTP_304
        else:
            response.text = "fresh"


class Moved:
    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        raise falcon.HTTPFound("/")


class Cookie:
    def on_get(self, request: falcon.Request, response: falcon.Response) -> None:
        response.text = request.cookies.get("flavour", "none")
        response.set_cookie("flavour", "oat", secure=False)
        response.set_cookie("size", "big", secure=False)


class Stream:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        response.content_type = falcon.MEDIA_TEXT
        response.stream = (f"{number}\n".encode() for number in range(100))


class Upload:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        digest, size = hashlib.sha256(), 0
        while piece := request.stream.read(PIECE):
            digest.update(piece)
            size += len(piece)
        response.media = {"size": size, "sha256": digest.hexdigest()}


class Download:
    def on_get(self, _request: falcon.Request, response: falcon.Response, blocks: int) -> None:
        response.set_stream((BLOCK for _ in range(blocks)), len(BLOCK) * blocks)


class Endless:
    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        def pieces() -> Iterator[bytes]:
            try:
                for _ in itertools.count():
                    yield BLOCK
            finally:
                tell("client left")

        response.stream = pieces()


class Fail:
    def on_get(self, _request: falcon.Request, _response: falcon.Response) -> None:
        raise RuntimeError("on purpose")


class Form:
    def on_post(self, request: falcon.Request, response: falcon.Response) -> None:
        told: dict[str, Any] = {}
        for part in request.get_media():
            if part.name == "title":
                told["title"] = part.get_text()
            else:
                data = part.stream.read()
                told |= {"name": part.filename, "size": len(data)}
                told["sha256"] = hashlib.sha256(data).hexdigest()
        response.media = told


class File:
    """Sent through wsgi.file_wrapper, which Falcon uses for anything with `read`."""

    def on_get(self, _request: falcon.Request, response: falcon.Response) -> None:
        path = os.environ["CONFORMANCE_FILE"]
        response.set_stream(open(path, "rb"), os.path.getsize(path))  # noqa: SIM115  # closed by us


app = falcon.App()
for place, resource in {
    "/": Hello(),
    "/pid": Who(),
    "/echo": Echo(),
    "/empty": Empty(),
    "/cached": Cached(),
    "/moved": Moved(),
    "/cookie": Cookie(),
    "/stream": Stream(),
    "/upload": Upload(),
    "/download/{blocks:int}": Download(),
    "/endless": Endless(),
    "/fail": Fail(),
    "/form": Form(),
    "/file": File(),
}.items():
    app.add_route(place, resource)
