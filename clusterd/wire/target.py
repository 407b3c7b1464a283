"""The request target and Host: what may stand there, and what the app gets to see of it."""

import ipaddress
import re
from urllib.parse import unquote_to_bytes

from clusterd.core.errors import PeerError

# RFC 9112 §3.2 with RFC 3986 §3.2.2: reg-name, IPv4 or [IPv6], then an optional port. No path,
# query, userinfo, comma or blank: a proxy in front and the app behind might read those differently.
HOST = re.compile(
    rb"(?:(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+"
    rb"|\[(?P<six>[0-9A-Fa-f:.]+)(?:%25[A-Za-z0-9._~-]+)?\]"
    rb"|\[[Vv][0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\])(?::(?P<port>[0-9]{0,5}))?"
)
VISIBLE = re.compile(rb"[\x21-\x7e]+")
ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")

Target = tuple[str, bytes, bytes]  # path, raw path, query string


def check_host(value: bytes) -> None:
    """Raises PeerError unless the value can be a Host."""
    match = HOST.fullmatch(value)
    if match is None or int(match["port"] or 0) > 65535:
        raise PeerError(400, "Host is malformed")
    if match["six"]:
        try:
            ipaddress.IPv6Address(match["six"].decode())
        except ValueError:
            raise PeerError(400, "Host is malformed") from None


def parse_target(raw: bytes, method: str) -> Target:
    """Path, raw path and query of a request target; raises PeerError. Nothing is normalised."""
    if not VISIBLE.fullmatch(raw):
        raise PeerError(400, "the request target is malformed")
    if raw[:1] == b"/":
        return _split(raw)
    if raw == b"*" and method == "OPTIONS":
        return "*", raw, b""
    match = ABSOLUTE.fullmatch(raw)
    if match is None:
        raise PeerError(400, "the request target is malformed")
    check_host(match[1])
    rest = match[2]
    return _split(rest if rest[:1] == b"/" else b"/" + rest)


def authority(raw: bytes) -> bytes | None:
    """The authority of a target in absolute form, which then stands for Host (RFC 9112 §3.2.2)."""
    match = ABSOLUTE.fullmatch(raw)
    return match[1] if match else None


def _split(raw: bytes) -> Target:
    if b"#" in raw:
        raise PeerError(400, "a fragment has no place in a request target")
    raw_path, _, query = raw.partition(b"?")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    return path, raw_path, query
