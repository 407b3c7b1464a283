"""The request target and Host: what may stand there, and what the app gets to see of it."""

import re
from urllib.parse import unquote_to_bytes

from clusterd.core.errors import PeerError

# RFC 9112 §3.2 with RFC 3986 §3.2.2: reg-name, IPv4 or [IPv6], then an optional port. No path,
# query, userinfo, comma or blank: a proxy in front and the app behind might read those differently.
HOST = re.compile(
    rb"(?:[A-Za-z0-9._~!$&'()*+;=-]|%[0-9A-Fa-f]{2})+(?::([0-9]{0,5}))?"
    rb"|\[[0-9A-Fa-f:.]+(?:%25[A-Za-z0-9._~-]+)?\](?::([0-9]{0,5}))?"
    rb"|\[v[0-9A-Fa-f]+\.[A-Za-z0-9._~!$&'()*+,;=:-]+\](?::([0-9]{0,5}))?"
)
ABSOLUTE = re.compile(rb"(?i:https?)://([^/?#]*)([^#]*)")
MOST = 1024  # entries of each table of what was judged before; beyond it the table starts anew
LONGEST = 256  # bytes of a target or Host worth remembering

Target = tuple[str, bytes, bytes]  # path, raw path, query string

_hosts: set[bytes] = set()
_targets: dict[bytes, Target] = {}


def check_host(value: bytes) -> None:
    """Raises PeerError unless the value can be a Host."""
    match = HOST.fullmatch(value)
    if match is None or int(next(filter(None, match.groups()), b"0")) > 65535:
        raise PeerError(400, "Host is malformed")
    if len(value) <= LONGEST:
        if len(_hosts) >= MOST:
            _hosts.clear()
        _hosts.add(value)


def parse_target(raw: bytes, method: str) -> Target:
    """Path, raw path and query of a request target; raises PeerError. Nothing is normalised."""
    if raw[:1] == b"/":
        target = _split(raw)
    elif raw == b"*" and method == "OPTIONS":
        target = ("*", raw, b"")
    else:
        match = ABSOLUTE.fullmatch(raw)
        if match is None:
            raise PeerError(400, "the request target is malformed")
        check_host(match[1])
        rest = match[2]
        target = _split(rest if rest[:1] == b"/" else b"/" + rest)
    if raw[:1] == b"/" and len(raw) <= LONGEST:
        if len(_targets) >= MOST:
            _targets.clear()
        _targets[raw] = target
    return target


def authority(raw: bytes) -> bytes | None:
    """The authority of a target in absolute form, which then stands for Host (RFC 9112 §3.2.2)."""
    match = ABSOLUTE.fullmatch(raw)
    return match[1] if match else None


def _split(raw: bytes) -> Target:
    if b"#" in raw:
        raise PeerError(400, "a fragment has no place in a request target")
    raw_path, _, query = raw.partition(b"?")
    try:
        path = raw_path.decode("ascii")
    except UnicodeDecodeError:
        raise PeerError(400, "the request target is not ASCII") from None
    if "%" in path:
        path = unquote_to_bytes(raw_path).decode("utf-8", "replace")
    return path, raw_path, query
