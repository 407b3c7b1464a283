"""The ASGI scope of a request: what never changes on a connection is made once for it."""

import contextlib
import os
import re
import sys
from collections.abc import Callable
from types import CodeType
from typing import Any, TypeVar

# 2.4: `send` raises OSError once the client is gone, so that a stream ends by itself instead of
# paying for a second task that listens for `http.disconnect`.
# 2.5: `websocket.disconnect` says a reason.
ASGI = {"version": "3.0", "spec_version": "2.5"}

REQUEST_ID = b"x-request-id"
SANE_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")  # an id that can stand in a log

Scope = dict[str, Any]
Address = tuple[str, int | None] | None


def template(client: Address, server: Address, scheme: str = "http", root_path: str = "") -> Scope:
    """The scope that a connection's requests copy; copying is a third of building it anew.

    Every key is there already, so that no copy has to grow.
    """
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": "1.1",
        "method": "",
        "scheme": scheme,
        "path": "",
        "raw_path": b"",
        "query_string": b"",
        "root_path": root_path,
        "headers": None,
        "client": client,
        "server": server,
        "state": None,
        "extensions": None,
    }


def address(name: Any) -> Address:
    """A socket's name as ASGI wants it: (host, port), (path, None) for Unix, None for nameless."""
    if isinstance(name, tuple):
        return (str(name[0]), int(name[1]))
    if isinstance(name, bytes):
        name = name.decode("utf-8", "surrogateescape")
    return (name, None) if name else None


F = TypeVar("F", bound=Callable[..., Any])
_callers: set[CodeType] = set()  # of functions that call the app, whose `exchange` is the request's


def calls_app(function: F) -> F:
    """Mark a function that calls the application for the request of its local `exchange`."""
    _callers.add(function.__code__)
    return function


def current() -> Scope | None:
    """Return the scope of the request in which this is called, by the application, in this thread.

    Found by looking up the stack, which costs microseconds, and requests that log nothing, nothing.
    """
    frame = sys._getframe(1)
    while frame is not None:
        if frame.f_code in _callers:
            scope: Scope = frame.f_locals["exchange"].scope
            return scope
        frame = frame.f_back  # type: ignore[assignment]
    return None


def describe(scope: Scope) -> dict[str, Any]:
    """Return the `extra=` of a log record about a request: method, path, request id.

    Never raises: the application may have changed the scope.
    """
    about = {"method": scope.get("method"), "path": scope.get("path")}
    with contextlib.suppress(Exception):
        about["request_id"] = _request_id(scope)
    return {"fields": {name: value for name, value in about.items() if value is not None}}


def _request_id(scope: Scope) -> str:
    """Return the id of a request, one that the application can see where there is one.

    With an access log that is the header's, which is in its line. Without one it is what the client
    or a proxy sent, or what a middleware has put into `request.state.request_id`. Else one is made
    now, since few requests need one, and kept for further records of the request.
    """
    sent: bytes = dict(scope["headers"]).get(REQUEST_ID, b"")
    if SANE_ID.fullmatch(sent):
        return sent.decode()
    state = scope.get("state")
    given = str(state.get("request_id", "") if isinstance(state, dict) else "").encode()
    name = given if SANE_ID.fullmatch(given) else os.urandom(12).hex().encode()
    if isinstance(scope["headers"], list):
        scope["headers"].append((REQUEST_ID, name))
    return name.decode()
