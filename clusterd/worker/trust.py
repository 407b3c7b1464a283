"""Which peers are proxies of ours, and what they say of the client.

A trusted proxy's headers change the scope: `client`, `scheme`, and with `proxy_host` Host and
`server`. Anybody else's are taken out before the app sees them, since frameworks have switches of
their own that believe them. The family that was not chosen is never looked at. `X_Forwarded_For`
is another name, and means nothing.
"""

import functools
import ipaddress
from typing import Any

from clusterd.app.scope import Address, Scope
from clusterd.config.serving import ProxySettings
from clusterd.core.log import fields, get_logger
from clusterd.wire import forwarded
from clusterd.wire.forwarded import Told
from clusterd.wire.heads import Pair
from clusterd.wire.tables import FORWARDED, HOST, X_FORWARDED

logger = get_logger("clusterd.proxy")

MOST = 1024  # addresses, and sets of headers, whose meaning is remembered
LONGEST = 256  # bytes of headers worth remembering
FAMILIES = {
    "x-forwarded": (X_FORWARDED, forwarded.x_forwarded),
    "forwarded": (FORWARDED, forwarded.forwarded),
    "off": ((), forwarded.unheard),
}
SOCKETS = {"http": "ws", "https": "wss"}


@functools.cache
def _network(peer: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Parse a network, once: a zygote does for its workers."""
    return ipaddress.ip_network(peer)


class Peers:
    """Addresses and networks whose word is taken. `*` stands for whoever connects to us, but for
    no proxy further out: of those only addresses can tell."""

    def __init__(self, peers: tuple[str, ...]) -> None:
        self._anybody = "*" in peers
        self._unix = "unix" in peers
        networks = [_network(peer) for peer in peers if peer not in ("*", "unix")]
        self._v4 = [net for net in networks if isinstance(net, ipaddress.IPv4Network)]
        self._v6 = [net for net in networks if isinstance(net, ipaddress.IPv6Network)]
        self._known: dict[str, bool] = {}

    def has(self, client: Address, server: Address) -> bool:
        """Whether whoever connected is trusted.

        By the address they connected to: one that has left has no address of its own any more, and
        must not pass for somebody at a Unix socket.
        """
        if server is not None and server[1] is None:
            return self._unix or self._anybody
        if client is None or client[1] is None:
            return self._anybody
        return self._anybody or self.has_host(client[0])

    def has_host(self, host: str) -> bool:
        """Whether an address, which may be of a proxy further out, is trusted."""
        known = self._known.get(host)
        if known is None:
            if len(self._known) >= MOST:
                self._known.clear()
            known = self._known[host] = self._judge(host)
        return known

    def _judge(self, host: str) -> bool:
        try:
            address = ipaddress.ip_address(host.partition("%")[0])  # without a link's zone
        except ValueError:
            return False
        # A listener of both families sees IPv4 peers as ::ffff:192.0.2.1.
        plain = getattr(address, "ipv4_mapped", None) or address
        if isinstance(plain, ipaddress.IPv4Address):
            return any(plain in network for network in self._v4)
        return any(plain in network for network in self._v6)


class Trust:
    """What one worker believes."""

    def __init__(self, settings: ProxySettings) -> None:
        self.peers = Peers(settings.trusted_proxies)
        self.root_path = root_path(settings.root_path)
        self._names, self._read = FAMILIES[settings.proxy_headers]
        self._with_host = settings.proxy_host
        self._known: dict[tuple[bytes | None, ...], Told] = {}
        self._warned = False

    def amend(self, scope: Scope, trusted: bool) -> None:
        """Let a scope tell what its peer says in its headers, or no longer what it should not.

        For every request that has one of `tables.TOLD` among its headers, of whatever protocol.
        """
        headers: list[Pair] = scope["headers"]
        if not trusted:
            scope["headers"] = self._without_lies(headers, scope["client"])
            return
        table = dict(headers)
        if len(table) != len(headers):
            table = joined(headers)
        said = tuple(map(table.get, self._names))
        told = self._known.get(said) or self._learn(said)
        if told.knows:
            scope["client"] = told.client
        if told.scheme is not None:
            scope["scheme"] = told.scheme if scope["type"] == "http" else SOCKETS[told.scheme]
        if self._with_host and (told.host is not None or told.port is not None):
            rehost(scope, told)

    def _learn(self, said: tuple[bytes | None, ...]) -> Told:
        texts = [text or b"" for text in said]
        told = self._read(texts, self.peers.has_host)
        if sum(map(len, texts)) <= LONGEST:
            if len(self._known) >= MOST:
                self._known.clear()
            self._known[said] = told
        return told

    def _without_lies(self, headers: list[Pair], client: Address) -> list[Pair]:
        kept = [pair for pair in headers if pair[0] not in self._names]
        if len(kept) < len(headers) and not self._warned:
            self._warned = True  # once: whoever likes can send such headers
            logger.warning(
                "headers of a peer that is not a trusted proxy were taken out; if it is one, "
                "name it with --trusted-proxies",
                extra=fields(peer=client[0] if client else "unknown"),
            )
        return kept


def joined(headers: list[Pair]) -> dict[bytes, bytes]:
    """Headers by name; lines of one name are one list (RFC 9110 §5.3)."""
    table: dict[bytes, bytes] = {}
    for name, value in headers:
        before = table.get(name)
        table[name] = value if before is None else before + b", " + value
    return table


def rehost(scope: Scope, told: Told) -> None:
    """Let Host and `server` be what the client asked the proxy for."""
    scheme = scope["scheme"]
    host = told.host or dict(scope["headers"]).get(HOST)
    if not host:
        return  # HTTP/1.0 can do without, and a port alone is none
    if told.port is not None:
        host = forwarded.with_port(host, told.port, scheme)
    scope["server"] = forwarded.split_host(host, scheme)
    scope["headers"] = [(HOST, host), *(pair for pair in scope["headers"] if pair[0] != HOST)]


def root_path(text: str) -> str:
    """A mount point as scopes have it: with a slash before it and none behind."""
    return "/" + text.strip("/") if text.strip("/") else ""


def mounted(app: Any, root: str) -> Any:
    """An ASGI app whose paths begin with the path it is mounted at, as its specification has it.

    Some proxies take that off and some do not, so it is put there only where it is missing.
    """
    below = root + "/"

    def call(scope: Scope, receive: Any, send: Any) -> Any:
        path = scope["path"]
        if path != root and not path.startswith(below):
            scope["path"] = root + path
        return app(scope, receive, send)

    return call
