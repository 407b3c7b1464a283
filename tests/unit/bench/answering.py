"""A server of a few lines in a thread of its own, for loops that are real."""

import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress

from clusterd.bench.load import Target

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
END = b"\r\n\r\n"
Answer = Callable[[int], bytes | None]  # to request number so and so; None hangs up


class Server:
    """Answers requests one after another, over all its connections."""

    def __init__(self, answer: Answer, tls: ssl.SSLContext | None = None) -> None:
        self.requests = 0
        self.connections = 0
        self._answer = answer
        self._tls = tls
        self._lock = threading.Lock()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    @property
    def target(self) -> Target:
        scheme = "https" if self._tls else "http"
        return Target(scheme, "localhost" if self._tls else "127.0.0.1", self.port)

    @property
    def port(self) -> int:
        port: int = self._listener.getsockname()[1]
        return port

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:  # the first ends by this, others as their clients go
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                end, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._threads.append(threading.Thread(target=self._serve, args=(end,)))
            self._threads[-1].start()

    def _serve(self, end: socket.socket) -> None:
        with suppress(OSError), self._secured(end) as end:
            while data := end.recv(65536):
                for _ in range(data.count(END)):
                    with self._lock:
                        self.requests += 1
                        answer = self._answer(self.requests)
                    if answer is None:
                        return
                    end.sendall(answer)

    def _secured(self, end: socket.socket) -> socket.socket:
        if self._tls is None:
            return end
        try:
            return self._tls.wrap_socket(end, server_side=True)
        except OSError:
            end.close()
            raise
