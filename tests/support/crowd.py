"""Keep-alive clients of a cluster that stops: what each of them saw, by what it means.

A client may be refused (nothing of its request was sent), and then it leaves. Whoever got a
connection is to get a response: a reset, an end without a response and any other status than 200
are failures.
"""

import contextlib
import http.client
import socket
import ssl
import threading
from collections.abc import Callable

from tests.support.server import LIMIT

Address = tuple[str, int] | str  # of TCP, or the path of a Unix socket


class Connection(http.client.HTTPConnection):
    """HTTP/1.1 over TCP or a Unix socket, with TLS where a context is given."""

    def __init__(
        self, address: Address, context: ssl.SSLContext | None = None, timeout: float = LIMIT
    ) -> None:
        super().__init__("localhost", timeout=timeout)
        self.address = address
        self.within = timeout
        self.context = context

    def connect(self) -> None:
        """Raises Refused where nobody listens, and nothing of ours was taken."""
        try:
            if isinstance(self.address, str):
                plain = socket.socket(socket.AF_UNIX)
                plain.settimeout(self.within)
                plain.connect(self.address)
            else:
                plain = socket.create_connection(self.address, self.within)
        except (ConnectionRefusedError, FileNotFoundError) as error:
            if isinstance(self.address, str):
                plain.close()
            raise Refused from error
        self.sock = plain
        if self.context is not None:
            self.sock = self.context.wrap_socket(plain, server_hostname="localhost")


class Refused(Exception):
    """Nobody listens there any more."""


class Crowd:
    """Clients that ask again and again over connections they keep, until they are refused."""

    def __init__(
        self,
        address: Address,
        clients: int = 24,
        context: ssl.SSLContext | None = None,
        keep: bool = True,  # else a fresh connection for each request
    ) -> None:
        self.address = address
        self.headers = {} if keep else {"Connection": "close"}
        self.context = context
        self.failed: list[str] = []
        self.sent = 0  # requests
        self.answered = 0
        self._news = threading.Condition()
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._guard) for _ in range(clients)]

    def __enter__(self) -> "Crowd":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self.join()

    def join(self) -> None:
        """Wait until all have been refused, or were told to end."""
        for thread in self._threads:
            thread.join(LIMIT)

    def until(self, enough: Callable[[int], bool]) -> None:
        """Wait until there are enough responses."""
        with self._news:
            assert self._news.wait_for(lambda: enough(self.answered), LIMIT), self.failed

    def until_waiting(self, clients: int) -> None:
        """Wait until so many requests were sent."""
        with self._news:
            assert self._news.wait_for(lambda: self.sent >= clients, LIMIT), self.failed

    def _guard(self) -> None:
        with contextlib.suppress(Refused):
            while not self._over.is_set():
                self._keep_asking()

    def _keep_asking(self) -> None:
        """Ask over one connection, until it is to be closed or fails."""
        connection, asked = Connection(self.address, self.context), 0
        with contextlib.closing(connection):
            try:
                connection.connect()
                while not self._over.is_set():
                    connection.request("GET", "/", headers=self.headers)
                    with self._news:
                        self.sent += 1
                        self._news.notify_all()
                    response = connection.getresponse()
                    response.read()
                    assert response.status == 200, response.status
                    asked += 1
                    with self._news:
                        self.answered += 1
                        self._news.notify_all()
                    if response.will_close:
                        return
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failed.append(f"request {asked + 1}: {error!r}")
