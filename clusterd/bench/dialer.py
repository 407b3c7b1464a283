"""How a target is reached: its address, looked up once, and sockets on their way there."""

import contextlib
import errno
import os
import socket
import ssl
from typing import Any

from clusterd.bench.errors import Unreachable
from clusterd.bench.load import Target
from clusterd.bench.secrecy import client_context
from clusterd.bench.troubles import explained


class Dialer:
    """Makes the sockets of all connections. Raises Unreachable where there is no such host."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self.tls = client_context(target) if target.tls else None
        self._family: int = socket.AF_UNIX
        self._address: Any = target.unix
        if not target.unix:
            self._family, self._address = self._first()

    def _first(self) -> tuple[int, Any]:
        """Of several addresses the first that lets us in: a name may have some nobody serves."""
        target = self.target
        try:
            found = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise Unreachable(explained(error, target)) from error
        for family, _, _, _, address in found[:-1]:
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_STREAM) as probe:
                probe.settimeout(1.0)
                probe.connect(address)
                return family, address
        return found[-1][0], found[-1][4]

    def dial(self) -> socket.socket:
        """A socket that is connecting. Raises OSError where that is refused at once, and of those
        BlockingIOError where a Unix socket's queue is full."""
        made = socket.socket(self._family, socket.SOCK_STREAM)
        try:
            made.setblocking(False)
            if not self.target.unix:
                made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            begun = made.connect_ex(self._address)
            if begun not in (0, errno.EINPROGRESS):
                raise OSError(begun, os.strerror(begun))
        except BaseException:
            made.close()
            raise
        return made

    def encrypt(self, plain: socket.socket) -> ssl.SSLSocket:
        """The same socket under TLS, its handshake still to be done."""
        assert self.tls is not None
        return self.tls.wrap_socket(
            plain, do_handshake_on_connect=False, server_hostname=self.target.host or "localhost"
        )
