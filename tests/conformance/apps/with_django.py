"""The conformance routes on Django, settings and all in this one file."""

import hashlib
import itertools
import json
import os
from collections.abc import AsyncIterator, Iterator

import django
from django.conf import settings

settings.configure(
    ALLOWED_HOSTS=["*"],
    DEBUG=False,
    MIDDLEWARE=["django.middleware.common.CommonMiddleware"],
    ROOT_URLCONF=__name__,
    SECRET_KEY="only for tests",
)
django.setup()

from django.core.asgi import get_asgi_application  # noqa: E402 - needs the settings
from django.http import (  # noqa: E402
    FileResponse,
    HttpRequest,
    HttpResponse,
    HttpResponseNotModified,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.urls import path  # noqa: E402
from tell import tell  # type: ignore[import-not-found]  # noqa: E402

BLOCK = bytes(range(256)) * 256
PIECE = 65536


async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello from Django", content_type="text/plain")


async def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


def echo(request: HttpRequest) -> HttpResponse:
    """A plain function: Django runs it on a thread."""
    return JsonResponse(json.loads(request.body), safe=False)


async def empty(request: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


async def cached(request: HttpRequest) -> HttpResponse:
    if request.headers.get("if-none-match") == '"one"':
        return HttpResponseNotModified(headers={"ETag": '"one"'})
    return HttpResponse("fresh", headers={"ETag": '"one"'})


async def moved(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


async def cookie(request: HttpRequest) -> HttpResponse:
    response = HttpResponse(request.COOKIES.get("flavour", "none"))
    response.set_cookie("flavour", "oat", httponly=True)
    response.set_cookie("size", "big")
    return response


async def stream(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[str]:
        for number in range(100):
            yield f"{number}\n"

    return StreamingHttpResponse(pieces(), content_type="text/plain")


def upload(request: HttpRequest) -> HttpResponse:
    digest, size = hashlib.sha256(), 0
    pieces: Iterator[bytes] = iter(lambda: request.read(PIECE), b"")
    for piece in pieces:
        digest.update(piece)
        size += len(piece)
    return JsonResponse({"size": size, "sha256": digest.hexdigest()})


async def download(request: HttpRequest, blocks: int) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(blocks):
            yield BLOCK

    headers = {"content-length": str(len(BLOCK) * blocks)}
    return StreamingHttpResponse(pieces(), headers=headers)


async def endless(request: HttpRequest) -> StreamingHttpResponse:
    async def pieces() -> AsyncIterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return StreamingHttpResponse(pieces())


def whole_file(request: HttpRequest) -> FileResponse:
    return FileResponse(open(os.environ["CONFORMANCE_FILE"], "rb"))


async def fail(request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


def form(request: HttpRequest) -> HttpResponse:
    file = request.FILES["file"]
    digest = hashlib.sha256()
    for piece in file.chunks(PIECE):
        digest.update(piece)
    return JsonResponse(
        {
            "title": request.POST["title"],
            "name": file.name,
            "size": file.size,
            "sha256": digest.hexdigest(),
        }
    )


urlpatterns = [
    path("", hello),
    path("pid", who),
    path("echo", echo),
    path("empty", empty),
    path("cached", cached),
    path("moved", moved),
    path("cookie", cookie),
    path("stream", stream),
    path("upload", upload),
    path("download/<int:blocks>", download),
    path("endless", endless),
    path("file", whole_file),
    path("fail", fail),
    path("form", form),
]

app = get_asgi_application()
