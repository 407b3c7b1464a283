"""By which names the admin endpoint may be called, in Host.

A page of a stranger in a browser can have its own name lead to this machine (DNS rebinding), and
would then read what the endpoint says: for the browser both have the same origin. But its requests
carry that name. An address in Host cannot come from such a page.
"""

import ipaddress
import socket
from collections.abc import Iterable

ANY = "*"  # a name that stands for all
LOCAL = "localhost"  # and what is below it: resolvers keep it on this machine (RFC 6761 §6.3)


class Hosts:
    """The names of one endpoint."""

    def __init__(self, names: Iterable[str], own: str = "") -> None:
        """`own`: what this machine calls itself, by default as the system says."""
        listed = [*names, own or socket.gethostname()]
        self._names = frozenset(name.lower().rstrip(".") for name in listed)

    def has(self, host: str) -> bool:
        """Return whether a well-formed Host is an address, localhost, or one of the names."""
        name = _without_port(host).lower().rstrip(".")
        if ANY in self._names or name in self._names or name.rpartition(".")[2] == LOCAL:
            return True
        try:
            ipaddress.ip_address(name.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return True


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and not port.endswith("]") else host
