"""The conformance routes on Django, spoken to as WSGI: where its views differ, they are plain."""

import io
import itertools
import os
from collections.abc import Iterator

import with_django  # type: ignore[import-not-found]  # configures Django
from django.core.wsgi import get_wsgi_application
from django.http import FileResponse, HttpRequest, HttpResponse, StreamingHttpResponse
from django.urls import path
from tell import tell  # type: ignore[import-not-found]

BLOCK = with_django.BLOCK


def hello(_request: HttpRequest) -> HttpResponse:
    return HttpResponse("Hello from Django", content_type="text/plain")


def stream(_request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(
        (f"{number}\n" for number in range(100)), content_type="text/plain"
    )


def download(_request: HttpRequest, blocks: int) -> StreamingHttpResponse:
    headers = {"content-length": str(len(BLOCK) * blocks)}
    return StreamingHttpResponse((BLOCK for _ in range(blocks)), headers=headers)


def endless(_request: HttpRequest) -> StreamingHttpResponse:
    def pieces() -> Iterator[bytes]:
        try:
            for _ in itertools.count():
                yield BLOCK
        finally:
            tell("client left")

    return StreamingHttpResponse(pieces())


class Told(io.FileIO):
    """A file that says when it is closed."""

    def close(self) -> None:
        if not self.closed:
            super().close()
            tell("file closed")


def file(_request: HttpRequest) -> FileResponse:
    return FileResponse(Told(os.environ["CONFORMANCE_FILE"]))


def fail(_request: HttpRequest) -> HttpResponse:
    raise RuntimeError("on purpose")


def who(_request: HttpRequest) -> HttpResponse:
    return HttpResponse(str(os.getpid()))


with_django.urlpatterns[:0] = [
    path("", hello),
    path("pid", who),
    path("stream", stream),
    path("download/<int:blocks>", download),
    path("endless", endless),
    path("file", file),
    path("fail", fail),
]

app = get_wsgi_application()
