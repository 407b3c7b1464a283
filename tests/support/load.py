"""Clients that ask again and again, and notice whatever goes wrong."""

import contextlib
import http.client
import threading
from collections.abc import Callable

from tests.support.server import LIMIT, Server


class Load:
    """Half of them on a connection that they keep, half on a fresh one for each request."""

    def __init__(
        self, server: Server, path: str = "/", clients: int = 4, rest: float = 0.0
    ) -> None:
        self.server = server
        self.path = path
        self.rest = rest  # seconds between two requests, where the cores are for others too
        self.answered = 0
        self.failed: list[str] = []
        self._over = threading.Event()
        acts = [self._kept, self._fresh] * (clients // 2)
        self._threads = [threading.Thread(target=self._guard, args=(act,)) for act in acts]

    def __enter__(self) -> "Load":
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(LIMIT)

    def _guard(self, act: Callable[[], None]) -> None:
        try:
            act()
        except (OSError, http.client.HTTPException, AssertionError) as error:
            self.failed.append(f"{act.__name__}: {error!r}")

    def _kept(self) -> None:
        with contextlib.closing(self.server.connect()) as connection:
            while not self._over.is_set():
                self._ask(connection)

    def _fresh(self) -> None:
        while not self._over.is_set():
            with contextlib.closing(self.server.connect()) as connection:
                self._ask(connection)

    def _ask(self, connection: http.client.HTTPConnection) -> None:
        connection.request("GET", self.path)
        response = connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        self.answered += 1
        if self.rest:
            self._over.wait(self.rest)
