"""By which names the admin endpoint may be called, in Host.

A page of a stranger in a browser can have its own name lead to this machine (DNS rebinding), and
would then read what the endpoint says: for the browser both have the same origin. But its requests
carry that name. An address in Host cannot come from such a page.

Neither can a name without a dot, such as a service's in a container network: no such name can be
registered in public DNS (RFC 7085 lists the few top-level domains that have an address). Only a
resolver of the local network could lead it here, and an attacker who controls that can mostly
connect by himself, except to the loopback interface of another machine. So names without a dot are
accepted where the connection did not come by that interface.
"""

import ipaddress
import re
import socket
from collections.abc import Iterable

ANY = "*"  # a name that stands for all
LOCAL = "localhost"  # and what is below it: resolvers keep it on this machine (RFC 6761 §6.3)
_SINGLE = re.compile(r"(?=.*[a-z])[a-z0-9_-]{1,63}", re.ASCII)


class Hosts:
    """The names of one endpoint."""

    def __init__(self, names: Iterable[str], own: str = "") -> None:
        """`own`: what this machine calls itself, by default as the system says."""
        listed = [*names, own or socket.gethostname()]
        self._names = frozenset(name.lower().rstrip(".") for name in listed)

    def has(self, host: str, server: str) -> bool:
        """Return whether a well-formed Host may be used on a connection to the address `server`."""
        name = without_port(host).lower().rstrip(".")
        if ANY in self._names or name in self._names or name.rpartition(".")[2] == LOCAL:
            return True
        if _SINGLE.fullmatch(name):
            return not _is_loopback(server)
        try:
            ipaddress.ip_address(name.strip("[]").partition("%")[0])
        except ValueError:
            return False
        return True


def _is_loopback(server: str) -> bool:
    """Return whether an address is of this machine only. What is not known counts as such."""
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return True
    # A socket of both families sees IPv4 peers with mapped addresses: ::ffff:127.0.0.1.
    return (getattr(address, "ipv4_mapped", None) or address).is_loopback


def without_port(host: str) -> str:
    """Return the name in a Host."""
    name, colon, port = host.rpartition(":")
    return name if colon and not port.endswith("]") else host
