"""The load: clients that ask all the time, over every kind of connection."""

import contextlib
import http.client
import threading
from collections.abc import Callable

from websockets.exceptions import ConnectionClosed, InvalidHandshake
from websockets.sync.client import connect

from tests.support.crowd import Address, Connection, Refused

REST = 0.02  # seconds between two requests of a client
AWAY = 0.1  # seconds until a client that was refused tries again
WAIT = 120.0  # seconds that a request may take: a pause lasts for some operations
ASKED_TO_LEAVE = (1001, 1012)  # close codes of a worker that leaves


class Load:
    """Clients until `end`, and what went wrong for them since it was last asked."""

    def __init__(self, address: tuple[str, int], other: str) -> None:
        """`other` is the path of a Unix socket that is there at times."""
        self.address = address
        self.responses = 0
        self._failures: list[str] = []
        self._lock = threading.Lock()
        self._over = threading.Event()
        acts: list[Callable[[], None]] = [
            *[lambda: self._ask(address, keep=True)] * 4,
            *[lambda: self._ask(address, keep=False)] * 3,
            *[lambda: self._ask(other, keep=False)] * 2,
            *[self._talk] * 2,
        ]
        self._threads = [threading.Thread(target=self._go_on, args=(act,)) for act in acts]
        for thread in self._threads:
            thread.start()

    def take_failures(self) -> list[str]:
        with self._lock:
            taken, self._failures = self._failures, []
        return taken

    def end(self) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(WAIT)

    def _go_on(self, act: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                act()
            except Refused:
                self._over.wait(AWAY)
            except (OSError, http.client.HTTPException, AssertionError, InvalidHandshake) as error:
                with self._lock:
                    self._failures.append(repr(error))
                self._over.wait(AWAY)

    def _ask(self, address: Address, keep: bool) -> None:
        """Requests over one connection, until the server or `keep` ends it."""
        connection = Connection(address, timeout=WAIT)
        with contextlib.closing(connection):
            while not self._over.is_set():
                connection.request("GET", "/", headers={} if keep else {"Connection": "close"})
                response = connection.getresponse()
                response.read()
                assert response.status == 200, response.status
                self.responses += 1
                self._over.wait(REST)
                if response.will_close:
                    return

    def _talk(self) -> None:
        """Messages over a WebSocket, each of which comes back."""
        host, port = self.address
        try:
            client = connect(f"ws://{host}:{port}/", open_timeout=WAIT, ping_interval=None)
        except ConnectionRefusedError as error:
            raise Refused from error
        with client:
            try:
                while not self._over.is_set():
                    client.send("here")
                    client.recv(WAIT)
                    self._over.wait(REST)
            except ConnectionClosed as closed:
                code = closed.rcvd.code if closed.rcvd else None
                assert code in ASKED_TO_LEAVE, f"WebSocket ended: {code}"
