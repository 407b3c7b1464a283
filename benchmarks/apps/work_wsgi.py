"""The workloads' WSGI app: no framework, so that what they ask for is all there is."""

import time
from collections.abc import Callable, Iterable
from typing import Any

import tasks  # type: ignore[import-not-found]

Environ = dict[str, Any]
TEXT, JSON, HTML = "text/plain", "application/json", "text/html; charset=utf-8"
ROOM = 64 * 1024  # bytes of a body taken at once


def app(environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
    """One path a workload."""
    path: str = environ["PATH_INFO"]
    if path == "/stream":  # 100 KiB in a hundred pieces, its length not told
        start_response("200 OK", [("content-type", TEXT)])
        pieces: list[bytes] = tasks.PIECES
        return iter(pieces)
    status, kind, body = "200 OK", TEXT, b""
    handler = ROUTES.get(path)
    if handler is not None:
        kind, body = handler(environ)
    elif path.startswith("/items/") and path[7:].isdecimal():
        kind, body = JSON, tasks.item(int(path[7:]))
    else:
        status = "404 Not Found"
    start_response(status, [("content-type", kind), ("content-length", str(len(body)))])
    return [body]


def _hello(_: Environ) -> tuple[str, bytes]:
    return TEXT, tasks.HELLO


def _page(_: Environ) -> tuple[str, bytes]:
    return HTML, tasks.page()


def _wait(_: Environ) -> tuple[str, bytes]:
    """What a call to another service looks like from here: a thread that waits."""
    time.sleep(tasks.WAIT)
    return TEXT, tasks.HELLO


def _compute(_: Environ) -> tuple[str, bytes]:
    return TEXT, tasks.compute()


def _block(_: Environ) -> tuple[str, bytes]:
    time.sleep(tasks.BLOCK)
    return TEXT, tasks.HELLO


def _upload(environ: Environ) -> tuple[str, bytes]:
    """Take a body piece by piece, and answer how long it was."""
    size = 0
    while piece := environ["wsgi.input"].read(ROOM):
        size += len(piece)
    return TEXT, str(size).encode()


ROUTES = {
    "/": _hello,
    "/page": _page,
    "/wait": _wait,
    "/compute": _compute,
    "/block": _block,
    "/upload": _upload,
}
