"""What a scope's `extensions` say that this server can do, by what is spoken on the connection.

A request gets a copy of its connection's dictionary. The values in it are the same for all requests
and cannot be changed, so that no request sees what another wrote.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from clusterd.app.notice import NAME, Notice

Extensions = dict[str, Any]

NOTHING: Mapping[str, Any] = MappingProxyType({})  # an extension whose presence says it all
PATH_SEND = "http.response.pathsend"
ZERO_COPY = "http.response.zerocopysend"
HTTP = ("http.response.early_hint", "http.response.trailers")


def over_http1(notice: Notice, files: bool) -> Extensions:
    """Over plain TCP and Unix sockets, where the kernel can copy from a file to the client.

    `files`: offer the extensions by which an app sends files. Frameworks use what is offered, and
    many middlewares know of no body but `http.response.body`: those that compress then send
    nothing at all, or the file as it is. So the extensions are offered only where that is wanted.
    """
    names = (*HTTP, PATH_SEND, ZERO_COPY) if files else HTTP
    return {**dict.fromkeys(names, NOTHING), NAME: notice.extension}


def without_zero_copy(extensions: Extensions) -> Extensions:
    """Over TLS and HTTP/2 what is sent is made anew, so that it cannot come from the kernel."""
    return {name: value for name, value in extensions.items() if name != ZERO_COPY}


def over_websocket(extensions: Extensions) -> Extensions:
    """From those of the HTTP connection: what is about the worker and the connection remains."""
    kept = {name: value for name, value in extensions.items() if not name.startswith("http.")}
    return {**kept, "websocket.http.response": NOTHING}
