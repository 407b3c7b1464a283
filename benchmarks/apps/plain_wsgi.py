"""The WSGI app that every WSGI server serves: `/` says hello, `/pid` who answers."""

import os
from collections.abc import Callable
from typing import Any

HELLO = b"Hello, world!"
HEADERS = [("content-type", "text/plain"), ("content-length", str(len(HELLO)))]


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    """No framework, so that only the server is measured."""
    if environ["PATH_INFO"] == "/pid":
        body = str(os.getpid()).encode()
        start_response("200 OK", [("content-length", str(len(body)))])
        return [body]
    start_response("200 OK", HEADERS.copy())
    return [HELLO]
