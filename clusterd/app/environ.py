"""The environ of a WSGI request (PEP 3333), made of its ASGI scope: so whatever a proxy or a PROXY
header has said about the client is in it, and in the access log alike.

Header lines are translated once and looked up from then on, as clients repeat themselves; what a
connection's requests have in common is made once for it and copied.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import unquote_to_bytes

from clusterd.app.scope import Address, Scope, current, describe
from clusterd.core.log import block, get_logger
from clusterd.wire.heads import FICKLE, LONGEST, MOST, Pair

logger = get_logger("clusterd.app")

Environ = dict[str, Any]
PROTOCOLS = {"1.1": "HTTP/1.1", "1.0": "HTTP/1.0", "2": "HTTP/2"}
PORTS = {"http": "80", "https": "443"}
# Not to be told from other headers once they are in an environ, or from variables that libraries
# obey ("httpoxy", CVE-2016-5385). A name with an underscore would pass for the one with dashes
# that a proxy in front has checked.
DROPPED = frozenset({b"proxy"})
PLAIN = {b"content-type": "CONTENT_TYPE", b"content-length": "CONTENT_LENGTH"}
VERSION = ("wsgi.version", (1, 0))
Known = tuple[Any, str, str, Environ]  # server, scheme, root path, and what comes of them
UNKNOWN: Known = (object(), "", "", {})
MOST_TOLD = 20  # names of headers that a worker's log says were left out; a client can make up any
UNDERSCORE = (
    "in a WSGI environ its name cannot be told from the one with dashes. Have it sent with dashes"
)
HTTPOXY = "libraries take HTTP_PROXY for the address of a proxy (CVE-2016-5385)"
TRACEBACK = "Traceback (most recent call last):"
LINE = 8192  # characters of an unended line of wsgi.errors that are kept


class _Translations(dict[Pair, tuple[str, Any]]):
    """(name, value) of a header → what it is in an environ."""

    def __init__(self) -> None:
        super().__init__()
        self._told: set[bytes] = set()  # names of headers that were left out, and logged

    def _tell(self, name: bytes) -> None:
        """Log that a header does not reach the application: once for each name."""
        if name not in self._told and len(self._told) < MOST_TOLD:
            self._told.add(name)
            why = UNDERSCORE if b"_" in name else HTTPOXY
            logger.warning("the request header %s is not passed to the app: %s", name.decode(), why)

    def __missing__(self, pair: Pair) -> tuple[str, Any]:
        name, value = pair
        key = PLAIN.get(name)
        if key is None:
            if b"_" in name or name in DROPPED:
                self._tell(name)
                # Something that every environ has: nothing is added, which `add_headers` sees.
                return VERSION
            key = "HTTP_" + name.decode("latin-1").upper().replace("-", "_")
        translated = (key, value.decode("latin-1"))
        if name not in FICKLE and len(name) + len(value) <= LONGEST:
            if len(self) >= MOST:
                self.clear()
            self[pair] = translated
        return translated


_translations = _Translations()
_translate = _translations.__getitem__


class Environs:
    """Makes environs for one worker's app. `multithread`: calls of the app may overlap."""

    def __init__(self, multithread: bool, file_wrapper: Callable[..., Any]) -> None:
        self._base: Environ = dict([VERSION]) | {
            "wsgi.errors": Errors(),
            "wsgi.multithread": multithread,
            # True also of a single worker: during a reload there are two.
            "wsgi.multiprocess": True,
            "wsgi.run_once": False,
            "wsgi.input_terminated": True,
            "wsgi.file_wrapper": file_wrapper,
            "SERVER_SOFTWARE": "clusterd",
        }
        # By the client's address, with all that makes the rest: a proxy may speak for several.
        self._of_connections: dict[Address, Known] = {}

    def make(self, scope: Scope, body: Any) -> Environ:
        """The environ of a request; `body` becomes its wsgi.input."""
        known = self._of_connections.get(scope["client"], UNKNOWN)
        if known[0] != scope["server"] or known[1] != scope["scheme"]:
            known = self._of_connection(scope)
        environ = known[3].copy()
        path = scope["path"]
        if not path.isascii() or known[2]:
            path = _path_info(scope["raw_path"], known[2])
        environ["REQUEST_METHOD"] = scope["method"]
        environ["PATH_INFO"] = path
        environ["QUERY_STRING"] = scope["query_string"].decode("latin-1")
        environ["SERVER_PROTOCOL"] = PROTOCOLS[scope["http_version"]]
        environ["wsgi.input"] = body
        headers = scope["headers"]
        size = len(environ) + len(headers)
        environ.update(map(_translate, headers))
        if len(environ) != size:
            _join_headers(environ, headers)
        return environ

    def _of_connection(self, scope: Scope) -> Known:
        client, server = scope["client"], scope["server"]
        scheme, root = scope["scheme"], scope["root_path"]
        environ = self._base | {
            "wsgi.url_scheme": scheme,
            "SCRIPT_NAME": root.encode().decode("latin-1"),
            "REMOTE_ADDR": "",
            "SERVER_NAME": "localhost",
            "SERVER_PORT": PORTS.get(scheme, "80"),
        }
        if client is not None and client[1] is not None:
            environ["REMOTE_ADDR"] = client[0]
            if client[1]:  # else a proxy has told the address alone
                environ["REMOTE_PORT"] = str(client[1])
        if server is not None and server[1] is not None:
            environ["SERVER_NAME"], environ["SERVER_PORT"] = server[0], str(server[1])
        if len(self._of_connections) >= MOST:
            self._of_connections.clear()
        self._of_connections[client] = known = (server, scheme, root, environ)
        return known


def _path_info(raw_path: bytes, root: str) -> str:
    """Bytes as latin-1 (PEP 3333); without the root, where the proxy has left it in place."""
    path = unquote_to_bytes(raw_path)
    start = root.encode()
    if path == start or path.startswith(start + b"/"):
        path = path[len(start) :]
    return path.decode("latin-1")


def _join_headers(environ: Environ, headers: Iterable[Pair]) -> None:
    """The long way: some header came more than once, or is not for the app."""
    joined: dict[str, str] = {}
    for pair in headers:
        key, value = _translate(pair)
        if key in joined:
            value = f"{joined[key]}{'; ' if key == 'HTTP_COOKIE' else ','}{value}"
        if key != VERSION[0]:
            joined[key] = value
    environ.update(joined)


class Errors:
    """wsgi.errors: what the app writes goes to the log at INFO, as it is, whatever `log_level` is.

    How grave a line is only the app knows: most of what comes here are lines of its own logging.
    """

    def __init__(self) -> None:
        self._begun = _Begun()

    def write(self, text: str) -> int:
        """Log the lines that are whole: each by itself, or a traceback as one record.

        Print writes a line's end by itself, and `traceback` each line, so each thread has its own
        unended line and traceback.
        """
        begun = self._begun
        lines = (begun.line + text).split("\n")
        begun.line = lines.pop()
        if len(begun.line) > LINE:
            lines.append(begun.line)
            begun.line = ""
        if len(lines) > 1 and any(line.endswith(TRACEBACK) for line in lines):
            begun.traceback += lines  # a record of the app's logging, all of it
            self._log_traceback()
            return len(text)
        for line in map(str.rstrip, lines):
            if begun.traceback or line == TRACEBACK:
                begun.traceback.append(line)
                # The first line after it that is not indented is the exception itself.
                if line and line != TRACEBACK and not line[0].isspace():
                    self._log_traceback()
            elif line:
                _log(line, ())
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if self._begun.line:
            self.write("\n")
        if self._begun.traceback:
            self._log_traceback()

    def _log_traceback(self) -> None:
        first, *others = self._begun.traceback
        self._begun.traceback = []
        _log(first, others)


def _log(line: str, below: Iterable[str]) -> None:
    """Log what an app wrote, whatever `log_level` is: a traceback may be among it."""
    about = _about(below)
    record = logger.makeRecord(
        logger.name, logging.INFO, __file__, 0, "%s", (line,), None, extra=about
    )
    logger.handle(record)


def _about(below: Iterable[str]) -> dict[str, Any]:
    """Return the `extra=` of what an app writes: the request, and the lines below the first."""
    scope = current()
    return block("\n".join(below), **(describe(scope)["fields"] if scope is not None else {}))


class _Begun(threading.local):
    """What a thread has written and what is not logged yet."""

    line: str
    traceback: list[str]

    def __init__(self) -> None:
        self.line = ""
        self.traceback = []
