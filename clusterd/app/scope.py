"""The ASGI scope of a request: what never changes on a connection is made once for it."""

import re
from typing import Any

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


def describe(scope: Scope) -> dict[str, Any]:
    """Return the `extra=` of a log record about a request: method, path, request id.

    The id is the one in the access log. Without an access log it is what the client or a proxy
    sent, which the application may have logged too. Never raises: the application may have changed
    the scope.
    """
    about = {"method": scope.get("method"), "path": scope.get("path")}
    try:
        sent = dict(scope["headers"]).get(REQUEST_ID, b"")
        if SANE_ID.fullmatch(sent):
            about["request_id"] = sent.decode()
    except Exception:
        pass
    return {"fields": {name: value for name, value in about.items() if value is not None}}
