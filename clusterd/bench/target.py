"""Where requests go, from the text that somebody typed: a URL, or a Unix socket's path."""

import re
from pathlib import Path
from urllib.parse import SplitResult, quote, urlsplit

from clusterd.bench.load import Target
from clusterd.core.errors import ConfigError

PORTS = {"http": 80, "https": 443, "ws": 80, "wss": 443}
UNIX = "unix:"
# What a request target may hold as it is (RFC 3986 §2.2 and §2.3, and % of what is quoted already);
# browsers send the rest of visible ASCII unquoted, so it is left alone, too.
UNQUOTED = "!\"#$%&'()*+,/:;<=>?@[\\]^`{|}~"
CONTROL = re.compile(r"[\x00-\x1f\x7f]")
HOST = re.compile(r"[A-Za-z0-9._-]+")
BARE = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+):[0-9]+(?:/\S*)?")


def is_target(text: str) -> bool:
    """Whether this is meant as an address and not as a module: `://` in it, or `unix:` first."""
    return "://" in text or text.startswith(UNIX)


def parse_target(text: str, *, verify: bool = True, ca_file: str = "") -> Target:
    """A Target from http://host:port/path?query (or https, ws, wss), or from unix:/run/app.sock,
    which :/path?query may follow; raises ConfigError. `verify` and `ca_file` are for TLS.

    A fragment is dropped, as browsers do; what no request target may hold is quoted.
    """
    if CONTROL.search(text):
        raise ConfigError(f"{text!r} has control characters in it, and is no URL")
    if text.startswith(UNIX):
        target = _unix(text)
    else:
        target = _url(text, verify, ca_file)
    if ca_file and not target.tls:
        raise ConfigError(f"authorities to trust are for TLS, and {text} is without", "Use https.")
    if ca_file and not Path(ca_file).is_file():
        raise ConfigError(f"there is no file {ca_file} of authorities to trust")
    return target


def quoted(path: str) -> str:
    """A request target in visible ASCII: blanks and letters beyond it are percent-encoded."""
    return quote(path.partition("#")[0], safe=UNQUOTED)


def _unix(text: str) -> Target:
    socket, _, path = text.removeprefix(UNIX).removeprefix("//").partition(":")
    if not socket.startswith("/"):
        raise ConfigError(
            f"{text!r} is no Unix socket", "Give its full path: unix:/run/app.sock:/path?query"
        )
    if path and not path.startswith("/"):
        raise ConfigError(f"{path!r} in {text!r} is no path: it begins with /")
    return Target("http", "localhost", 0, quoted(path or "/"), unix=socket)


def _url(text: str, verify: bool, ca_file: str) -> Target:
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as error:
        raise ConfigError(f"{text!r} is no URL: {error}") from None
    if BARE.fullmatch(text):
        raise ConfigError(f"{text!r} is no URL: it has no scheme", f"Did you mean http://{text}?")
    if parts.scheme not in PORTS:
        raise ConfigError(
            f"{text!r}: the scheme is {parts.scheme!r}, and not one of {', '.join(PORTS)}"
            if parts.scheme
            else f"{text!r} is no URL: it has no scheme",
            "Give a whole one, such as http://127.0.0.1:8000/path, or unix:/run/app.sock",
        )
    if "@" in parts.netloc:
        raise ConfigError(
            f"the URL of {parts.hostname} holds a name or a password",  # which is not shown
            "Send them as a header: -H 'Authorization: Basic …'",
        )
    if port == 0:
        raise ConfigError(f"{text!r}: nobody can listen on port 0")
    path = quoted((parts.path or "/") + (f"?{parts.query}" if parts.query else ""))
    return Target(
        scheme=parts.scheme,
        host=_host(text, parts),
        port=port or PORTS[parts.scheme],
        path=path,
        verify=verify,
        ca_file=ca_file,
    )


def _host(text: str, parts: SplitResult) -> str:
    """The name or address to connect to; an IPv6 address is without its brackets."""
    host = parts.hostname or ""
    if not host:
        raise ConfigError(f"{text!r} names no host")
    if ":" in host:  # urlsplit has judged what stands in brackets
        return host
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise ConfigError(f"{text!r}: {host!r} is no name of a host") from None
    if not HOST.fullmatch(host):
        raise ConfigError(f"{text!r}: {host!r} is no name of a host")
    return host
